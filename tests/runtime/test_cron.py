"""Jobs of the wall clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent
from patience import PATIENCE_SECONDS

from epad.runtime.cron import MISFIRE_GRACE_SECONDS, Schedule


async def nothing() -> None:
    """A job."""


async def test_an_empty_expression_turns_a_job_off() -> None:
    """The others have the time they were given, and an hour's grace."""
    schedule = Schedule({"nightly": ("17 3 * * *", nothing), "checkpoint": ("", nothing)})
    schedule.start()
    (job,) = schedule._scheduler.get_jobs()
    schedule.stop()
    assert job.id == "nightly"
    assert (job.next_run_time.hour, job.next_run_time.minute) == (3, 17)
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (MISFIRE_GRACE_SECONDS, True, 1)


async def test_a_job_runs_and_one_that_fails_is_said() -> None:
    """A broken job breaks nothing but itself."""
    ran = asyncio.Event()

    async def broken() -> None:
        raise ZeroDivisionError("a bug")

    async def good() -> None:
        ran.set()

    with structlog.testing.capture_logs() as logs:
        schedule = Schedule({"broken": ("0 0 1 1 *", broken), "good": ("0 0 1 1 *", good)})
        schedule.start()
        for name in ("broken", "good"):
            schedule._scheduler.get_job(name).modify(next_run_time=datetime.now(tz=UTC))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ran.wait()
            while not logs:
                await asyncio.sleep(0.001)
        schedule.stop()
    assert [(entry["event"], entry["job"], entry["error"]) for entry in logs] == [
        ("job.failed", "broken", "a bug")
    ]


@pytest.mark.parametrize(
    ("code", "exception", "error"),
    [(EVENT_JOB_MISSED, None, "missed"), (EVENT_JOB_ERROR, ValueError("a bug"), "a bug")],
)
def test_a_job_that_was_missed_says_so(code: int, exception: Exception | None, error: str) -> None:
    """It has no exception to show."""
    schedule = Schedule({})
    event = JobExecutionEvent(code, "nightly", "default", datetime.now(tz=UTC), exception=exception)
    with structlog.testing.capture_logs() as logs:
        schedule._tell(event)
    assert [(entry["job"], entry["error"]) for entry in logs] == [("nightly", error)]


async def test_it_may_be_woken_and_stopped_at_any_time() -> None:
    """Before it was started, and twice."""
    schedule = Schedule({"nightly": ("17 3 * * *", nothing)})
    schedule.wakeup()
    schedule.stop()
    schedule.start()
    schedule.wakeup()
    schedule.stop()
    await asyncio.sleep(0)
    schedule.stop()
