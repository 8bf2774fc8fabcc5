"""What a person may ask of the daemon, carried out: the implementation behind the control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from epad.control.operations import ConflictError, Peer, UnknownDatastoreError, UnknownSubsystemError
from epad.controller import Controller
from epad.database import DatabaseError
from epad.datastore.keeper import Datastores
from epad.events import EventKind, EventLog
from epad.explain import History
from epad.gateway.errors import IdentityError
from epad.keys import Keys
from epad.permissions import ORDERS, Operation, Tier
from epad.response.decider import Decider, Ordered, Released, Requested
from epad.response.step import Lane, OperationEnded, Plan, Step, StepName, StepState
from epad.status import StatusBoard
from statemachine.clock import Clock
from statemachine.finding import HOST, OPERATOR, Finding, Severity
from statemachine.phase import Phase
from statemachine.situation import Order
from statemachine.table import mermaid

# A stop with its full grace takes the longest; after this the answer says that it is still under way.
ANSWER_SECONDS = 30.0


class Orders:
    """Implements `epad.control.operations.Operations`."""

    def __init__(
        self,
        board: StatusBoard,
        controller: Controller,
        decider: Decider,
        history: History,
        events: EventLog,
        clock: Clock,
        keys: Keys,
    ) -> None:
        self.datastores: Datastores | None = None
        self._keys = keys
        self._board = board
        self._controller = controller
        self._decider = decider
        self._history = history
        self._events = events
        self._clock = clock

    def status(self) -> dict[str, Any]:
        return self._board.render()

    async def phase(self) -> dict[str, Any]:
        status = self._board.render()
        return {
            "phase": status["phase"],
            "since": status["phase_since"],
            "sentence": status["sentence"],
            "history": await self._history.transitions(),
            "diagram": mermaid(),
        }

    async def events(self, since: int, limit: int) -> list[dict[str, Any]]:
        return await self._events.since(since, limit)

    def subscribe(self) -> AbstractAsyncContextManager[asyncio.Queue[dict[str, Any]]]:
        return self._events.subscribe()

    async def explain(self, subject: str | None) -> dict[str, Any]:
        known = [*self._names(), *Phase, HOST]
        if subject is not None and subject not in known and not _is_id(subject):
            raise UnknownSubsystemError(subject, known)
        return {"subject": subject or "the last incident", "chain": await self._history.explain(subject)}

    async def quarantine(self, name: str, reason: str, by: str) -> dict[str, Any]:
        self._check(name)
        self._note("quarantine", name, reason, by)
        finding = Finding(
            probe=OPERATOR,
            subsystem=name,
            severity=Severity.ANOMALY,
            at=self._clock.monotonic(),
            reason=f"held by {by}: {reason}",
            evidence={"by": by},
            hard=True,
        )
        return self._answer(name, await self._wait(self._controller.order(finding)))

    async def release(self, name: str, reason: str, by: str) -> dict[str, Any]:
        self._check(name)
        if self._decider.phase is Phase.LIFEBOAT:
            raise ConflictError("LIFEBOAT holds everything; `epactl lifeboat relaunch` leaves it")
        self._note("release", name, reason, by)
        return self._answer(
            name, await self._wait(self._controller.order(Released(name, f"{reason} ({by})")))
        )

    async def rotate_key(self, name: str, reason: str, by: str) -> dict[str, Any]:
        self._check(name)
        self._note("rotate_key", name, reason, by)
        return await self._change_key(name, self._keys.rotate(name))

    async def revoke_key(self, name: str, reason: str, by: str) -> dict[str, Any]:
        self._check(name)
        self._note("revoke_key", name, reason, by)
        return await self._change_key(name, self._keys.revoke(name))

    async def _change_key(self, name: str, change: Coroutine[Any, Any, str]) -> dict[str, Any]:
        try:
            result, failed = await change, False
        except (DatabaseError, IdentityError, OSError) as error:
            result, failed = str(error), True
        return {"subsystem": name, "phase": self._decider.phase, "failed": failed, "results": [result]}

    async def lifeboat(self, reason: str, by: str) -> dict[str, Any]:
        if self._decider.phase is Phase.LIFEBOAT:
            raise ConflictError("the daemon is in LIFEBOAT already")
        self._note("lifeboat", HOST, reason, by)
        await self._wait(self._controller.order(Ordered(Order.LIFEBOAT, f"{reason} ({by})")))
        return {"phase": self._decider.phase, "results": ["ordered; `epactl phase` follows it"]}

    async def relaunch(self, reason: str, by: str) -> dict[str, Any]:
        if self._decider.phase is not Phase.LIFEBOAT:
            raise ConflictError(f"only LIFEBOAT is left by a relaunch; this is {self._decider.phase}")
        self._note("relaunch", HOST, reason, by)
        ended = await self._wait(self._controller.order(Ordered(Order.RELAUNCH, f"{reason} ({by})")))
        return self._answer(HOST, ended)

    async def checkpoint(self, reason: str, by: str) -> dict[str, Any]:
        self._note("checkpoint", HOST, reason, by)
        plan = Plan(Lane.MAINTENANCE, reason, [Step(StepName.CHECKPOINT, HOST, {"reason": reason})])
        ended = await self._controller.order(Requested(plan), wait_for=Lane.MAINTENANCE)
        return self._answer(HOST, ended)

    async def accept_datastore(self, name: str, reason: str, by: str) -> dict[str, Any]:
        known = self.datastores.names if self.datastores else ()
        if self.datastores is None or name not in known:
            raise UnknownDatastoreError(name, known)
        self._note("accept_datastore", name, reason, by)
        self.datastores.accept(name)
        results = ["the next look takes it as it is; then checkpoints are promoted again"]
        return {"subsystem": HOST, "phase": self._decider.phase, "failed": False, "results": results}

    async def audit(self, operation: Operation, tier: Tier, *, allowed: bool, peer: Peer) -> None:
        # A permitted look is no news: a status watched all night would drown what happened in it.
        if operation in ORDERS or not allowed:
            self._events.emit(
                EventKind.GATE_DECIDED, operation=operation, tier=tier, allowed=allowed, peer=str(peer)
            )

    def _names(self) -> Sequence[str]:
        return [snapshot.name for snapshot in self._board.snapshots()]

    def _check(self, name: str) -> None:
        if name not in self._names():
            raise UnknownSubsystemError(name, self._names())

    def _note(self, order: str, target: str, reason: str, by: str) -> None:
        self._events.emit(EventKind.ORDER_GIVEN, target, order=order, reason=reason, by=by)

    async def _wait(self, ordered: Any) -> list[OperationEnded] | None:
        """Wait for an order's steps, but not for ever; the order stands either way."""
        task = asyncio.ensure_future(ordered)
        done, _ = await asyncio.wait({task}, timeout=ANSWER_SECONDS)
        return task.result() if done else None

    def _answer(self, name: str, ended: list[OperationEnded] | None) -> dict[str, Any]:
        if ended is None:
            results = [f"still under way after {ANSWER_SECONDS:.0f} s; `epactl explain {name}` follows it"]
        else:
            undone = [text for operation in ended for text in _undone(operation)]
            steps = sum(len(operation.operation.steps) for operation in ended)
            results = undone or [f"{steps} step(s) done" if steps else "nothing to do: it was so already"]
        failed = any(operation.state is not StepState.DONE for operation in ended or ())
        return {"subsystem": name, "phase": self._decider.phase, "failed": failed, "results": results}


def _undone(ended: OperationEnded) -> Sequence[str]:
    if ended.state is StepState.ABORTED:
        return ["called off: a later decision took its place; `epactl explain` tells which"]
    return ended.failures


def _is_id(subject: str) -> bool:
    kind, _, number = subject.partition("-")
    return kind == "anomaly" and number.isdigit()
