"""Jobs that belong to the wall clock: the nightly verification, the regular checkpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

# A job that could not start in time (suspend, a busy night) still runs within this; 3.11's default is 1 s.
MISFIRE_GRACE_SECONDS = 3_600


class Schedule:
    """Runs named jobs at cron times. An empty expression turns a job off."""

    def __init__(self, jobs: Mapping[str, tuple[str, Callable[[], Awaitable[None]]]]) -> None:
        self._scheduler = AsyncIOScheduler()
        self._log = structlog.get_logger("epad.schedule")
        self._scheduler.add_listener(self._tell, EVENT_JOB_ERROR | EVENT_JOB_MISSED)
        for name, (expression, work) in jobs.items():
            if expression:
                self._scheduler.add_job(
                    work,
                    CronTrigger.from_crontab(expression),
                    id=name,
                    coalesce=True,
                    max_instances=1,
                    misfire_grace_time=MISFIRE_GRACE_SECONDS,
                )

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def wakeup(self) -> None:
        """Look at the wall clock again; called when it has jumped (agronholm/apscheduler#752)."""
        if self._scheduler.running:
            self._scheduler.wakeup()

    def _tell(self, event: JobExecutionEvent) -> None:
        self._log.error("job.failed", job=event.job_id, error=str(event.exception or "missed"))
