"""Run the jobs of the wall clock: the nightly verification, and a checkpoint every few hours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from epad.configuration.schema import ScheduleConfig
from epad.control_loop.loop import Controller
from epad.control_loop.step import Lane, OperationEnded, Plan, Step, StepName, StepState
from epad.control_loop.stimulus import Requested
from epad.ledger.integrity import Integrity
from epad.ledger.store import Ledger
from epad.runtime.cron import Schedule
from epad.storage.event_log import EventKind, EventLog
from statemachine.finding import HOST, Finding, Severity

# How often a job that was put off looks whether it may begin.
LOOK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Chores:
    """The scheduled jobs. A drill and the nightly look at everything can be spared: they wait while `calm` is false."""

    integrity: Integrity
    ledger: Ledger
    events: EventLog
    controller: Controller
    drill: Callable[[], Awaitable[None]]
    calm: Callable[[], bool] = lambda: True

    def schedule(self, config: ScheduleConfig) -> Schedule:
        """Return the jobs at their times; not started yet."""
        return Schedule(
            {
                "nightly": (config.nightly_verify, self.nightly),
                "checkpoint": (config.checkpoint, self.checkpoint),
                "restore_drill": (config.restore_drill, self.restore_drill),
            }
        )

    async def nightly(self) -> None:
        """Drop the history that is older than allowed, and verify the whole ledger."""
        await self.events.prune()
        await self.ledger.prune_payloads()
        await self._until_calm("the nightly verification")
        report = await self.integrity.verify_all()
        self.events.emit(
            EventKind.LEDGER_VERIFIED,
            verdict=report.verdict,
            checked=report.checked,
            faults=len(report.faults),
        )

    async def restore_drill(self) -> None:
        """Restore the newest verified checkpoint, to nowhere."""
        await self._until_calm("the restore drill")
        await self.drill()

    async def _until_calm(self, job: str) -> None:
        """Wait while disk and memory are needed for more than this."""
        if self.calm():
            return
        self.events.emit(EventKind.NOTICE, text=f"{job} waits until the trouble is over")
        while not self.calm():  # noqa: ASYNC110 - it is a state of the world, and once a minute will do
            await asyncio.sleep(LOOK_SECONDS)

    async def checkpoint(self) -> None:
        """Make a checkpoint, in the lane that holds nothing else up."""
        reason = "scheduled"
        plan = Plan(Lane.MAINTENANCE, reason, [Step(StepName.CHECKPOINT, HOST, {"reason": reason})])
        await self.controller.order(Requested(plan), wait_for=Lane.MAINTENANCE)


def checkpoint_finding(ended: OperationEnded, now: float) -> Finding:
    """A checkpoint that could not be written is an anomaly of the host, before it is needed."""
    if ended.state is not StepState.DONE:
        reason = f"no checkpoint could be written: {'; '.join(ended.failures) or ended.state}"
        return Finding("checkpoint", HOST, Severity.ANOMALY, now, reason, hard=True)
    return Finding("checkpoint", HOST, Severity.OK, now, "a checkpoint was written")
