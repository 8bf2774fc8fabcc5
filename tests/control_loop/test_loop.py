"""The control loop: one stimulus after another, the journal before the act, and nobody made to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import structlog
from epad_story import BOOT, ToyWorld, at_once, finding, memory_database, shipped, shipped_rules
from patience import PATIENCE_SECONDS

from epad.control_loop import loop as module
from epad.control_loop.decider import Decider
from epad.control_loop.journal import Decision, Journal
from epad.control_loop.loop import Controller
from epad.control_loop.responder import Responder
from epad.control_loop.step import Lane, Operation, OperationEnded, Plan, Step, StepName, StepState
from epad.control_loop.stimulus import Ordered, Released, Requested
from epad.metrics.registry import Metrics
from epad.probing.build import make_assessor
from epad.storage.database import Database, DatabaseError, fetch
from epad.storage.event_log import EventKind, EventLog
from statemachine.clock import ManualClock
from statemachine.finding import OPERATOR, Finding, Severity
from statemachine.phase import Phase
from statemachine.situation import Order


class TracedJournal(Journal):
    """A journal that says when it was written, and can refuse or keep a commit waiting."""

    def __init__(self, database: Database, clock: ManualClock, trace: list[str]) -> None:
        super().__init__(database, clock, BOOT)
        self.trace = trace
        self.refusals = 0
        self.gate: asyncio.Event | None = None

    async def commit(self, decision: Decision) -> tuple[Operation, ...]:
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals > 0:
            self.refusals -= 1
            self.trace.append("refused")
            raise DatabaseError("state.db: disk full")
        operations = await super().commit(decision)
        self.trace.append(f"journal {decision.row.destination if decision.row else 'no move'}")
        return operations


class TracedEvents(EventLog):
    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.database, bench.clock)
        self.bench = bench

    def emit(self, kind: EventKind, subsystem: str = "", **fields: object) -> None:
        if kind is EventKind.PHASE_CHANGED:
            assert self.bench.last_journalled() == fields["destination"]
            self.bench.trace.append(f"move {fields['destination']}")
        super().emit(kind, subsystem, **fields)


class Hands:
    """A responder that insists on finding in the journal what it is given."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.given: list[tuple[Operation, asyncio.Future[OperationEnded]]] = []

    def submit(self, operation: Operation) -> asyncio.Future[OperationEnded]:
        assert at_once(self.bench.journal.is_open(operation.id))
        self.bench.trace.append(f"act {operation.lane}")
        future: asyncio.Future[OperationEnded] = asyncio.get_running_loop().create_future()
        self.given.append((operation, future))
        return future

    def end_all(self, state: StepState = StepState.DONE) -> None:
        for operation, future in self.given:
            if not future.done():
                future.set_result(OperationEnded(operation, state))


class Bench:
    def __init__(self) -> None:
        self.trace: list[str] = []
        self.clock = ManualClock()
        self.world = ToyWorld()
        self.database = memory_database()
        self.journal = TracedJournal(self.database, self.clock, self.trace)
        self.events = TracedEvents(self)
        self.metrics = Metrics()
        self.hands = Hands(self)
        assessor = make_assessor(shipped().hysteresis)
        self.decider = Decider(shipped_rules(), assessor, self.world, self.clock, BOOT)
        self.controller = Controller(
            self.decider, self.journal, self.world, self.clock, self.events, self.metrics
        )

    def attach(self) -> None:
        self.controller.attach(cast("Responder", self.hands), [])

    def last_journalled(self) -> str:
        query = "SELECT destination FROM transition ORDER BY id DESC LIMIT 1"
        return at_once(self.database.read(lambda c: fetch(c, query)))[0][0]

    @asynccontextmanager
    async def running(self, tick_seconds: float = 60.0) -> AsyncIterator[None]:
        task = asyncio.create_task(self.controller.run(tick_seconds))
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not true():
                await asyncio.sleep(0.001)

    def find(self, subsystem: str, probe: str = "token_burn") -> Finding:
        return finding(self.clock, subsystem, probe)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    bench = Bench()
    bench.attach()
    return bench


@pytest.fixture(autouse=True)
def _quiet() -> object:
    with structlog.testing.capture_logs() as logs:
        yield logs


async def test_the_journal_is_written_before_anything_is_done(bench: Bench) -> None:
    """Phase, event and step: each comes after the commit it is in, and the doubles look it up there."""
    async with bench.running():
        bench.controller.push(bench.find("chat"))
        bench.controller.push(bench.find("game"))
        await bench.until(lambda: bench.decider.phase is Phase.PRESERVATION)
    assert bench.trace == [
        "journal QUARANTINE",
        "move QUARANTINE",
        "act containment",
        "journal PRESERVATION",
        "move PRESERVATION",
        "act containment",
        "act phase",
    ]


