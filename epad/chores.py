"""What is done by the wall clock: the nightly look at everything, and a checkpoint every few hours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from epad.config import ScheduleConfig
from epad.controller import Controller
from epad.events import EventKind, EventLog
from epad.integrity import Integrity
from epad.ledger.store import Ledger
from epad.response.step import Lane, OperationEnded, Plan, Step, StepName, StepState
from epad.response.stimulus import Requested
from epad.schedule import Schedule
from statemachine.finding import HOST, Finding, Severity


@dataclass(frozen=True, slots=True)
class Chores:
    """The scheduled jobs."""

    integrity: Integrity
    ledger: Ledger
    events: EventLog
    controller: Controller
    drill: Callable[[], Awaitable[None]]

    def schedule(self, config: ScheduleConfig) -> Schedule:
        """The jobs at their times; not started yet."""
        return Schedule(
            {
                "nightly": (config.nightly_verify, self.nightly),
                "checkpoint": (config.checkpoint, self.checkpoint),
                "restore_drill": (config.restore_drill, self.restore_drill),
            }
        )

    async def nightly(self) -> None:
        """Verify the whole ledger, and drop what is older than it may be."""
        report = await self.integrity.verify_all()
        self.events.emit(
            EventKind.LEDGER_VERIFIED,
            verdict=report.verdict,
            checked=report.checked,
            faults=len(report.faults),
        )
        await self.events.prune()
        await self.ledger.prune_payloads()

    async def restore_drill(self) -> None:
        """Restore the newest verified checkpoint, to nowhere."""
        await self.drill()

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
