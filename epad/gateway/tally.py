"""Count turns in plain numbers until the metrics are read.

A metric's own counter takes a lock: 1 us, five times in every turn. Durations are `epad/metrics/durations.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

Labels = tuple[str, ...]
"""Label values come from the configuration and closed enums, so there are few."""


class Counter(Protocol):
    """Holds one series of a counter."""

    def inc(self, amount: float) -> None: ...


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
