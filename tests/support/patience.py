"""How long a test waits for what must come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 300.0
"""Nothing is asserted of how long anything takes: a program may have a twentieth of a core, and then takes a minute
to start. What has not come by then never will. A test as a whole may take three times as long (pyproject.toml)."""


async def until(holds: Callable[[], object], what: str = "what was waited for") -> None:
    """Wait until something holds."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what}: it never came") from None
