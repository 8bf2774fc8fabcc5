"""Write events so that the same within a few seconds are one, with the number of those that were left out."""

from __future__ import annotations

from typing import Final

from epad.storage.event_log import EventKind, EventLog
from statemachine.clock import Clock

EVENT_SECONDS: Final = 5.0
"""One event of the log stands for all of the same in this time."""
_MOST_SILENT: Final = 1_000


class RepeatedEvents:
    """Remembers when each event was last written. Of very many different ones the oldest are forgotten."""

    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._silent: dict[tuple[object, ...], tuple[float, int]] = {}

    def emit(self, kind: EventKind, subsystem: str, same: tuple[object, ...], **fields: object) -> None:
        """Write an event, unless the same was written just now: then it is counted into the next."""
        now, key = self._clock.monotonic(), (kind, subsystem, *same)
        told_at, unsaid = self._silent.get(key, (float("-inf"), 0))
        if now - told_at < EVENT_SECONDS:
            self._silent[key] = (told_at, unsaid + 1)
            return
        self._silent.pop(key, None)
        self._silent[key] = (now, 0)
        if len(self._silent) > _MOST_SILENT:
            del self._silent[next(iter(self._silent))]
        self._events.emit(kind, subsystem, **fields, unsaid_before=unsaid)
