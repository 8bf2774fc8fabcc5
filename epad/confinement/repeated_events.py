"""Write events so that the same within a few seconds are one, with the number of those that were left out.

Nothing of them is lost: bytes of events that were left out are summed up (`sent_bytes_before`,
`received_bytes_before`), and where no other of the same comes, the last one is written soon after, or at `settle`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from epad.storage.event_log import EventKind, EventLog
from statemachine.clock import Clock

EVENT_SECONDS: Final = 5.0
"""One event of the log stands for all of the same in this time."""
_MOST_SILENT: Final = 1_000
_SUMMED: Final = ("sent_bytes", "received_bytes")

_Key = tuple[object, ...]


@dataclass(slots=True)
class _Silence:
    """Holds when an event was written, and those of the same that came since."""

    told_at: float
    kind: EventKind
    subsystem: str
    unsaid: int = 0
    last: dict[str, object] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def leave_out(self, fields: dict[str, object]) -> None:
        """Count an event that is not written."""
        self.unsaid += 1
        self.last = fields
        for name in _SUMMED:
            if isinstance(number := fields.get(name), int):
                self.bytes[name] = self.bytes.get(name, 0) + number

    def before(self) -> dict[str, int]:
        """Return the sums of what was left out, as fields of the next event."""
        sums = {f"{name}_before": number for name, number in self.bytes.items()}
        return {**sums, "unsaid_before": self.unsaid}


class RepeatedEvents:
    """Remembers when each event was last written. Of very many different ones the oldest are forgotten."""

    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._silent: dict[_Key, _Silence] = {}
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, kind: EventKind, subsystem: str, same: _Key, **fields: object) -> None:
        """Write an event, unless the same was written just now: then it is counted into the next."""
        now, key = self._clock.monotonic(), (kind, subsystem, *same)
        former = self._silent.get(key)
        if former is not None and now - former.told_at < EVENT_SECONDS:
            former.leave_out(fields)
            self._settle_later()
            return
        self._silent.pop(key, None)
        self._silent[key] = _Silence(now, kind, subsystem)
        if len(self._silent) > _MOST_SILENT:
            self._tell(self._silent.pop(next(iter(self._silent))))
        self._events.emit(kind, subsystem, **fields, **(former or _NOTHING).before())

    def settle(self) -> None:
        """Write the last of each that was left out, with the sums of those before it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.monotonic()
        for key, silence in list(self._silent.items()):
            if silence.unsaid:
                self._silent[key] = _Silence(now, silence.kind, silence.subsystem)
                self._tell(silence)

    def _tell(self, silence: _Silence) -> None:
        if not silence.unsaid:
            return
        silence.unsaid -= 1  # the last one speaks for itself
        for name in silence.bytes:
            number = silence.last.get(name)
            silence.bytes[name] -= number if isinstance(number, int) else 0
        self._events.emit(silence.kind, silence.subsystem, **silence.last, **silence.before())

    def _settle_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVENT_SECONDS, self.settle)


_NOTHING: Final = _Silence(0.0, EventKind.NOTICE, "")
