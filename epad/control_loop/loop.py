"""Run the control path: findings and orders in, phases and response steps out.

One consumer, one queue. `Controller.run_cycle` is the path: it takes in one stimulus, lets the decider work out what
follows, writes that to the journal, and only then announces it and acts. The walk of it is in docs/design.md.

It has one await, `_commit`. A crash or a cancellation there: the decision is in the journal or it is not. If it is, the
next daemon begins its steps; if it is not, the probes find the trouble again. What the decider has decided meanwhile is
in memory alone, and ends with the process. No other stimulus is taken in while a decision is being written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from epad.control_loop.announcements import Announcements
from epad.control_loop.cycle_recorder import CycleRecorder, NoRecorder
from epad.control_loop.decider import Decider
from epad.control_loop.journal import Decision, Journal
from epad.control_loop.responder import Responder
from epad.control_loop.step import Lane, Operation, OperationEnded
from epad.control_loop.stimulus import Forced, Ordered, Paused, Released, Requested, Resumed, Stimulus
from epad.control_loop.world_protocol import World
from epad.metrics.registry import Metrics
from epad.runtime.timers import beat_after
from epad.storage.database import DatabaseError
from epad.storage.event_log import EventLog
from statemachine.assessor import Change
from statemachine.clock import Clock
from statemachine.containment import Hold, Rung
from statemachine.finding import Finding
from statemachine.phase import Phase

# How long to wait before a decision that could not be written is tried again; nothing is forwarded meanwhile.
RETRY_SECONDS = 1.0
# One of so many ticks is looked at while nothing is wrong: a look at 100 subsystems takes a millisecond.
IDLE_TICKS = 5

_OPEN = Hold(Rung.OPEN)

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
        self._announce = Announcements(decider, clock, events, metrics)
        self._log = structlog.get_logger("epad.controller")
        self._queue: asyncio.Queue[tuple[Stimulus, asyncio.Future[list[Ending]] | None]] = asyncio.Queue()
        self._responder: Responder | None = None
        self._early: list[tuple[Operation, asyncio.Future[OperationEnded]]] = []
        self._holds: Mapping[str, Hold] = {}
        self._decided_at = float("-inf")
        self._saving: asyncio.Task[None] | None = None
        self.cycles = 0
        journal.attach(self._journal_stands_by, world.reopen_gateway)

    @property
    def sentence(self) -> str:
        """Say in one sentence what the last decision was about."""
        return self._announce.sentence

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
        self._announce.resumed()

    def attach(self, responder: Responder, open_operations: Sequence[Operation]) -> None:
        """Connect the responder; give it the open operations of the previous run, then the decisions made since."""
        self._responder = responder
        for operation in open_operations:
            responder.submit(operation)
        for operation, promised in self._early:
            responder.submit(operation).add_done_callback(partial(_keep, promised))
        self._early.clear()
        self._announce.show_all()

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
            endings = await self.run_cycle(stimulus, tick_seconds)
            if decided is not None and not decided.done():
                decided.set_result(endings)
            self.cycles += 1

    async def run_cycle(self, stimulus: Stimulus, tick_seconds: float = 0.0) -> list[Ending]:
        """Take one stimulus along the control path, and return the operations that were begun for it."""
        # The finding: its number is shown, and it is kept for a replay.
        self._announce.stimulus(stimulus)
        watching = self._recorder.begin(stimulus, self._decider, self._world)
        # The Assessor: anomalies are raised and cleared.
        changes = self._decider.absorb(stimulus)
        begun: list[Ending] = []
        if self._is_to_be_decided(stimulus, changes, tick_seconds):
            watching.look()
            requested = [stimulus.plan] if isinstance(stimulus, Requested) else []
            # The table: at most one transition a decision, with its plans.
            for decision, situation in self._decider.decisions(changes, requested):
                # The journal: nothing below happens before it is written.
                holds = dict(self._decider.holds)
                operations = await self._commit(decision)
                self._holds = holds
                if decision.row is not None:
                    self._decider.move(decision.row, situation)
                # Events, metrics, log.
                self._announce.decision(decision)
                # The response steps: begun here, and their ends come in as stimuli.
                begun += [(operation.lane, self._submit(operation)) for operation in operations]
                watching.decided = True
                if decision.row is not None:
                    watching.moves.append(self._clock.monotonic() - self._decider.phase_seconds)
        self._recorder.end(watching)
        return begun

    def _is_to_be_decided(self, stimulus: Stimulus, changes: Sequence[Change], tick_seconds: float) -> bool:
        """Tell if a decision may follow. A finding that changed nothing is no reason: ten of them come a second."""
        if isinstance(stimulus, Finding) and not changes and not self._is_due(tick_seconds):
            return False
        self._decided_at = self._clock.monotonic()
        return True

    def _is_due(self, tick_seconds: float) -> bool:
        """Tell if changes by time alone should be checked: seldom if nothing is wrong, since none follow."""
        idle = self._decider.phase is Phase.NORMAL and not self._decider.assessor.active
        seconds = tick_seconds * IDLE_TICKS if idle else tick_seconds
        # Timers go by the beat, so a tick may come a little early.
        return self._clock.monotonic() - self._decided_at >= seconds - tick_seconds / 2

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


def _keep(promised: asyncio.Future[OperationEnded], ended: asyncio.Future[OperationEnded]) -> None:
    """Resolve the future that an order waits on by the one that the responder gave later."""
    if not promised.done() and not ended.cancelled():
        promised.set_result(ended.result())
