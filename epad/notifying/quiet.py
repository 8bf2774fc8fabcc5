"""Quiet hours: a span of the local day, whatever its clock does in between. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, tzinfo


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` of each local day, over midnight where the end is earlier; none where both are the same.

    Both are read off the wall: where the clock is put forward or back, the night is an hour shorter or longer.
    `zone` is the machine's if None.
    """

    begin: time = time(0)
    end: time = time(0)
    zone: tzinfo | None = None

    @classmethod
    def parse(cls, text: str, zone: tzinfo | None = None) -> QuietHours:
        """Read `23:00-07:00`; empty is none. Raises ValueError."""
        if not text:
            return cls(zone=zone)
        begin, dash, end = text.partition("-")
        if not dash:
            raise ValueError(f'"{text}" is no span of hours such as "23:00-07:00"')
        return cls(time.fromisoformat(begin), time.fromisoformat(end), zone)

    def contains(self, at: datetime) -> bool:
        """Tell if a moment is in quiet hours; it must have a zone of its own."""
        now = at.astimezone(self.zone).time()
        if self.begin <= self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end
