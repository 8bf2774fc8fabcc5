"""Count and time turns in plain numbers until the metrics are read.

A metric's own counter takes a lock, and its histogram looks through its buckets: 1 to 3 us, seven times in every turn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

# So many durations wait at most; to put them into their buckets together takes a third of the time.
MOST_WAITING = 256

Labels = tuple[str, ...]
"""Label values come from the configuration and closed enums, so there are few."""


class Counter(Protocol):
    """Holds one series of a counter."""

    def inc(self, amount: float) -> None: ...


class Histogram(Protocol):
    """Holds one series of a histogram."""

    def observe(self, amount: float) -> None: ...


class Tally(defaultdict[Labels, float]):
    """Counts each series since the metric was last read; `add_up` puts the counts there."""

    def __init__(self, series: Callable[..., Counter]) -> None:
        super().__init__(int)
        self._series = series

    def add_up(self) -> None:
        """Put the counts into the metric."""
        for labels, amount in self.items():
            self._series(*labels).inc(amount)
        self.clear()


class Durations:
    """Collects durations since the histogram was last read, in seconds."""

    def __init__(self, series: Callable[..., Histogram]) -> None:
        self._series = series
        self._waiting: list[tuple[Labels, float]] = []

    def add(self, labels: Labels, seconds: float) -> None:
        """Add one more."""
        self._waiting.append((labels, seconds))
        if len(self._waiting) >= MOST_WAITING:
            self.add_up()

    def add_up(self) -> None:
        """Put the durations into the histogram."""
        waiting, self._waiting = self._waiting, []
        series = {labels: self._series(*labels) for labels in {labels for labels, _ in waiting}}
        for labels, seconds in waiting:
            series[labels].observe(seconds)
