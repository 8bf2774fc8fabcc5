"""Limit the calls of tools a minute, by subsystem: counted before anything is awaited, so no two share one place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from epad.tools.owners import Owner, itself
from statemachine.clock import Clock

WINDOW_SECONDS: Final = 60.0


class CallRates:
    """Counts calls in a sliding minute, as calls of their `owner`. `limit` returns a subsystem's limit; 0 is none."""

    def __init__(self, limit: Callable[[str], int], clock: Clock, owner: Owner = itself) -> None:
        self._limit = limit
        self._owner = owner
        self._clock = clock
        self._calls: dict[str, deque[float]] = {}

    def left(self, subsystem: str) -> int | None:
        """Return how many calls fit now; None without a limit."""
        subsystem = self._owner(subsystem)
        limit = self._limit(subsystem)
        since = self._clock.monotonic() - WINDOW_SECONDS
        made = sum(at > since for at in self._calls.get(subsystem, ()))
        return max(0, limit - made) if limit else None

    def take(self, subsystem: str) -> float:
        """Count one call: 0 if it fits, else the seconds until the next one does, and nothing is counted."""
        subsystem = self._owner(subsystem)
        limit = self._limit(subsystem)
        if not limit:
            return 0.0
        now = self._clock.monotonic()
        calls = self._calls.setdefault(subsystem, deque())
        while calls and calls[0] <= now - WINDOW_SECONDS:
            calls.popleft()
        if len(calls) >= limit:
            return min(WINDOW_SECONDS, calls[len(calls) - limit] + WINDOW_SECONDS - now)
        calls.append(now)
        return 0.0
