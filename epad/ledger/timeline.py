"""Date records by their age, which no setting of the wall clock changes.

Within a boot of the machine the age comes from the clock that the records carry beside the wall clock: CLOCK_BOOTTIME,
which no one can set and which goes on in suspend, as a budget's minute and month do. The running windows use the same
clock, so a restart agrees with them.

Between two boots only the wall clock goes on. It is used for one thing: the time between the last known reading of a
boot and the first record of the next. So a step counts only if it falls between these two. The last reading is a
record, or a mark that was kept when the wall clock was set (clock_marks.py). The assumption: the wall clock was as
right at the one as at the other. If it went backwards, no time is taken to have passed, so that a spend counts for
longer, never for less long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Stamped(Protocol):
    """Holds the clocks that every record and every stamp carries."""

    @property
    def wall_ns(self) -> int: ...

    @property
    def boot_id(self) -> str: ...

    @property
    def monotonic_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Mark:
    """A reading of a boot's clock, and how long ago that was."""

    clock_ns: int
    age_ns: int


class Timeline:
    """Ages as seen from `now`; records are placed newest first, each boot by its newest record.

    Without any record placed, this boot goes by its own clock, every other by the wall clock.
    """

    def __init__(self, now: Stamped, marks: Mapping[str, Stamped] | None = None) -> None:
        self.now = now
        self._last_readings = marks or {}
        self._marks = {now.boot_id: _Mark(_clock_ns(now), 0)}
        self._oldest: Stamped = now
        self.reached_ns = 0
        """The age of the record placed last."""

    def place(self, record: Stamped) -> int:
        """Return the age of a record that is older than those placed before it, in nanoseconds."""
        if record.boot_id not in self._marks:
            last = self._last_reading(record)
            between_ns = max(0, self._oldest.wall_ns - last.wall_ns)
            self._marks[record.boot_id] = _Mark(_clock_ns(last), self.reached_ns + between_ns)
        self.reached_ns = self.age_ns(record)
        self._oldest = record
        return self.reached_ns

    def _last_reading(self, record: Stamped) -> Stamped:
        """The boot's mark or its newest record; of two at the same moment the one with less time after it."""
        mark = self._last_readings.get(record.boot_id, record)
        return max(record, mark, key=lambda reading: (reading.monotonic_ns, reading.wall_ns))

    def age_ns(self, stamp: Stamped) -> int:
        """Return the age of a stamp; one that seems to lie ahead counts as now."""
        mark = self._marks.get(stamp.boot_id)
        if mark is None:
            return max(0, self.now.wall_ns - stamp.wall_ns)
        return mark.age_ns + max(0, mark.clock_ns - _clock_ns(stamp))


def _clock_ns(stamp: Stamped) -> int:
    """Return the boot's clock; the wall clock where the boot is not known."""
    return stamp.monotonic_ns if stamp.boot_id else stamp.wall_ns
