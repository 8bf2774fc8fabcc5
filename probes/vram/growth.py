"""Measure the growth of a figure, so that one step up (a model that was loaded) is not mistaken for a leak."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from statistics import median

# Pairs grow with the square: 32 points are 496 slopes, 0.1 ms; all samples of ten minutes would be 7,140.
POINTS = 32
LEAST_POINTS = 8

Point = tuple[float, float]


def theil_sen(points: Iterable[Point]) -> float:
    """The median of the slopes between all pairs: outliers among less than 29 % of the points do not move it."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in itertools.combinations(points, 2) if x2 > x1]
    return median(slopes) if slopes else 0.0


class Growth:
    """Holds one figure over a window; bounded, regardless of the rate of samples."""

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._points: deque[Point] = deque(maxlen=POINTS)
        self._latest: Point | None = None

    def add(self, at: float, value: float) -> None:
        """Take in a sample; they come in the order of time."""
        if not self._points or at - self._points[-1][0] >= self._window_seconds / POINTS:
            self._points.append((at, value))
        self._latest = (at, value)
        while self._points[0][0] < at - self._window_seconds:
            self._points.popleft()

    @property
    def grown(self) -> float:
        """Return the growth since the beginning of the window."""
        return self._latest[1] - self._points[0][1] if self._latest is not None and self._points else 0.0

    @property
    def seconds(self) -> float:
        """Return the seconds of the window that are known."""
        return self._latest[0] - self._points[0][0] if self._latest is not None and self._points else 0.0

    @property
    def per_second(self) -> float | None:
        """Return the slope that the whole window and its last quarter both show; None before enough is known.

        A step in the middle of the window makes more than half of all pairs rise: the median alone would call
        a model that was loaded five minutes ago a leak of 18 MB/s. The last quarter is level by then.
        """
        if len(self._points) < LEAST_POINTS or self.seconds < self._window_seconds / 2:
            return None
        points = list(self._points)
        return min(theil_sen(points), theil_sen(points[-(max(len(points) // 4, 3)) :]))
