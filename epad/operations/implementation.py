"""Carry out a person's orders: the implementation behind the control socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from epad import EpadError
from epad.answers.agents import AgentList
from epad.answers.changes import Measurements
from epad.answers.confinement import PolicyChanges
from epad.answers.decisions import Event, Explanation, PhaseAnswer, Recovery
from epad.answers.orders import Budgets, Result
from epad.answers.status import Status
from epad.configuration.load import ConfigError
from epad.confinement.changes import WideningRefusedError
from epad.control_loop.history import History, is_id
from epad.control_loop.loop import Controller
from epad.control_loop.step import Lane, OperationEnded, Plan, Step, StepName, StepState
from epad.control_loop.stimulus import Forced, Ordered, Paused, Released, Requested, Resumed
from epad.datastore.datastores import Datastores
from epad.foreign.names import held_name
from epad.gate.permissions import Tier
from epad.gateway.client_keys import Keys
from epad.incidents.report import IncidentReport
from epad.measurement.starts import Starts
from epad.operations import changes
from epad.operations.agent_operations import AgentOperations
from epad.operations.bodies import OrderBody
from epad.operations.budget_changes import BudgetChangeError, UnknownScopeError
from epad.operations.budgets import BudgetOrders
from epad.operations.holdable import check_holdable
from epad.operations.learning import LearningError, Recordings
from epad.operations.protocol import (
    ConflictError,
    Peer,
    UnknownBudgetError,
    UnknownDatastoreError,
    UnknownIdError,
    UnknownSubsystemError,
)
from epad.operations.recorded_orders import RecordedOrders
from epad.operations.registry import Operation
from epad.operations.reload import ChangeRefusedError, Reloads, heed
from epad.operations.status import DaemonStatus
from epad.operations.tool_looks import is_turn
from epad.response.preservation import NewestCheckpoint
from epad.storage.event_log import EventKind
from epad.supervisor.child_logs import ChildLog
from epad.supervisor.log_keeper import LogKeeper
from epad.supervisor.log_reader import follow, last_lines
from epad.vault.watched import NAME as VAULT
from statemachine.clock import Clock
from statemachine.containment import Cause, Hold, Rung
from statemachine.finding import HOST, OPERATOR, Finding, Severity
from statemachine.phase import Phase
from statemachine.situation import Order
from statemachine.table import mermaid

# A stop with its full grace takes the longest; after this the answer says that it is still under way.
ANSWER_SECONDS = 30.0
NOTHING_TO_DO = "nothing to do: it was so already"
RELEASABLE = frozenset({Cause.FOUND, Cause.PERSON, Cause.PARKED})
"""What a release ends."""


@dataclass(frozen=True, slots=True)
class DaemonOperations(AgentOperations):
    """Implements `epad.operations.protocol.Operations`."""

    daemon_status: DaemonStatus
    controller: Controller
    history: History
    clock: Clock
    keys: Keys
    logs: LogKeeper
    reloads: Reloads
    datastores: Datastores
    budget_orders: BudgetOrders
    newest_checkpoint: Callable[[], NewestCheckpoint | None]
    give_up_records: Callable[[str], Awaitable[str]]
    begin_again: Callable[[], None]
    plan_recovery: Callable[[], Awaitable[Recovery]]
    learning: Recordings
    starts: Starts
    recorded_orders: RecordedOrders

    def status(self) -> Status:
        return self.daemon_status.render()

    async def phase(self) -> PhaseAnswer:
        status = self.daemon_status.render()
        return {
            "phase": status["phase"],
            "since": status["phase_since"],
            "sentence": status["sentence"],
            "history": await self.history.transitions(),
            "force": {phase: self.decider.refusal(phase) for phase in Phase},
            "diagram": mermaid(),
        }

    async def events(self, since: int, limit: int) -> list[Event]:
        return await self.event_log.since(since, limit)

    def subscribe(self) -> AbstractAsyncContextManager[asyncio.Queue[Event]]:
        return self.event_log.subscribe()

    async def explain(self, subject: str | None) -> Explanation:
        if subject is not None and is_turn(subject):
            return await self.tool_looks.explain(subject)
        if subject is not None and not is_id(subject):
            also = [*self.datastores.names, *Phase, HOST]
            check_holdable(subject, self._names(), self.daemon_status.tools.targets(), also)
        chain = await self.history.explain(subject)
        if subject is not None and not chain and is_id(subject):
            raise UnknownIdError(subject)
        summary = [one.as_json() for one in self._report.about(subject)]
        return {"subject": subject or "the last incident", "summary": summary, "chain": chain}

    async def recovery(self) -> Recovery:
        return await self.plan_recovery()

    async def order(self, operation: Operation, name: str, body: OrderBody, by: str) -> Result:
        """Record it, then call the method of its name with its subject and the body's fields, the reason last."""
        more = [getattr(body, field) for field in body.__struct_fields__ if field != "reason"]
        carry_out: Callable[..., Awaitable[Result]] = getattr(self, operation)

        def work() -> Awaitable[Result]:
            return carry_out(*([name] if operation.about else []), *more, body.reason.strip(), by)

        return await self.recorded_orders.carry_out(operation, name, body, by, work)

    async def quarantine(self, name: str, reason: str, by: str) -> Result:
        check_holdable(name := held_name(name), self._names(), self.daemon_status.tools.targets())
        self._note(Operation.QUARANTINE, name, reason, by)
        return await self._hold(name, reason, by, None)

    async def stop(self, name: str, reason: str, by: str) -> Result:
        self._check(name)
        if any(a.key == (OPERATOR, name) for a in self.decider.assessor.active):
            raise ConflictError(f"{name} is held by a person already; `epactl release {name}` first")
        self._note(Operation.STOP, name, reason, by)
        return await self._hold(name, reason, by, Rung.STOP)

    async def _hold(self, name: str, reason: str, by: str, rung: Rung | None) -> Result:
        finding = Finding(
            probe=OPERATOR,
            subsystem=name,
            severity=Severity.ANOMALY,
            at=self.clock.monotonic(),
            reason=f"held by {by}: {reason}",
            evidence={"by": by},
            hard=True,
            rung=rung,
        )
        return self._answer(name, await self._wait(self.controller.order(finding)))

    async def restart(self, name: str, reason: str, by: str) -> Result:
        self._check(name)
        hold = self.controller.hold_of(name)
        if hold.rung is not Rung.OPEN:
            raise ConflictError(f"{name} is held ({hold.reason}); `epactl release {name}` first")
        if why := self.controller.stands_by:
            raise ConflictError(f"{name} is not restarted: {why}")
        self._note(Operation.RESTART, name, reason, by)
        return await self._begin(name, reason)

    async def _begin(self, name: str, reason: str) -> Result:
        """Stop a subsystem, and start it as if it had never failed."""
        self.decider.begin_afresh(name)
        plan = Plan(Lane.CONTAINMENT, reason, [Step(StepName.RESTART, name)])
        return self._answer(name, await self._wait(self.controller.order(Requested(plan))))

    def changes(self) -> Measurements:
        return changes.shown(self.starts)

    async def accept_change(self, name: str, reason: str, by: str) -> Result:
        self._check(name)
        if not self.starts.waits(name):
            raise ConflictError(f"no change of {name} waits to be accepted", "epactl changes list")
        self._note(Operation.ACCEPT_CHANGE, name, reason, by)
        try:
            accepted = self.starts.accept(name)
        except OSError as error:
            raise ConflictError(
                f"it cannot be kept: {error}", f"epactl restart {name} measures it anew"
            ) from error
        if self.controller.hold_of(name).rung is not Rung.OPEN or self.controller.stands_by:
            return self._result([accepted, f"{name} is held: it starts once it is released"], name)
        answer = await self._begin(name, reason)
        return {**answer, "results": [accepted, *answer["results"]]}

    async def release(self, name: str, reason: str, by: str) -> Result:
        check_holdable(name := held_name(name), self._names(), self.daemon_status.tools.targets())
        if self.decider.phase is Phase.LIFEBOAT:
            raise ConflictError("LIFEBOAT holds everything; `epactl lifeboat relaunch` leaves it")
        self._note(Operation.RELEASE, name, reason, by)
        before = self.decider.reasons_to_hold().get(name, [])
        ended = await self._wait(self.controller.order(Released(name, f"{reason} ({by})")))
        return self._released(name, before, self._answer(name, ended))

    def _released(self, name: str, before: Sequence[Hold], answer: Result) -> Result:
        """Name the holds that a release has left: an order that did not let go has failed, with the reason."""
        after, line = self.decider.reasons_to_hold().get(name, []), self._report.line_of(name)
        if answer["failed"]:
            return answer
        if after and all(hold.cause in RELEASABLE for hold in after):
            # A release ends all of these, so they have been found since.
            return {**answer, "results": [*answer["results"], f"let go, and held again since: {line}"]}
        if after:
            some = any(hold.cause in RELEASABLE for hold in before)
            done = "what it was held for itself is over, but" if some else "a release does not end this:"
            return {**answer, "failed": True, "results": [f"{done} {line}"]}
        if not before:
            return {**answer, "results": [f"{NOTHING_TO_DO}: {name} was not held"]}
        return answer

    async def pause(self, name: str, reason: str, by: str) -> Result:
        self._check(name)
        if name in self.decider.paused:
            raise ConflictError(f"{name} is paused already; `epactl resume {name}` ends that")
        self._note(Operation.PAUSE, name, reason, by)
        return self._answer(
            name, await self._wait(self.controller.order(Paused(name, f"paused by {by}: {reason}")))
        )

    async def resume(self, name: str, reason: str, by: str) -> Result:
        self._check(name)
        if name not in self.decider.paused:
            raise ConflictError(f"{name} is not paused; `epactl release {name}` ends a quarantine")
        self._note(Operation.RESUME, name, reason, by)
        return self._answer(name, await self._wait(self.controller.order(Resumed(name))))

    async def learn(self, name: str, seconds: float | None, reason: str, by: str) -> Result:
        self._check(name)
        self._note(Operation.LEARN, name, reason, by)
        try:
            if seconds is None:
                await self.learning.end(name)
                return self._result([f"{name} runs as it is configured again"], name)
            file = await self.learning.begin(name, seconds, f"{reason} ({by})")
        except LearningError as error:
            raise ConflictError(str(error)) from error
        except EpadError as error:
            return self._result([f"broken off: {error}"], name, failed=True)
        return self._result([f"{name} runs without walls for {seconds:.0f} s, recorded in {file}"], name)

    async def confine_diff(self) -> PolicyChanges:
        try:
            changes = await self.reloads.policy_changes()
        except ConfigError as error:
            raise ConflictError(f"the configuration cannot be read: {error}") from error
        needs_reason = any(change.widens for change in changes)
        return {"needs_reason": needs_reason, "changes": [change.as_json() for change in changes]}

    async def reload(self, may_widen: bool, reason: str, by: str) -> Result:
        self._note(Operation.RELOAD, HOST, reason, by)
        applying = asyncio.ensure_future(self.reloads.reload(f"{reason} ({by})" if may_widen else ""))
        await asyncio.wait({applying}, timeout=ANSWER_SECONDS)
        if not applying.done():
            applying.add_done_callback(heed)
            results = [f"still under way after {ANSWER_SECONDS:.0f} s; `epactl events` tells of its end"]
            return self._result(results)
        try:
            results, failed = applying.result(), False
        except ConfigError as error:
            results, failed = ["nothing was changed", *map(str, error.problems)], True
        except WideningRefusedError as error:
            results, failed = ["nothing was changed", *error.lines], True
        except ChangeRefusedError as error:
            results, failed = ["nothing was changed", str(error)], True
        except EpadError as error:
            results, failed = [f"broken off: {error}"], True
        return self._result(results, failed=failed)

    async def log_lines(self, name: str, count: int, since: float | None) -> list[str]:
        return await asyncio.to_thread(last_lines, self._log_of(name), count, since)

    def follow_log(self, name: str) -> AsyncGenerator[list[str], None]:
        return follow(self._log_of(name))

    def _log_of(self, name: str) -> ChildLog:
        if not self.server_orders.has_log(name):
            self._check(name)
        try:
            return self.logs.of(name)
        except KeyError:
            raise ConflictError(self._where_logged(name)) from None

    def _where_logged(self, name: str) -> str:
        """Say which log has the output of a subsystem whose process is not ours."""
        spec = self.daemon_status.config.subsystems.get(name)
        if spec is not None and spec.kind == "unit":
            return f"what {name} prints is in systemd's journal: journalctl -u {spec.unit}"
        return f"{name} is no process of epad's, so nothing it prints is kept"

    async def rotate_key(self, name: str, reason: str, by: str) -> Result:
        self._check(name)
        self._note(Operation.ROTATE_KEY, name, reason, by)
        return await self._change_key(name, self.keys.rotate(name))

    async def revoke_key(self, name: str, reason: str, by: str) -> Result:
        self._check(name)
        self._note(Operation.REVOKE_KEY, name, reason, by)
        return await self._change_key(name, self.keys.revoke(name))

    async def _change_key(self, name: str, change: Coroutine[Any, Any, str]) -> Result:
        try:
            result, failed = await change, False
        except (EpadError, OSError) as error:
            result, failed = str(error), True
        return self._result([result], name, failed=failed)

    async def force_phase(self, phase: Phase, reason: str, by: str) -> Result:
        if why := self.decider.refusal(phase):
            raise ConflictError(f"{phase} cannot be forced: {why}")
        self._note(Operation.FORCE_PHASE, HOST, f"{phase}: {reason}", by)
        source = self.decider.phase
        await self._wait(self.controller.order(Forced(phase, f"forced by {by}: {reason}")))
        # Between the question and the turn of the control loop something else may have happened.
        failed = self.decider.phase is not phase
        said = "things have moved on meanwhile" if failed else f"{source} -> {phase}: the waiting was spared"
        return self._result([said], failed=failed)

    async def lifeboat(self, reason: str, by: str) -> Result:
        if self.decider.phase is Phase.LIFEBOAT:
            raise ConflictError("the daemon is in LIFEBOAT already")
        self._note(Operation.LIFEBOAT, HOST, reason, by)
        await self._wait(self.controller.order(Ordered(Order.LIFEBOAT, f"{reason} ({by})")))
        return self._result(["ordered; `epactl phase` follows it"])

    async def relaunch(self, reason: str, by: str) -> Result:
        if self.decider.phase is not Phase.LIFEBOAT:
            raise ConflictError(f"only LIFEBOAT is left by a relaunch; this is {self.decider.phase}")
        self._note(Operation.RELAUNCH, HOST, reason, by)
        ended = await self._wait(self.controller.order(Ordered(Order.RELAUNCH, f"{reason} ({by})")))
        return self._answer(HOST, ended)

    async def checkpoint(self, reason: str, by: str) -> Result:
        self._note(Operation.CHECKPOINT, HOST, reason, by)
        plan = Plan(Lane.MAINTENANCE, reason, [Step(StepName.CHECKPOINT, HOST, {"reason": reason})])
        ended = await self.controller.order(Requested(plan), wait_for=Lane.MAINTENANCE)
        answer, made = self._answer(HOST, ended), self.newest_checkpoint()
        if made is None or answer["failed"]:
            return answer
        return {**answer, "failed": not made.ok, "results": [made.sentence]}

    async def upgrade(self, reason: str, by: str) -> Result:
        self._note(Operation.UPGRADE, HOST, reason, by)
        self.begin_again()
        return self._result(["the daemon begins again as what is installed now; what it supervises runs on"])

    async def accept_loss(self, reason: str, by: str) -> Result:
        self._note(Operation.ACCEPT_LOSS, HOST, reason, by)
        try:
            given_up = await self.give_up_records(f"{reason} ({by})")
        except EpadError as error:
            return self._result([str(error)], failed=True)
        results = ["no record of the ledger is missing"]
        if given_up:
            results = [f"given up: {given_up}; every budget counts as spent: `epactl budget set` gives room"]
        return self._result(results)

    async def accept_datastore(self, name: str, reason: str, by: str) -> Result:
        is_vault = name == VAULT and self.vault_orders.watch is not None
        if name not in self.datastores.names and not is_vault:
            raise UnknownDatastoreError(name, self.datastores.names)
        self._note(Operation.ACCEPT_DATASTORE, name, reason, by)
        if name in self.datastores.names:
            self.datastores.accept(name)
        accepted = await self.vault_orders.accept(f"{reason} ({by})") if is_vault else ()
        told = "the next look takes it as it is; then checkpoints are promoted again"
        return self._result([*(f"accepted: {fault}" for fault in accepted), told])

    def agents(self) -> AgentList:
        return {"agents": self.daemon_status.tools.agents()}

    def budgets(self) -> Budgets:
        return {"budgets": [*self.budget_orders.show(), *self.daemon_status.tools.limits()]}

    async def set_budget(
        self, scope: str, values: Mapping[str, float | None], reason: str, by: str
    ) -> Result:
        try:
            results, failed = await self.budget_orders.change(scope, values, reason, by), False
        except UnknownScopeError as error:
            raise UnknownBudgetError(scope, error.known) from error
        except BudgetChangeError as error:
            raise ConflictError(str(error)) from error
        except EpadError as error:
            results, failed = [f"broken off: {error}"], True
        self.event_log.emit(
            EventKind.ORDER_GIVEN, scope, order=Operation.SET_BUDGET, reason=reason, by=by, results=results
        )
        return self._result(results, scope, failed=failed)

    async def audit(
        self, operation: Operation, tier: Tier, *, allowed: bool, peer: Peer, by: str = ""
    ) -> None:
        if not allowed:
            await self.recorded_orders.refused(operation, by or str(peer), f"as {tier}, {peer}")
        # A permitted look is no news: a status watched all night would drown what happened in it.
        if operation.is_order or not allowed:
            self.event_log.emit(
                EventKind.GATE_DECIDED, operation=operation, tier=tier, allowed=allowed, peer=str(peer)
            )

    @property
    def _report(self) -> IncidentReport:
        return IncidentReport(self.decider, self.clock)

    def _names(self) -> Sequence[str]:
        return [snapshot.name for snapshot in self.daemon_status.snapshots()]

    def _check(self, name: str) -> None:
        if name not in self._names():
            raise UnknownSubsystemError(name, self._names())

    async def _wait(self, ordered: Any) -> list[OperationEnded] | None:
        """Wait for an order's steps, but not for ever; the order stands either way."""
        task = asyncio.ensure_future(ordered)
        done, _ = await asyncio.wait({task}, timeout=ANSWER_SECONDS)
        return task.result() if done else None

    def _answer(self, name: str, ended: list[OperationEnded] | None) -> Result:
        if ended is None:
            results = [f"still under way after {ANSWER_SECONDS:.0f} s; `epactl explain {name}` follows it"]
        else:
            undone = [text for operation in ended for text in operation.undone]
            steps = sum(len(operation.operation.steps) for operation in ended)
            results = undone or [f"{steps} step(s) done" if steps else NOTHING_TO_DO]
        failed = any(operation.state is not StepState.DONE for operation in ended or ())
        return self._result(results, name, failed=failed)
