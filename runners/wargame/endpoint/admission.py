"""Decide how many calls are in flight at one endpoint: doubled while that pays, then one more at a time. No I/O."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Final

from runners.wargame.outcomes import CallOutcome

CONGESTION: Final = frozenset({CallOutcome.HTTP_429, CallOutcome.TIMEOUT})
CUT: Final = 0.7
LEAST_WINDOW: Final = 16
HOLD_WINDOWS: Final = 10
"""After more in flight brought nothing, so many windows pass before it is tried again."""


@dataclass(frozen=True, slots=True)
class Window:
    """Holds the figures of one window of calls."""

    limit: int
    calls_per_second: float
    latency_seconds: float

    def outgrew(self, smaller: Window) -> bool:
        """Tell if more calls in flight bought waiting instead of work: a server that runs one at a time."""
        growth = self.limit / smaller.limit - 1
        return (
            growth > 0
            and self.calls_per_second < (1 + growth / 4) * smaller.calls_per_second
            and self.latency_seconds > (1 + growth / 2) * smaller.latency_seconds
        )


class Admission:
    """The limit, and the calls since it was last looked at. `now` is any clock that only grows."""

    def __init__(self, ceiling: int, start: int = 4) -> None:
        self.limit = max(1, min(start, ceiling))
        self._ceiling = max(1, ceiling)
        self._doubling = True
        self._hold = 0
        self._last: Window | None = None
        self._latencies: list[float] = []
        self._congested = self._full = False
        self._began: float | None = None

    def started(self, in_flight: int, now: float) -> None:
        """Take note that a call leaves, as number `in_flight`."""
        self._began = now if self._began is None else self._began
        self._full = self._full or in_flight >= self.limit

    def ended(self, outcome: CallOutcome, status: int, latency_seconds: float, now: float) -> None:
        """Take in the outcome of a call."""
        if outcome in CONGESTION or status == 503:
            if not self._congested:
                self.limit = max(1, int(self.limit * CUT))
            self._congested, self._doubling = True, False
        self._latencies.append(latency_seconds)
        if len(self._latencies) >= max(LEAST_WINDOW, 2 * self.limit):
            self._close(now)

    def _close(self, now: float) -> None:
        elapsed = max(1e-6, now - (self._began if self._began is not None else now))
        window = Window(self.limit, len(self._latencies) / elapsed, statistics.median(self._latencies))
        if not self._congested and self._full:
            self._decide(window)
        self._latencies, self._congested, self._full, self._began = [], False, False, None

    def _decide(self, window: Window) -> None:
        if self._last is not None and window.outgrew(self._last):
            self.limit, self._doubling, self._hold = self._last.limit, False, HOLD_WINDOWS
            return
        if self._hold:
            self._hold -= 1
            return
        self._last = window
        self.limit = min(self._ceiling, 2 * self.limit if self._doubling else self.limit + 1)