async def test_an_unwritable_journal_closes_the_gateway_until_it_is_written(bench: Bench) -> None:
    """Nothing is decided from memory alone, so nothing is forwarded; the loop still turns for the watchdog."""
    bench.journal.refusals = 3
    async with bench.running():
        bench.controller.push(bench.find("chat"))
        await bench.until(lambda: bench.hands.given)
    assert bench.world.gateway == ["closed: the journal cannot be written: state.db: disk full"] * 3 + [
        "open"
    ]
    assert bench.world.saved == [
        "the journal cannot be written: state.db: disk full"
    ]  # once, not at every try
    assert bench.trace == [*["refused"] * 3, "journal QUARANTINE", "move QUARANTINE", "act containment"]
    assert bench.controller.cycles >= 3


async def test_a_journal_that_works_leaves_the_gateway_alone(bench: Bench) -> None:
    """Reopening what others have closed is not its business."""
    async with bench.running():
        bench.controller.push(bench.find("chat"))
        await bench.until(lambda: bench.hands.given)
    assert bench.world.gateway == []


async def test_a_push_never_waits(bench: Bench) -> None:
    """Not while the disk hangs, however many come; then they are taken in, in order."""
    bench.journal.gate = asyncio.Event()
    async with bench.running():
        for _ in range(500):
            bench.controller.push(bench.find("chat"))
        bench.controller.push(bench.find("game"))
        assert bench.trace == []
        bench.journal.gate.set()
        await bench.until(lambda: bench.decider.phase is Phase.PRESERVATION)
        await bench.until(lambda: bench.controller.cycles >= 501)
    assert bench.trace.count("journal QUARANTINE") == 1


async def test_an_order_is_answered_with_what_its_containment_came_to(bench: Bench) -> None:
    """And not with the checkpoint that runs beside it."""
    async with bench.running():
        asked = asyncio.create_task(bench.controller.order(bench.find("chat", OPERATOR)))
        await bench.until(lambda: bench.hands.given)
        assert not asked.done()
        bench.hands.end_all(StepState.FAILED)
        (ended,) = await asked
        assert ended.state is StepState.FAILED
        assert ended.operation.lane is Lane.CONTAINMENT
        lifeboat = bench.controller.order(Ordered(Order.LIFEBOAT, "a drill"), wait_for=Lane.PHASE)
        asked = asyncio.create_task(lifeboat)
        await bench.until(lambda: bench.decider.phase is Phase.PRESERVATION)
        bench.hands.end_all()
        assert [e.operation.steps[0].step.name for e in await asked] == [StepName.CHECKPOINT]


async def test_an_order_that_changes_nothing_is_answered_at_once(bench: Bench) -> None:
    """There is no step to wait for."""
    async with bench.running():
        assert await bench.controller.order(Released("chat", "nothing was wrong")) == []
    assert bench.hands.given == []


async def test_requested_work_moves_no_phase(bench: Bench) -> None:
    """A scheduled checkpoint is journalled like any step, in its own lane."""
    plan = Plan(Lane.MAINTENANCE, "scheduled", [Step(StepName.CHECKPOINT, "host", {"reason": "scheduled"})])
    async with bench.running():
        asked = asyncio.create_task(bench.controller.order(Requested(plan), wait_for=Lane.MAINTENANCE))
        await bench.until(lambda: bench.hands.given)
        bench.hands.end_all()
        (ended,) = await asked
    assert ended.operation.purpose == "scheduled"
    assert bench.trace == ["journal no move", "act maintenance"]
    assert bench.decider.phase is Phase.NORMAL


async def test_whoever_asked_may_go(bench: Bench) -> None:
    """The order stands, and the loop goes on."""
    bench.journal.gate = asyncio.Event()
    async with bench.running():
        asked = asyncio.create_task(bench.controller.order(bench.find("chat", OPERATOR)))
        await asyncio.sleep(0)
        asked.cancel()
        bench.journal.gate.set()
        await bench.until(lambda: bench.hands.given)
        bench.controller.push(bench.find("game"))
        await bench.until(lambda: len(bench.hands.given) == 2)


