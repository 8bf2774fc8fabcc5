"""Say whose limits a subsystem's calls count in: its own, or those of whoever has spawned it."""

from __future__ import annotations

from collections.abc import Callable

Owner = Callable[[str], str]


def itself(subsystem: str) -> str:
    """Return a subsystem, which counts in its own limits."""
    return subsystem
