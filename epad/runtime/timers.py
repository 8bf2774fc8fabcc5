"""Align the daemon's timers to one tick, so that they wake it together.

Each on its own woke an idle daemon 26 times a second, and a wake-up costs 70 us beside the work that is done in it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic, TypeVar

from statemachine.clock import Clock

T = TypeVar("T")

BEAT_SECONDS = 0.5
SHARED_SECONDS = 0.02


def beat_after(now: float, seconds: float) -> float:
    """The beat next to so many seconds from now, on the loop's clock; less than a beat is left as it is."""
    due = now + seconds
    return due if seconds < BEAT_SECONDS else math.floor(due / BEAT_SECONDS + 0.5) * BEAT_SECONDS


async def sleep_to_beat(seconds: float) -> None:
    """Sleep about so long, to a beat."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(beat_after(now, seconds) - now)


class OncePerBeat(Generic[T]):
    """Computes a value once for all users within a tick; it is at most SHARED_SECONDS old."""

    def __init__(self, take: Callable[[], T], clock: Clock) -> None:
        self._take = take
        self._clock = clock
        self._taken: T | None = None
        self._taken_at = float("-inf")

    def __call__(self) -> T:
        now = self._clock.monotonic()
        if self._taken is None or now - self._taken_at > SHARED_SECONDS:
            self._taken, self._taken_at = self._take(), now
        return self._taken
