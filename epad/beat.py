"""One beat for all of the daemon's timers, so that they wake it together.

Each on its own woke an idle daemon 26 times a second, and a wake-up costs 70 us beside the work that is done in it.
"""

from __future__ import annotations

import asyncio
import math

BEAT_SECONDS = 0.25


def beat_after(now: float, seconds: float) -> float:
    """The beat next to so many seconds from now, on the loop's clock; less than a beat is left as it is."""
    due = now + seconds
    return due if seconds < BEAT_SECONDS else math.floor(due / BEAT_SECONDS + 0.5) * BEAT_SECONDS


async def sleep_to_beat(seconds: float) -> None:
    """Sleep about so long, to a beat."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(beat_after(now, seconds) - now)
