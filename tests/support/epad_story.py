"""An incident from beginning to end, in memory: the real controller, decider and journal over a toy house.

No file, no thread and no event loop: time moves when told to, and a story of hours takes milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, cast

import apsw

from epad.configuration.load import load
from epad.configuration.schema import Config
from epad.control_loop.decider import Decider
from epad.control_loop.journal import JOURNAL_SCHEMA, Journal
from epad.control_loop.loop import Controller
from epad.control_loop.plans import Target
from epad.control_loop.responder import Responder
from epad.control_loop.rules import Rules
from epad.control_loop.step import Lane, Operation, OperationEnded, StepName, StepState
from epad.control_loop.stimulus import Ordered, Released, Stimulus
from epad.metrics.registry import Metrics
from epad.probing.build import make_assessor
from epad.storage.database import Database, DatabaseError, fetch
from epad.storage.event_log import EVENT_SCHEMA, EventLog
from statemachine.clock import ManualClock
from statemachine.containment import Containable, Hold, Rung
from statemachine.finding import OPERATOR, Finding, Severity
from statemachine.phase import Phase
from statemachine.situation import Limits, Order

T = TypeVar("T")

BOOT = "6f1b8f52-2f0e-4b2e-9d3c-0c9f2f7d8a11"
# Providers first: an essential server, two workloads, and one in the background that epad does not start.
SUBSYSTEMS = (
    Containable("model", essential=True, has_process=True),
    Containable("chat", essential=False, has_process=True),
    Containable("game", essential=False, has_process=True),
    Containable("guest", essential=False, has_process=False, background=True),
)
NAMES = tuple(subsystem.name for subsystem in SUBSYSTEMS)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait; it fails if it does."""
    try:
        work.send(None)
    except StopIteration as ended:
        return cast("T", ended.value)
    work.close()
    raise AssertionError("it waited for something")


class MemoryDatabase(Database):
    """A database without a file or a thread, whose calls never wait."""

    def __init__(self, schema: str) -> None:
        self.connection = apsw.Connection(":memory:")
        self.connection.execute(schema)

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        with self._errors(), self.connection:
            result = work(self.connection)
        return result

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        with self._errors():
            return work(self.connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise DatabaseError(f"memory: {error}") from error


def memory_database(schema: str = JOURNAL_SCHEMA + EVENT_SCHEMA) -> Database:
    return MemoryDatabase(schema)


@dataclass
class ToyWorld:
    """Implements `epad.control_loop.world_protocol.World`; a test sets what is wrong with it."""

    subsystems: Sequence[Containable] = SUBSYSTEMS
    broken: set[str] = field(default_factory=set)
    damage: set[Target] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    suffering: dict[str, str] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)
    gateway: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)

    def containables(self) -> Sequence[Containable]:
        return self.subsystems

    def failed(self) -> frozenset[str]:
        return frozenset(self.broken)

    def damaged(self) -> frozenset[Target]:
        return frozenset(self.damage)

    def blind_probes(self) -> frozenset[str]:
        return frozenset(self.blind)

    def victims(self) -> dict[str, str]:
        return self.suffering

    def forget(self, subsystem: str) -> None:
        self.forgotten.append(subsystem)

    def close_gateway(self, reason: str) -> None:
        self.gateway.append(f"closed: {reason}")

    def reopen_gateway(self) -> None:
        self.gateway.append("open")

    async def journal_failed(self, reason: str) -> None:
        self.saved.append(reason)


class Hands:
    """A responder that only remembers what it was given; the test says how each operation ends."""

    def __init__(self) -> None:
        self.open: list[Operation] = []

    def submit(self, operation: Operation) -> None:
        self.open.append(operation)


def finding(
    clock: ManualClock,
    subsystem: str,
    probe: str = "token_burn",
    severity: Severity = Severity.ANOMALY,
    *,
    hard: bool = True,
    rung: Rung | None = None,
) -> Finding:
    reason = f"{probe} of {subsystem}"
    return Finding(probe, subsystem, severity, clock.monotonic(), reason, hard=hard, rung=rung)


@cache
def shipped() -> Config:
    return load()


def shipped_rules(**limits: float) -> Rules:
    """The rules as shipped, but for what a test names."""
    config = shipped()
    names = Limits.__dataclass_fields__
    values = {name: getattr(config.policy, name) for name in names} | limits
    rungs = {probe: Rung[name.upper()] for probe, name in config.containment.items()}
    return Rules(
        Limits(**values), config.policy.attempts_per_subsystem, rungs, config.probes.cascade.blast_ratio
    )


