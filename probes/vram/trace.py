"""Keep the use of a GPU's memory over the last hours: for people to look at, never for a decision."""

from __future__ import annotations

from collections import deque

SPAN_SECONDS = 60.0
# Four hours: a night's trouble is in the events and in Prometheus, an evening's is here.
POINTS = 240

Point = tuple[float, int]


class Trace:
    """The highest use within each minute; bounded, whatever the rate of samples."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=POINTS)

    def add(self, at: float, used_bytes: int) -> None:
        """Take in a sample; they come in the order of time."""
        begun = at // SPAN_SECONDS * SPAN_SECONDS
        if self._points and self._points[-1][0] == begun:
            self._points[-1] = begun, max(self._points[-1][1], used_bytes)
        else:
            self._points.append((begun, used_bytes))

    @property
    def points(self) -> tuple[Point, ...]:
        """The beginning of each minute in which something was read, and the most that was in use then."""
        return tuple(self._points)
