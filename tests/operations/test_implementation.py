"""What a person may ask of the daemon, and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from epad_story import Story, in_lifeboat
from fake_operations import asked
from noted_audits import NotedAudits
from secret_world import quick_vault

from epad.answers.confinement import Approvals
from epad.answers.decisions import Recovery
from epad.audit.trail import AuditTrail
from epad.configuration.load import ConfigError, Origin, Problem
from epad.configuration.schema import LogConfig, SubsystemConfig
from epad.confinement.changes import PolicyChange, WideningRefusedError
from epad.control_loop.history import History
from epad.control_loop.loop import Controller
from epad.control_loop.step import Lane, Operation, OperationEnded, Step, StepName, StepRecord, StepState
from epad.control_loop.stimulus import Forced, Ordered, Paused, Released, Requested, Resumed
from epad.datastore.datastores import Datastores
from epad.gate.permissions import Tier
from epad.gateway.client_keys import Keys
from epad.measurement.starts import Starts
from epad.operations import implementation as module
from epad.operations.all_approvals import AllApprovals
from epad.operations.budgets import BudgetOrders
from epad.operations.host_approvals import Revoked
from epad.operations.identity_looks import IdentityLooks
from epad.operations.implementation import DaemonOperations
from epad.operations.learning import LearningError
from epad.operations.memory_orders import MemoryOrders
from epad.operations.protocol import (
    ConflictError,
    Peer,
    UnknownDatastoreError,
    UnknownIdError,
    UnknownSubsystemError,
)
from epad.operations.recorded_orders import RecordedOrders
from epad.operations.registry import Operation as Permitted
from epad.operations.server_orders import ServerOrders
from epad.operations.status import DaemonStatus
from epad.operations.tool_looks import ToolLooks
from epad.operations.vault_orders import VaultOrders
from epad.supervisor.log_keeper import LogKeeper
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.finding import HOST, OPERATOR, Finding
from statemachine.phase import Phase
from statemachine.situation import Order


def ended(state: StepState, *failures: str) -> OperationEnded:
    record = StepRecord(1, Step(StepName.HOLD, "chat"), state)
    return OperationEnded(Operation(1, "key", Lane.CONTAINMENT, "a test", (record,)), state, failures)


class Bench:
    """Orders over a story, with a controller and a status that answer as they are told."""

    def __init__(self, directory: Path) -> None:
        self.story = Story()
        self.given: list[tuple[Any, Lane]] = []
        self.answer: list[OperationEnded] = [ended(StepState.DONE)]
        self.gate: asyncio.Event | None = None
        self.logs = LogKeeper(lambda name: directory / f"{name}.log", structlog.get_logger())
        self.logs.configure({"chat": LogConfig()})
        self.config = SimpleNamespace(subsystems={})
        self.tools = SimpleNamespace(targets=lambda: frozenset({"tools-git", "tool:git_commit"}), limits=list)
        self.reloaded: Exception | list[str] = ["added: c"]
        self.policies: tuple[PolicyChange, ...] = ()
        self.why = ""
        self.recorded: tuple[str, float, str] | None = None
        self.orders = DaemonOperations(
            daemon_status=cast("DaemonStatus", self),
            controller=cast("Controller", self),
            decider=self.story.decider,
            history=History(self.story.database),
            event_log=self.story.events,
            clock=self.story.clock,
            keys=cast("Keys", self),
            logs=self.logs,
            reloads=self,
            datastores=cast("Datastores", self),
            budget_orders=cast("BudgetOrders", self),
            newest_checkpoint=lambda: None,
            give_up_records=self.give_up,
            begin_again=lambda: None,
            plan_recovery=lambda: asyncio.sleep(0, cast("Recovery", {})),
            all_approvals=cast("AllApprovals", self),
            starts=cast("Starts", self),
            learning=self,
            tool_looks=cast("ToolLooks", self),
            memory_orders=MemoryOrders(None, lambda: asyncio.sleep(0, ())),
            vault_orders=VaultOrders(None, None),
            recorded_orders=RecordedOrders(AuditTrail(NotedAudits(), self.story.clock)),
            secret_vault=quick_vault(directory / "secrets")[0],
            identity_looks=cast("IdentityLooks", self),
            server_orders=ServerOrders(None),
        )

    names = ("memory",)

    def accept(self, name: str) -> None:
        self.accepted = name

    def show(self) -> Approvals:
        return {**asked(), "always": {"chat": ["a.example:443"]}}

    async def approve(self, number: str, seconds: float | None, reason: str) -> str:
        return f"{number} for {seconds}: {reason}"

    def deny(self, number: str, reason: str) -> str:
        return f"not {number}: {reason}"

    async def revoke(self, name: str, subsystem: str, reason: str) -> Revoked:
        return Revoked(f"no more {name} of {subsystem}: {reason}", is_kept=name != "b.example")

    async def begin(self, name: str, seconds: float, why: str) -> Path:
        if self.recorded is not None:
            raise LearningError(f"{name} is recorded already")
        self.recorded = (name, seconds, why)
        return Path("/state/recording")

    async def end(self, name: str) -> None:
        if self.recorded is None:
            raise LearningError(f"{name} is not recorded")
        self.recorded = None

    async def give_up(self, reason: str) -> str:
        """Nothing is missing."""
        return ""

    async def policy_changes(self) -> tuple[PolicyChange, ...]:
        if isinstance(self.reloaded, ConfigError):
            raise self.reloaded
        return self.policies

    async def reload(self, why: str = "") -> list[str]:
        self.why = why
        if isinstance(self.reloaded, Exception):
            raise self.reloaded
        return self.reloaded

    async def order(self, stimulus: object, wait_for: Lane = Lane.CONTAINMENT) -> list[OperationEnded]:
        self.given.append((stimulus, wait_for))
        if self.gate is not None:
            await self.gate.wait()
        return self.answer

    def render(self) -> dict[str, Any]:
        return {"phase": self.story.phase, "phase_since": "since", "sentence": "why"}

    def snapshots(self) -> list[SubsystemSnapshot]:
        return [
            SubsystemSnapshot(name, "process", SubsystemState.RUNNING, essential=False, since=0.0)
            for name in ("chat", "game")
        ]

    async def written(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        await self.story.events.flush()
        events = await self.story.events.since(0, 50)
        return [
            (e["kind"], e["subsystem"], e["fields"]) for e in events if e["kind"].startswith(("or", "ga"))
        ]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_quarantine_is_a_hard_finding_of_a_person(bench: Bench) -> None:
    """It goes the way of every finding, with who and why; and it is an event."""
    answer = await bench.orders.quarantine("chat", "it looks odd", "ada")
    ((finding, lane),) = bench.given
    assert isinstance(finding, Finding)
    assert (finding.probe, finding.subsystem, finding.hard, finding.bad) == (OPERATOR, "chat", True, True)
    assert finding.reason == "held by ada: it looks odd"
    assert finding.at == bench.story.clock.monotonic()
    assert lane is Lane.CONTAINMENT
    assert answer == {
        "subsystem": "chat",
        "phase": Phase.NORMAL,
        "failed": False,
        "results": ["1 step(s) done"],
    }
    assert await bench.written() == [
        ("order.given", "chat", {"order": "quarantine", "reason": "it looks odd", "by": "ada"})
    ]


@pytest.mark.parametrize("name", ["tools-git", "tool:git_commit@chat"])
async def test_a_tool_is_held_and_released_as_a_subsystem_is(bench: Bench, name: str) -> None:
    """By the same orders; nothing else is ordered about it, as it has no process."""
    await bench.orders.quarantine(name, "it looks odd", "ada")
    await bench.orders.release(name, "fixed", "ada")
    (finding, _), (released, _) = bench.given
    assert (finding.probe, finding.subsystem) == (OPERATOR, name)
    assert released == Released(name, "fixed (ada)")
    assert (await bench.orders.explain(name))["subject"] == name
    for order in (bench.orders.stop, bench.orders.restart, bench.orders.pause):
        with pytest.raises(UnknownSubsystemError):
            await order(name, "it looks odd", "ada")


@pytest.mark.parametrize(
    ("answer", "failed", "result"),
    [
        ([], False, "nothing to do: it was so already"),
        ([ended(StepState.FAILED, "hold chat: it does not freeze")], True, "hold chat: it does not freeze"),
        ([ended(StepState.ABORTED)], True, "called off"),
    ],
)
async def test_the_answer_says_what_came_of_it(
    bench: Bench, answer: list[OperationEnded], failed: bool, result: str
) -> None:
    """What was not done is never called done."""
    bench.answer = answer
    told = await bench.orders.release("chat", "fixed", "ada")
    assert told["failed"] is failed
    assert told["results"][0].startswith(result)
    assert bench.given == [(Released("chat", "fixed (ada)"), Lane.CONTAINMENT)]


async def test_nobody_waits_for_ever_and_the_order_stands(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says how to follow it."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.01)
    bench.gate = asyncio.Event()
    told = await bench.orders.quarantine("chat", "why", "ada")
    assert "`epactl explain chat` follows it" in told["results"][0]
    assert not told["failed"]
    assert (await bench.orders.lifeboat("a drill", "ada"))["results"] == [
        "ordered; `epactl phase` follows it"
    ]
    bench.gate.set()
    await asyncio.sleep(0)


@pytest.mark.parametrize("order", ["quarantine", "release"])
async def test_a_subsystem_that_is_not_there_is_named_with_those_that_are(bench: Bench, order: str) -> None:
    """And nothing is ordered."""
    with pytest.raises(UnknownSubsystemError) as error:
        await getattr(bench.orders, order)("chta", "why", "ada")
    assert error.value.known == ("chat", "game")
    assert (bench.given, await bench.written()) == ([], [])


async def test_what_does_not_fit_the_phase_is_a_conflict(bench: Bench) -> None:
    """The message says what does."""
    with pytest.raises(ConflictError, match="this is NORMAL"):
        await bench.orders.relaunch("why", "ada")
    in_lifeboat(bench.story)
    with pytest.raises(ConflictError, match="epactl lifeboat relaunch"):
        await bench.orders.release("chat", "why", "ada")
    with pytest.raises(ConflictError, match="already"):
        await bench.orders.lifeboat("why", "ada")
    assert bench.given == []


async def test_orders_about_the_whole_daemon(bench: Bench) -> None:
    """Each is one stimulus."""
    await bench.orders.lifeboat("a drill", "ada")
    in_lifeboat(bench.story)
    await bench.orders.relaunch("all is well", "ada")
    assert [given for given, _ in bench.given] == [
        Ordered(Order.LIFEBOAT, "a drill (ada)"),
        Ordered(Order.RELAUNCH, "all is well (ada)"),
    ]
    assert [(target, fields["order"]) for _, target, fields in await bench.written()] == [
        (HOST, "lifeboat"),
        (HOST, "relaunch"),
    ]


async def test_a_forced_phase_is_an_order_with_its_giver(bench: Bench) -> None:
    """What cannot be forced is a conflict with the reason, and nothing is ordered."""
    with pytest.raises(ConflictError, match=r"PRESERVATION cannot be forced: nothing is wrong; `epactl ch"):
        await bench.orders.force_phase(Phase.PRESERVATION, "to be sure", "uid 7")
    assert bench.given == []
    bench.story.find("chat")
    bench.story.wait(1)
    told = await bench.orders.force_phase(Phase.PRESERVATION, "I saw it", "uid 7")
    assert bench.given == [(Forced(Phase.PRESERVATION, "forced by uid 7: I saw it"), Lane.CONTAINMENT)]
    assert told["failed"] is True  # this controller does nothing: things have moved on
    forcible = (await bench.orders.phase())["force"]
    assert forcible[Phase.PRESERVATION] == ""
    assert "epactl release NAME" in forcible[Phase.NORMAL]


async def test_a_checkpoint_is_work_in_its_own_lane(bench: Bench) -> None:
    """It moves no phase."""
    await bench.orders.checkpoint("before the upgrade", "ada")
    ((requested, lane),) = bench.given
    assert isinstance(requested, Requested)
    assert (requested.plan.lane, lane) == (Lane.MAINTENANCE, Lane.MAINTENANCE)
    assert [step.arguments for step in requested.plan.steps] == [{"reason": "before the upgrade"}]


async def test_phase_tells_its_history_and_draws_the_table(bench: Bench) -> None:
    """Beside what it is."""
    bench.story.find("chat")
    told = await bench.orders.phase()
    assert (told["phase"], told["since"], told["sentence"]) == ("QUARANTINE", "since", "why")
    assert [row["destination"] for row in told["history"]] == ["QUARANTINE"]
    assert told["diagram"].startswith("stateDiagram-v2")


@pytest.mark.parametrize(
    "subject", [None, "chat", "QUARANTINE", HOST, "memory", "anomaly-1", "transition-1", "step-1"]
)
async def test_what_can_be_explained(bench: Bench, subject: str | None) -> None:
    """A subsystem, a phase, the host, a datastore, a link by its id, or whatever was last."""
    bench.story.find("chat")
    told = await bench.orders.explain(subject)
    assert told["subject"] == (subject or "the last incident")
    assert bool(told["chain"]) is (subject not in {HOST, "memory"})


@pytest.mark.parametrize("subject", ["chta", "anomaly-", "anomaly-x", "7-1", "key-1", "-1", "9" * 19])
async def test_what_cannot_be_explained_is_unknown(bench: Bench, subject: str) -> None:
    """And the answer says what can."""
    with pytest.raises(UnknownSubsystemError) as error:
        await bench.orders.explain(subject)
    assert {"chat", "game", "NORMAL", HOST} <= set(error.value.known)


@pytest.mark.parametrize("subject", ["999999", "anomaly-999", "transition-999", "step-999", "9" * 18])
async def test_an_id_of_nothing_is_unknown(bench: Bench, subject: str) -> None:
    """It is named; no empty answer that reads as if nothing had been decided."""
    bench.story.find("chat")
    with pytest.raises(UnknownIdError, match=subject):
        await bench.orders.explain(subject)


async def test_every_refusal_and_every_order_at_the_gate_is_an_event(bench: Bench) -> None:
    """A look that was allowed is no news."""
    peer = Peer(7, 1_000, (1_000,))
    looks = [operation for operation in Permitted if not operation.is_order]
    for operation in Permitted:
        await bench.orders.audit(operation, next(iter(Tier)), allowed=True, peer=peer)
    await bench.orders.audit(looks[0], next(iter(Tier)), allowed=False, peer=peer)
    written = [
        (fields["operation"], fields["allowed"], fields["peer"]) for _, _, fields in await bench.written()
    ]
    assert {operation for operation, allowed, _ in written if allowed} == set(Permitted) - set(looks)
    assert [operation for operation, allowed, _ in written if not allowed] == [looks[0]]
    assert {by for _, _, by in written} == {"uid 1000 (pid 7)"}


async def test_a_pause_is_no_quarantine(bench: Bench) -> None:
    """It is ordered as what it is; twice, or ended where there is none, is a conflict that names the other verb."""
    await bench.orders.pause("chat", "lunch", "uid 7")
    assert bench.given == [(Paused("chat", "paused by uid 7: lunch"), Lane.CONTAINMENT)]
    with pytest.raises(ConflictError, match="epactl release chat"):
        await bench.orders.resume("chat", "back", "uid 7")
    bench.story.tell(Paused("chat", "lunch"))
    with pytest.raises(ConflictError, match="epactl resume chat"):
        await bench.orders.pause("chat", "lunch", "uid 7")
    await bench.orders.resume("chat", "back", "uid 7")
    assert bench.given[-1] == (Resumed("chat"), Lane.CONTAINMENT)


async def test_a_reload_tells_what_it_did_or_every_place_that_is_wrong(bench: Bench) -> None:
    """A broken file is a failed order whose answer names file, line and key."""
    assert (await bench.orders.reload(False, "why not", "uid 7"))["results"] == ["added: c"]
    problem = Problem(Origin(1, 8, "/etc/epad/epad.toml"), "subsystems.b.command", "is 5; give an array")
    bench.reloaded = ConfigError([problem])
    answer = await bench.orders.reload(False, "why not", "uid 7")
    assert answer["failed"]
    assert answer["results"] == [
        "nothing was changed",
        "/etc/epad/epad.toml:8: subsystems.b.command: is 5; give an array",
    ]


async def test_a_reload_may_widen_policies_with_a_persons_reason_alone(bench: Bench) -> None:
    """Which goes on to whoever records it; a refusal has a line for each thing that would widen."""
    await bench.orders.reload(False, "asked for", "uid 7")
    assert bench.why == ""
    await bench.orders.reload(True, "it reads issues", "uid 7")
    assert bench.why == "it reads issues (uid 7)"
    bench.reloaded = WideningRefusedError(("agent: + connect github.com:443; at once",))
    answer = await bench.orders.reload(False, "asked for", "uid 7")
    assert answer["failed"]
    assert "agent: + connect github.com:443; at once" in answer["results"]
    assert "--reason" in answer["results"][-1]


async def test_a_question_about_a_host_is_answered(bench: Bench) -> None:
    """And the answer is an event, with who and why."""
    assert bench.orders.approvals()["always"] == {"chat": ["a.example:443"]}
    assert (await bench.orders.approve("7", 60.0, "needed", "ada"))["results"] == ["7 for 60.0: needed (ada)"]
    assert (await bench.orders.deny("8", "no", "ada"))["results"] == ["not 8: no (ada)"]
    orders = [(fields["order"], fields["reason"]) for _, _, fields in await bench.written()]
    assert orders == [("approve", "question 7: needed"), ("deny", "question 8: no")]


async def test_an_approval_is_taken_back_on_record(bench: Bench) -> None:
    """One that would hold again after a start has failed."""
    kept = await bench.orders.revoke_host("a.example", "chat", "enough", "ada")
    assert (kept["results"], kept["failed"]) == (["no more a.example of chat: enough (ada)"], False)
    assert (await bench.orders.revoke_host("b.example", "", "enough", "ada"))["failed"]
    orders = [(fields["order"], fields["reason"]) for _, _, fields in await bench.written()]
    assert orders == [("revoke_host", "a.example: enough"), ("revoke_host", "b.example: enough")]


async def test_what_a_reload_would_change_in_policies_can_be_asked(bench: Bench) -> None:
    """A broken file is a conflict with its every place."""
    assert await bench.orders.confine_diff() == {"needs_reason": False, "changes": []}
    bench.policies = (PolicyChange("agent", asks=True),)
    answer = await bench.orders.confine_diff()
    assert not answer["needs_reason"]
    assert answer["changes"][0]["lines"] == ("agent: asks a person about hosts that are not named",)
    bench.reloaded = ConfigError([Problem(Origin(1, 8, "epad.toml"), "subsystems.b", "is 5")])
    with pytest.raises(ConflictError, match=r"epad\.toml:8"):
        await bench.orders.confine_diff()


async def test_a_recording_is_begun_and_ended(bench: Bench) -> None:
    """Once at a time, with a person's reason; only of what there is."""
    assert (
        "in /state/recording" in (await bench.orders.learn("chat", 60.0, "its policy", "uid 7"))["results"][0]
    )
    assert bench.recorded == ("chat", 60.0, "its policy (uid 7)")
    with pytest.raises(ConflictError, match="already"):
        await bench.orders.learn("chat", 60.0, "its policy", "uid 7")
    assert (await bench.orders.learn("chat", None, "enough", "uid 7"))["results"] == [
        "chat runs as it is configured again"
    ]
    with pytest.raises(ConflictError, match="not recorded"):
        await bench.orders.learn("chat", None, "enough", "uid 7")
    with pytest.raises(UnknownSubsystemError):
        await bench.orders.learn("nobody", 60.0, "why", "uid 7")


async def test_logs_are_a_process_own(bench: Bench, tmp_path: Path) -> None:
    """Those of a subsystem without a process are a conflict, not an empty answer."""
    (tmp_path / "chat.log").write_text("one\ntwo\n")
    assert await bench.orders.log_lines("chat", 1, None) == ["two"]
    with pytest.raises(ConflictError, match="no process of epad's"):
        await bench.orders.log_lines("game", 1, None)
    bench.config.subsystems["game"] = SubsystemConfig(kind="unit", unit="ollama.service")
    with pytest.raises(ConflictError, match=r"journalctl -u ollama\.service"):
        await bench.orders.log_lines("game", 1, None)
    with pytest.raises(UnknownSubsystemError):
        bench.orders.follow_log("chta")


async def test_a_store_is_taken_as_it_is(bench: Bench) -> None:
    """Somebody meant the change; one that is not configured is unknown."""
    answer = await bench.orders.accept_datastore("memory", "meant", "uid 0")
    assert (bench.accepted, answer["failed"]) == ("memory", False)
    with pytest.raises(UnknownDatastoreError):
        await bench.orders.accept_datastore("nothing", "meant", "uid 0")