class Story:
    """The daemon's deciding half, one stimulus after another."""

    def __init__(self, **limits: float) -> None:
        self.clock = ManualClock()
        self.world = ToyWorld()
        self.rules = shipped_rules(**limits)
        self.database = memory_database()
        self.journal = Journal(self.database, self.clock, BOOT)
        self._begin()

    def _begin(self) -> None:
        assessor = make_assessor(shipped().hysteresis)
        self.decider = Decider(self.rules, assessor, self.world, self.clock, BOOT)
        self.events = EventLog(self.database, self.clock)
        self.metrics = Metrics("test")
        self.controller = Controller(
            self.decider, self.journal, self.world, self.clock, self.events, self.metrics
        )
        loaded = at_once(self.journal.load())
        self.decider.restore(loaded)
        self.hands = Hands()
        self.controller.attach(cast("Responder", self.hands), loaded.open_operations)

    # What may happen.

    def tell(self, stimulus: Stimulus = None) -> Phase:
        """Let the controller take in one stimulus, as its loop does."""
        at_once(self.controller.run_cycle(stimulus))
        return self.phase

    def find(
        self,
        subsystem: str,
        probe: str = "token_burn",
        severity: Severity = Severity.ANOMALY,
        *,
        hard: bool = True,
        rung: Rung | None = None,
    ) -> Phase:
        return self.tell(finding(self.clock, subsystem, probe, severity, hard=hard, rung=rung))

    def quarantine(self, subsystem: str) -> Phase:
        return self.find(subsystem, OPERATOR)

    def release(self, subsystem: str) -> Phase:
        return self.tell(Released(subsystem, "it was looked at"))

    def order(self, order: Order) -> Phase:
        return self.tell(Ordered(order, "a person says so"))

    def wait(self, seconds: float) -> Phase:
        """Let time pass, in pieces small enough that every limit is noticed where it stands."""
        while seconds > 0:
            step = min(seconds, 5.0)
            self.clock.advance(step)
            seconds -= step
            self.tell()
        return self.phase

    def wait_until(self, phase: Phase, seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            if self.phase is phase:
                return
            self.wait(5.0)
        raise AssertionError(f"still {self.phase} after {seconds} s: {self.decider.situation()}")

    def end(self, lane: Lane = Lane.PHASE, state: StepState = StepState.DONE) -> Phase:
        """Let the oldest operation of a lane end, in the journal and then in the controller's queue."""
        return self.tell(self.end_unheard(lane, state))

    def end_unheard(self, lane: Lane, state: StepState) -> OperationEnded:
        """The same, but the daemon has not heard of it yet."""
        operation = next(operation for operation in self.hands.open if operation.lane is lane)
        self.hands.open.remove(operation)
        if not at_once(self.journal.is_open(operation.id)):
            return OperationEnded(operation, StepState.ABORTED)
        for record in operation.steps:
            at_once(self.journal.step_ended(record.id, state, "as the test says"))
        at_once(self.journal.operation_ended(operation.id, state))
        return OperationEnded(operation, state)

    def die_and_return(self) -> None:
        """Kill it, and the next life: nothing is left but the journal and the world."""
        self._begin()

    # What came of it.

    @property
    def phase(self) -> Phase:
        return self.decider.phase

    def held(self, subsystem: str) -> Hold:
        return self.decider.holds[subsystem]

    def rungs(self) -> dict[str, Rung]:
        return {name: hold.rung for name, hold in self.decider.holds.items()}

    def operations(self, lane: Lane) -> list[Operation]:
        return [operation for operation in self.hands.open if operation.lane is lane]

    def steps(self, lane: Lane = Lane.PHASE) -> list[tuple[StepName, str]]:
        """The steps that are to be done in a lane."""
        return [(r.step.name, r.step.target) for o in self.operations(lane) for r in o.steps]

    def rows(self, query: str, *bindings: object) -> list[tuple[Any, ...]]:
        return at_once(self.database.read(lambda connection: fetch(connection, query, bindings)))

    def is_open(self, operation: int) -> bool:
        return at_once(self.journal.is_open(operation))

    def path(self) -> list[str]:
        """The phases taken, as the journal has them."""
        return [row[0] for row in self.rows("SELECT destination FROM transition ORDER BY id")]

    def journalled_holds(self) -> dict[str, tuple[str, str]]:
        """Rung and reason of each subsystem if every journalled step that still stands is done in order."""
        holds = {subsystem.name: ("open", "") for subsystem in self.world.subsystems}
        for name, target, arguments in self.journalled_steps():
            if name == StepName.HOLD:
                holds[target] = (arguments["rung"], arguments["reason"])
            elif name == StepName.RESTART:
                holds[target] = ("open", "")
        return holds

    def journalled_steps(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        query = "SELECT name, target, arguments FROM step WHERE state <> 'aborted' ORDER BY id"
        for name, target, arguments in self.rows(query):
            yield name, target, json.loads(arguments)


def into_recovery(story: Story, *broken: str) -> None:
    """Two troubles and something failed: persisted, and the first attempt is under way."""
    story.world.broken |= set(broken)
    story.find("chat")
    story.find("game")
    assert story.end() is Phase.RECOVERY


def attempt_fails(story: Story, *broken: str) -> None:
    """An attempt ends, and what it was about is broken again."""
    story.world.broken |= set(broken)
    story.end()
    story.wait(30)


def in_normal(story: Story) -> None:
    into_recovery(story, "game")
    attempt_fails(story)
    attempt_fails(story)
    story.end()
    story.wait_until(Phase.NORMAL, 120)


def in_quarantine(story: Story) -> None:
    story.quarantine("guest")
    story.find("chat", "vram")


def in_preservation(story: Story) -> None:
    story.find("chat")
    story.find("game", "vram")


def in_recovery(story: Story) -> None:
    into_recovery(story, "model")
    story.quarantine("guest")


def in_lifeboat(story: Story) -> None:
    in_preservation(story)
    story.end(state=StepState.FAILED)


BEGINNINGS = (in_normal, in_quarantine, in_preservation, in_recovery, in_lifeboat)
