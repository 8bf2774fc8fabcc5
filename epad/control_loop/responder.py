"""Run journalled operations: a worker a lane, wave after wave, each step tried at most three times.

States, in the journal; all but ABORTED are written here, ABORTED by a later decision that calls the operation off:

| | PENDING | DONE | FAILED |
|---|---|---|---|
| step | tried fewer than three times | its work has returned | its three tries are spent |
| operation | a step is pending | all its steps are done | a step has failed, the others were tried |

Invariants: a try is counted in the journal before the work begins, so a step that kills the daemon is tried three
times in all, not three times in each run. A wave begins only once the wave before is over. `ended` is called at most
once for an operation, after its end is in the journal.

A crash: the next start submits each open operation again, with its records. Finished steps are skipped, failed ones
count as failed, and a step that was under way is done again: that is why every step must be idempotent.

Cancellation (the daemon stops) may come at any await, and is not caught:

- waiting for the operations before: nothing was begun;
- within the work: the try is given back (`step_let_go`), unless the disk refuses that, and the step stays PENDING;
- between the work and `step_ended`: the next run does the work again;
- in `_written`: the statement was written or was not, and either is one of the states above.

A journal that cannot be written holds a step up and never ends its lane: `_written` tries again without an end. A step
that spends or restarts (MUST_BE_ON_DISK) waits for the disk; containment goes on from the standby journal's memory.

Rejected: one queue for all lanes, since a release of VRAM takes as long as its GPU and a freeze would wait for it;
letting an unexpected exception end the lane, since no later containment would be done; a time limit for steps in this
file, since only the step knows how long its work may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import TypeVar

import structlog

from epad.control_loop.journal import Journal
from epad.control_loop.metrics import STEPS
from epad.control_loop.step import (
    MUST_BE_ON_DISK,
    Lane,
    Operation,
    OperationEnded,
    Step,
    StepFailedError,
    StepName,
    StepRecord,
    StepState,
)
from epad.metrics.registry import Metrics
from epad.storage.database import DatabaseError
from epad.storage.event_log import EventKind, EventLog

# A step that failed three times will fail a fourth time: it is recorded as failed and the policy decides.
MAX_ATTEMPTS = 3
RETRY_SECONDS = 0.2
# How long to wait before the journal is tried again: what is not written is not done, and not called done.
JOURNAL_RETRY_SECONDS = 1.0

T = TypeVar("T")

StepWork = Callable[[Step, Operation], Awaitable[str]]
"""Does a step and returns one sentence about the result. Raises StepFailedError."""


async def _nobody(_: str) -> None:
    return


class Responder:
    """Takes operations in order, per lane, and reports the end of each."""

    def __init__(
        self,
        journal: Journal,
        work: Mapping[StepName, StepWork],
        events: EventLog,
        metrics: Metrics,
        ended: Callable[[OperationEnded], None],
        journal_failed: Callable[[str], Awaitable[None]] = _nobody,
    ) -> None:
        self._journal = journal
        self._work = work
        self._events = events
        self._steps = metrics.of(STEPS)
        self._ended = ended
        self._journal_failed = journal_failed
        self._log = structlog.get_logger("epad.response")
        self._lanes: dict[Lane, asyncio.Queue[Operation]] = {lane: asyncio.Queue() for lane in Lane}
        self._waiting: dict[int, asyncio.Future[OperationEnded]] = {}

    def submit(self, operation: Operation) -> asyncio.Future[OperationEnded]:
        """Queue an operation; the future resolves when it is over."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[operation.id] = future
        self._lanes[operation.lane].put_nowait(operation)
        return future

    async def run(self, lane: Lane) -> None:
        """Work one lane until cancelled. The next run of the daemon resumes a cancelled step.

        A cancelled attempt does not count: three upgrades in a row, each in the middle of a checkpoint, are no failure.
        The attempt of a daemon that was killed does, since the step may have killed it.

        Containment of one subsystem waits for no other's, which may take as long as a GPU takes to give its memory
        back; in the other lanes each operation waits for the one before it.
        """
        last: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                operation = await self._lanes[lane].get()
                contained = {record.step.target for record in operation.steps}
                queues = contained if lane is Lane.CONTAINMENT else {lane}
                before = {last[queue] for queue in queues if queue in last}
                task = tasks.create_task(self._see_through(operation, before), name=f"{lane} {operation.id}")
                last.update(dict.fromkeys(queues, task))

    async def _see_through(self, operation: Operation, before: Collection[asyncio.Task[None]]) -> None:
        """Run an operation after those before it, and tell everyone of its end."""
        if before:
            await asyncio.wait(before)
        ended = await self._run_operation(operation)
        self._ended(ended)
        future = self._waiting.pop(operation.id)
        if not future.done():
            future.set_result(ended)

    async def _run_operation(self, operation: Operation) -> OperationEnded:
        failures: list[str] = []
        for wave in operation.waves():
            # What failed in a former life of the daemon is not tried again.
            failures += [_failure(r.step, r.result) for r in wave if r.state is StepState.FAILED]
            pending = [record for record in wave if record.state is StepState.PENDING]
            if not pending:
                continue
            if not await self._may_begin(pending, operation):
                return OperationEnded(operation, StepState.ABORTED)
            ended = await asyncio.gather(*(self._run_step(record, operation) for record in pending))
            failures += filter(None, ended)
        state = StepState.FAILED if failures else StepState.DONE
        if not await self._written(lambda: self._journal.operation_ended(operation.id, state)):
            state = StepState.ABORTED
        return OperationEnded(operation, state, tuple(failures))

    async def _may_begin(self, wave: Collection[StepRecord], operation: Operation) -> bool:
        """Wait until these steps may be done; False once a later decision has called their operation off."""
        waits = any(record.step.name in MUST_BE_ON_DISK for record in wave)
        while await self._written(lambda: self._journal.is_open(operation.id)):
            if not (waits and self._journal.stands_by):
                return True
            await asyncio.sleep(JOURNAL_RETRY_SECONDS)
        return False

    async def _run_step(self, record: StepRecord, operation: Operation) -> str:
        """Try a step until it is done or its attempts are spent; return the failure, if any."""
        step, failure = record.step, "attempts were spent before the daemon was restarted"
        for attempt in range(record.attempts, MAX_ATTEMPTS):
            await self._written(lambda: self._journal.step_tried(record.id))
            try:
                result = await self._work[step.name](step, operation)
            except asyncio.CancelledError:
                with suppress(DatabaseError):  # it counts then, and the step is tried once less
                    await self._journal.step_let_go(record.id)
                raise
            except StepFailedError as error:
                failure = str(error)
                self._log.warning("step.failed", step=step.name, target=step.target, error=failure)
            except Exception as error:
                # A fault of epad's own must not end the lane: no later containment would ever be done, and
                # the step would be resumed by the next life of the daemon, and end that one too.
                failure = f"epad is at fault: {type(error).__name__}: {error}"
                self._log.exception("step.broke", step=step.name, target=step.target)
            else:
                await self._end_step(record, operation, StepState.DONE, result)
                return ""
            if attempt + 1 < MAX_ATTEMPTS:
                await asyncio.sleep(RETRY_SECONDS * (attempt + 1))
        await self._end_step(record, operation, StepState.FAILED, failure)
        return _failure(step, failure)

    async def _end_step(
        self, record: StepRecord, operation: Operation, state: StepState, result: str
    ) -> None:
        await self._written(lambda: self._journal.step_ended(record.id, state, result))
        self._steps.labels(record.step.name, state).inc()
        self._log.info(
            "step.ended", step=record.step.name, target=record.step.target, state=state, result=result
        )
        self._events.emit(
            EventKind.STEP_ENDED,
            record.step.target,
            step=record.step.name,
            step_id=record.id,
            operation=operation.id,
            state=state,
            result=result,
        )

    async def _written(self, write: Callable[[], Awaitable[T]]) -> T:
        """Use the journal, however long it takes: a full disk holds a step up, it does not end its lane."""
        failed = False
        while True:
            try:
                return await write()
            except DatabaseError as error:
                self._log.error("journal.unwritable", error=str(error))
                if not failed:
                    await self._journal_failed(f"the journal cannot be written: {error}")
                failed = True
                await asyncio.sleep(JOURNAL_RETRY_SECONDS)


def _failure(step: Step, reason: str) -> str:
    return f"{step.name} {step.target}: {reason}"
