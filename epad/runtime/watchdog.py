"""Ping systemd's watchdog, but only if the control loop has moved since the last ping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

import structlog

from epad.runtime.systemd_notify import notify
from epad.runtime.timers import sleep_to_beat
from statemachine.clock import Clock

# Pings per watchdog interval: one may be late without a kill.
PINGS_PER_INTERVAL = 3
CLOCK_CHECK_SECONDS = 5.0
START_WORD_SECONDS = 5.0
START_PATIENCE_SECONDS = 60.0
"""What systemd is asked for at each word of a start: several of them may be late."""
WORKING_SHARE = 0.01
"""Of a core: a start that takes less waits for something, and is given no more than TimeoutStartSec=."""
# A difference between wall clock and monotonic clock that grows by more than this is a jump, not slew.
JUMP_SECONDS = 2.0


def interval_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """Return the interval at which systemd wants a ping, or None if it wants none (sd_watchdog_enabled(3))."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 / PINGS_PER_INTERVAL if microseconds.isdigit() else None


@asynccontextmanager
async def asking_for_time(
    words: Callable[[], str], worked_seconds: Callable[[], float] = time.process_time
) -> AsyncIterator[None]:
    """While a start works, however long it takes, keep systemd from giving it up; a restarted one's watchdog, too."""
    task = asyncio.create_task(_ask_for_time(words, worked_seconds), name="asking for time")
    try:
        yield
    finally:
        task.cancel()


async def _ask_for_time(words: Callable[[], str], worked_seconds: Callable[[], float]) -> None:
    worked = float("-inf")
    while True:
        now = worked_seconds()
        if now - worked >= WORKING_SHARE * START_WORD_SECONDS:
            patience = f"EXTEND_TIMEOUT_USEC={int(START_PATIENCE_SECONDS * 1e6)}"
            notify(patience, "WATCHDOG=1", f"STATUS=starting{words()}")
        worked = now
        await asyncio.sleep(START_WORD_SECONDS)


async def feed(interval: float, cycles: Callable[[], int], ledger_commits: Callable[[], int | None]) -> None:
    """Ping as long as the control loop turns, and the ledger's writer commits while turns wait for it."""
    log = structlog.get_logger("epad.watchdog")
    seen_cycles, seen_commits = -1, None
    while True:
        await asyncio.sleep(interval)
        now_cycles, now_commits = cycles(), ledger_commits()
        loop_moves = now_cycles != seen_cycles
        ledger_moves = now_commits is None or now_commits != seen_commits
        seen_cycles, seen_commits = now_cycles, now_commits
        if loop_moves and ledger_moves:
            notify("WATCHDOG=1")
        else:
            log.error("watchdog.withheld", control_loop_moves=loop_moves, ledger_moves=ledger_moves)


async def watch_clock(clock: Clock, jumped: Callable[[float], None]) -> None:
    """Say when somebody set the wall clock. Nothing is decided from it, but stamps are shown and jobs are due."""
    started, base = clock.utc(), clock.monotonic()
    while True:
        await sleep_to_beat(CLOCK_CHECK_SECONDS)
        now, monotonic = clock.utc(), clock.monotonic()
        jump = _drift(started, base, now, monotonic)
        if abs(jump) > JUMP_SECONDS:
            jumped(jump)
        started, base = now, monotonic


def _drift(started: datetime, base: float, now: datetime, monotonic: float) -> float:
    return (now - started).total_seconds() - (monotonic - base)