async def test_what_is_decided_while_the_subsystems_start_is_done_once_they_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The doors are open before the hands are there: an order given in between is neither lost nor denied."""
    bench = Bench()
    async with bench.running():
        asked = asyncio.create_task(bench.controller.order(bench.find("chat", OPERATOR)))
        await bench.until(lambda: bench.decider.phase is Phase.QUARANTINE)
        assert bench.hands.given == []
        bench.attach()
        assert [operation.steps[0].step.target for operation, _ in bench.hands.given] == ["chat"]
        bench.hands.end_all()
        assert [ended.state for ended in await asked] == [StepState.DONE]


async def test_what_a_former_life_left_undone_comes_first() -> None:
    """It was decided earlier."""
    bench = Bench()
    plan = Plan(Lane.CONTAINMENT, "left undone", [Step(StepName.HOLD, "game")])
    (left,) = await bench.journal.commit(Decision(plans=[plan]))
    async with bench.running():
        bench.controller.push(bench.find("chat"))
        await bench.until(lambda: bench.decider.phase is Phase.QUARANTINE)
        bench.controller.attach(cast("Responder", bench.hands), [left])
    purposes = [operation.purpose for operation, _ in bench.hands.given]
    assert purposes == ["left undone", "one subsystem misbehaves"]


async def test_time_alone_is_looked_at(bench: Bench) -> None:
    """Nobody says that it is over."""
    async with bench.running(tick_seconds=0.001):
        bench.controller.push(bench.find("chat"))
        await bench.until(lambda: bench.decider.phase is Phase.QUARANTINE)
        bench.clock.advance(121)
        await bench.until(lambda: bench.decider.phase is Phase.NORMAL)


async def test_each_turn_ends_in_a_sentence(bench: Bench) -> None:
    """It says which rule was taken, and what it was about."""
    async with bench.running():
        bench.controller.push(bench.find("chat"))
        await bench.until(lambda: bench.decider.phase is Phase.QUARANTINE)
    assert bench.controller.sentence == "one subsystem misbehaves: token_burn of chat"


async def test_the_sentence_is_never_about_what_is_over(bench: Bench) -> None:
    """Calm is waited out until something else is found, which is what it says then; and the other way round."""
    async with bench.running():
        bench.controller.push(bench.find("chat"))
        await bench.until(lambda: bench.decider.phase is Phase.QUARANTINE)
        await bench.controller.order(Released("chat", "it was looked at"), wait_for=Lane.MAINTENANCE)
        assert bench.controller.sentence.startswith("nothing is wrong any more")
        await bench.controller.order(bench.find("game"), wait_for=Lane.MAINTENANCE)
        assert bench.controller.sentence == "wrong now: token_burn of game"
        await bench.controller.order(Released("game", "it was looked at"), wait_for=Lane.MAINTENANCE)
        assert bench.controller.sentence.startswith("nothing is wrong any more")
        assert bench.decider.phase is Phase.QUARANTINE


async def test_the_series_follow_phase_and_anomalies(bench: Bench) -> None:
    """One phase is 1 and the others are 0; an anomaly that cleared is 0 and not gone."""

    def value(name: str, **labels: str) -> float | None:
        return bench.metrics.registry.get_sample_value(name, labels)

    async with bench.running():
        bench.controller.push(bench.find("chat"))
        await bench.until(lambda: bench.hands.given)
        assert [value("epad_phase", phase=phase) for phase in Phase] == [0, 1, 0, 0, 0]
        assert value("epad_anomaly_active", probe="token_burn", subsystem="chat") == 1
        bench.clock.advance(40)
        await bench.controller.order(Released("chat", "it was looked at"), wait_for=Lane.MAINTENANCE)
    assert [value("epad_phase", phase=phase) for phase in Phase] == [1, 0, 0, 0, 0]
    assert value("epad_anomaly_active", probe="token_burn", subsystem="chat") == 0
    entered = value("epad_phase_entered_timestamp_seconds")
    assert entered == bench.clock.utc().timestamp()


async def test_the_series_show_what_a_former_life_had_raised(bench: Bench) -> None:
    """Else an alert would be resolved by a restart."""
    async with bench.running():
        bench.controller.push(bench.find("chat"))
        await bench.until(lambda: bench.hands.given)
    again = Bench()
    again.decider.restore(await bench.journal.load())
    again.attach()
    labels = {"probe": "token_burn", "subsystem": "chat"}
    assert again.metrics.registry.get_sample_value("epad_anomaly_active", labels) == 1
    assert again.metrics.registry.get_sample_value("epad_phase", {"phase": "QUARANTINE"}) == 1


async def test_events_tell_what_was_raised_and_cleared(bench: Bench) -> None:
    """With severity, reason and evidence, about the subsystem."""
    async with bench.running():
        bench.controller.push(
            Finding(
                "vram",
                "chat",
                Severity.CRITICAL,
                bench.clock.monotonic(),
                "full",
                evidence={"gpu": "0"},
                hard=True,
            )
        )
        await bench.until(lambda: bench.decider.phase is Phase.PRESERVATION)
        await bench.controller.order(Released("chat", "it was looked at"), wait_for=Lane.MAINTENANCE)
    await bench.events.flush()
    events = [e for e in await bench.events.since(0, 20) if e["kind"].startswith("anomaly")]
    assert [(e["kind"], e["subsystem"], e["fields"]["reason"]) for e in events] == [
        ("anomaly.raised", "chat", "full"),
        ("anomaly.cleared", "chat", "released: it was looked at"),
    ]
    assert events[0]["fields"]["evidence"] == {"gpu": "0"}
