"""The control path: findings and orders in, phases and response steps out.

One consumer, one queue. Each turn of the loop takes in one stimulus, lets the decider work out the decision, writes
that to the journal, and only then acts. It ends in one sentence that is logged and shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from epad.control_loop.cycle_recorder import CycleRecorder, NoRecorder, Watching
from epad.control_loop.decider import Decider, World
from epad.control_loop.journal import Decision, Journal
from epad.control_loop.metrics import ANOMALIES, PHASE, PHASE_ENTERED, TRANSITIONS, show_finding
from epad.control_loop.responder import Responder
from epad.control_loop.step import Lane, Operation, OperationEnded
from epad.control_loop.stimulus import Forced, Ordered, Paused, Released, Requested, Resumed, Stimulus
from epad.metrics.registry import Metrics
from epad.runtime.timers import beat_after
from epad.storage.database import DatabaseError
from epad.storage.event_log import EventKind, EventLog
from statemachine.assessor import Change, Raised
from statemachine.clock import Clock
from statemachine.containment import Hold, Rung
from statemachine.finding import Finding
from statemachine.phase import Phase
from statemachine.situation import Situation
from statemachine.table import Row

# Phases one stimulus may move through before the loop looks at the next one.
MAX_MOVES = 5
# How long to wait before a decision that could not be written is tried again; nothing is forwarded meanwhile.
RETRY_SECONDS = 1.0
# One of so many ticks is looked at while nothing is wrong: a look at 100 subsystems takes a millisecond.
IDLE_TICKS = 5
# What a detector that only tells has found is told again after this long.
OBSERVED_SECONDS = 60.0

_OPEN = Hold(Rung.OPEN)
# Only a person's order leaves it, however calm it is.
_CALM = {Phase.LIFEBOAT: "everything is saved and stopped; `epactl lifeboat relaunch` starts it again"}

Ending = tuple[Lane, asyncio.Future[OperationEnded]]
"""An operation that has been handed to the responder, and the end of it."""


class Controller:
    """Runs the control loop; nobody else changes the phase."""

    def __init__(
        self,
        decider: Decider,
        journal: Journal,
        world: World,
        clock: Clock,
        events: EventLog,
        metrics: Metrics,
        recorder: CycleRecorder | None = None,
    ) -> None:
        self._decider = decider
        self._recorder = recorder or NoRecorder()
        self._journal = journal
        self._world = world
        self._clock = clock
        self._events = events
        self._metrics = metrics
        self._log = structlog.get_logger("epad.controller")
        self._queue: asyncio.Queue[tuple[Stimulus, asyncio.Future[list[Ending]] | None]] = asyncio.Queue()
        self._responder: Responder | None = None
        self._early: list[tuple[Operation, asyncio.Future[OperationEnded]]] = []
        self._holds: Mapping[str, Hold] = {}
        self._decided_at = float("-inf")
        self._told_observed: dict[tuple[str, str], float] = {}
        self._saving: asyncio.Task[None] | None = None
        self.cycles = 0
        self.sentence = "started"
        journal.attach(self._journal_stands_by, world.reopen_gateway)

    @property
    def stands_by(self) -> str:
        """Say why decisions are not on the disk yet; empty if they are."""
        return self._journal.stands_by

    def _journal_stands_by(self, reason: str) -> None:
        """Shut the gateway before anything is decided from memory; save the irreplaceable beside the waiting writes."""
        self._world.close_gateway(reason)
        self._saving = asyncio.create_task(self._world.journal_failed(reason), name="journal failed")

    def hold_of(self, name: str) -> Hold:
        """Return the hold of a subsystem, as of the last decision that is in the journal."""
        return self._holds.get(name, _OPEN)

    def resume(self) -> None:
        """Take up the phase and the holds of a former life; call once the decider is restored."""
        self._holds = dict(self._decider.holds)
        if self._decider.phase is not Phase.NORMAL:
            self.sentence = _with_troubles(f"resumed in {self._decider.phase}", self._decider)
        self._show_phase()

    def attach(self, responder: Responder, open_operations: Sequence[Operation]) -> None:
        """Connect the responder; give it the open operations of the previous run, then the decisions made since."""
        self._responder = responder
        for operation in open_operations:
            responder.submit(operation)
        for operation, promised in self._early:
            responder.submit(operation).add_done_callback(partial(_keep, promised))
        self._early.clear()
        self._show_phase()
        for anomaly in self._decider.assessor.active:
            self._metrics.of(ANOMALIES).labels(*anomaly.key).set(1)

    def push(self, finding: Finding) -> None:
        """Take in a finding; never waits."""
        self._queue.put_nowait((finding, None))

    def operation_ended(self, ended: OperationEnded) -> None:
        """Take in the end of an operation; never waits."""
        self._queue.put_nowait((ended, None))

    def request(self, requested: Requested) -> None:
        """Take in work that nobody waits for."""
        self._queue.put_nowait((requested, None))

    async def order(
        self,
        stimulus: Finding | Released | Paused | Resumed | Ordered | Forced | Requested,
        wait_for: Lane = Lane.CONTAINMENT,
    ) -> list[OperationEnded]:
        """Carry out an order and return the results of its steps in one lane."""
        decided: asyncio.Future[list[Ending]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((stimulus, decided))
        return [await ending for lane, ending in await decided if lane is wait_for]

    async def run(self, tick_seconds: float) -> None:
        """Work until cancelled; time alone is looked at every `tick_seconds`."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(beat_after(loop.time(), tick_seconds)):
                    stimulus, decided = await self._queue.get()
            except TimeoutError:
                stimulus, decided = None, None
            if stimulus is None and not self._is_due(tick_seconds):
                self.cycles += 1
                continue
            endings = await self._turn(stimulus, tick_seconds)
            if decided is not None and not decided.done():
                decided.set_result(endings)
            self.cycles += 1

    async def _turn(self, stimulus: Stimulus, tick_seconds: float = 0.0) -> list[Ending]:
        """Take in one stimulus and act until nothing more follows from it.

        A finding that changed nothing is not a reason to decide anew: it would come ten times a second.
        """
        if isinstance(stimulus, Finding):
            show_finding(self._metrics, stimulus)
            self._announce_observed(self._decider.judged(stimulus))
        watching = self._recorder.begin(stimulus, self._decider, self._world)
        begun = await self._decide(stimulus, watching, tick_seconds)
        self._recorder.end(watching)
        return begun

    async def _decide(self, stimulus: Stimulus, watching: Watching, tick_seconds: float) -> list[Ending]:
        changes = self._decider.absorb(stimulus)
        if isinstance(stimulus, Finding) and not changes and not self._is_due(tick_seconds):
            return []
        self._decided_at = self._clock.monotonic()
        watching.look()
        requested = [stimulus.plan] if isinstance(stimulus, Requested) else []
        begun: list[Ending] = []
        for _ in range(MAX_MOVES):
            situation = self._decider.situation()
            decision = self._decider.next_decision(changes, situation, requested)
            if decision is None:
                break
            begun += await self._carry_out(decision, situation)
            watching.decided = True
            if decision.row is None:
                break
            watching.moves.append(self._clock.monotonic() - self._decider.phase_seconds)
            changes, requested = [], []
        return begun

    def _is_due(self, tick_seconds: float) -> bool:
        """Tell if changes by time alone should be checked: seldom if nothing is wrong, since none follow."""
        idle = self._decider.phase is Phase.NORMAL and not self._decider.assessor.active
        seconds = tick_seconds * IDLE_TICKS if idle else tick_seconds
        # Timers go by the beat, so a tick may come a little early.
        return self._clock.monotonic() - self._decided_at >= seconds - tick_seconds / 2

    async def _carry_out(self, decision: Decision, situation: Situation) -> list[Ending]:
        """Journal first, then act."""
        holds = dict(self._decider.holds)
        operations = await self._commit(decision)
        self._holds = holds
        for change in decision.changes:
            self._announce_change(change)
        if decision.row is not None:
            self._decider.move(decision.row, situation)
            self._announce_phase(decision.row)
        elif decision.changes:
            self.sentence = _as_it_stands(self._decider)
        return [(operation.lane, self._submit(operation)) for operation in operations]

    def _submit(self, operation: Operation) -> asyncio.Future[OperationEnded]:
        """Hand an operation over; one decided while the subsystems are still starting is kept until then."""
        if self._responder is not None:
            return self._responder.submit(operation)
        promised: asyncio.Future[OperationEnded] = asyncio.get_running_loop().create_future()
        self._early.append((operation, promised))
        return promised

    async def _commit(self, decision: Decision) -> Sequence[Operation]:
        """Write a decision, however long it takes; until it is written nothing is forwarded."""
        failed = False
        while True:
            try:
                operations = await self._journal.commit(decision)
            except DatabaseError as error:
                reason = f"the journal cannot be written: {error}"
                self._world.close_gateway(reason)
                self._log.error("journal.unwritable", error=str(error))
                if not failed:
                    await self._world.journal_failed(reason)
                failed = True
                await asyncio.sleep(RETRY_SECONDS)
                self.cycles += 1
            else:
                if failed:
                    self._world.reopen_gateway()
                return operations

    def _announce_phase(self, row: Row) -> None:
        self.sentence = _with_troubles(row.sentence, self._decider)
        self._show_phase()
        self._metrics.of(TRANSITIONS).labels(row.source, row.destination, row.trigger).inc()
        fields = {
            "source": row.source,
            "destination": row.destination,
            "trigger": row.trigger,
            "guard": row.guard,
            "sentence": self.sentence,
        }
        self._log.warning(EventKind.PHASE_CHANGED, **fields)
        self._events.emit(EventKind.PHASE_CHANGED, **fields)

    def _show_phase(self) -> None:
        for phase in Phase:
            self._metrics.of(PHASE).labels(phase).set(phase is self._decider.phase)
        self._metrics.of(PHASE_ENTERED).set(self._clock.utc().timestamp() - self._decider.phase_seconds)

    def _announce_observed(self, finding: Finding) -> None:
        """Announce, once a while, a finding of a detector that only reports."""
        if not finding.evidence.get("observed") and not finding.evidence.get("ended"):
            return
        now = self._clock.monotonic()
        key = (finding.subsystem, str(finding.evidence.get("detector", finding.probe)))
        if now - self._told_observed.get(key, float("-inf")) < OBSERVED_SECONDS:
            return
        self._told_observed[key] = now
        fields = {"text": f"{key[1]}: {finding.reason}", "probe": finding.probe, "detector": key[1]}
        self._log.warning(EventKind.NOTICE, subsystem=finding.subsystem, **fields)
        self._events.emit(EventKind.NOTICE, finding.subsystem, **fields)

    def _announce_change(self, change: Change) -> None:
        anomaly = change.anomaly
        raised = isinstance(change, Raised)
        self._metrics.of(ANOMALIES).labels(anomaly.key.probe, anomaly.key.subsystem).set(raised)
        reason = anomaly.finding.reason if isinstance(change, Raised) else change.reason
        kind = EventKind.ANOMALY_RAISED if raised else EventKind.ANOMALY_CLEARED
        fields = {"probe": anomaly.key.probe, "severity": anomaly.severity.label, "reason": reason}
        self._log.warning(kind, subsystem=anomaly.key.subsystem, **fields)
        finding = anomaly.finding
        named = {} if finding.rung is None else {"rung": finding.rung.label}
        self._events.emit(kind, anomaly.key.subsystem, **fields, **named, evidence=dict(finding.evidence))


def _keep(promised: asyncio.Future[OperationEnded], ended: asyncio.Future[OperationEnded]) -> None:
    """Resolve the future that an order waits on by the one that the responder gave later."""
    if not promised.done() and not ended.cancelled():
        promised.set_result(ended.result())


def _as_it_stands(decider: Decider) -> str:
    """Return the phase's sentence once the troubles differ from those it was entered for."""
    calm = "wrong now" if decider.assessor.active else "nothing is wrong any more; waiting out the dwell time"
    return _with_troubles(_CALM.get(decider.phase, calm), decider)


def _with_troubles(sentence: str, decider: Decider) -> str:
    troubles = "; ".join(dict.fromkeys(anomaly.finding.reason for anomaly in decider.assessor.active))
    return f"{sentence}: {troubles}" if troubles else sentence
