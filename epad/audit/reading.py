"""Read the audit out of a ledger's file: every record from a time on, checked against the chain as it is read.

Memory stays bounded however many records there are: a chunk of rows is held at a time, and the first faults. A record
that cannot be trusted is no row: it is a fault. The record to begin with is found by halves, since the wall clock goes
forward; where it was set back, records of before that may be left out, and the event `clock.jumped` tells of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import apsw

from epad.audit.row import GAP, Row, row_of
from epad.ledger.chain import Fault, Walker, walker_at
from epad.ledger.errors import RecordError
from epad.ledger.query import sound
from epad.ledger.record import Record, decode
from epad.ledger.rows import Row as Stored
from epad.ledger.rows import Unreadable, Values, known_last, read_chunks, row_at, trimmed_through

MOST_GAPS: Final = 100
EVER: Final = (1 << 63) - 1
"""No time is later."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Says which rows are wanted; what is empty is not asked about. Times are of the wall clock, in nanoseconds."""

    since_ns: int = 0
    until_ns: int = EVER
    kinds: tuple[str, ...] = ()
    who: str = ""
    subsystem: str = ""
    outcome: str = ""
    session: str = ""

    def takes(self, row: Row) -> bool:
        """Tell if a row is wanted; a kind may also be the name of an event."""
        return (
            self.since_ns <= row.happened_ns <= self.until_ns
            and (not self.kinds or row.kind in self.kinds or row.event in self.kinds)
            and self.who in {"", row.who}
            and self.subsystem in {"", row.subsystem}
            and self.outcome in {"", row.outcome}
            and self.session in {"", row.session}
        )


@dataclass(slots=True)
class Reading:
    """Holds what was found out about the chain while rows were read."""

    first: int = 0
    last: int = 0
    shown: int = 0
    trimmed: int = 0
    """Records of which only the hashes are kept."""
    lost: int = 0
    """Records that a repair has told to be lost."""
    faults: Sequence[Fault] = ()
    unlisted: int = 0
    """Faults beyond those that are listed."""
    gaps: list[str] = field(default_factory=list)
    """What the audit itself tells to have lost."""

    @property
    def read(self) -> int:
        """Return how many records were read."""
        return self.last - self.first + 1


def audit_rows(connection: apsw.Connection, wanted: Wanted, reading: Reading) -> Iterator[Row]:
    """Yield the wanted rows in their order; `reading` has the faults once all were read. Raises apsw.Error."""
    first = first_since(connection, wanted.since_ns)
    walker = walker_at(connection, first)
    reading.first = first
    for item in read_chunks(connection, first):
        for number, record in _sound_records(walker, item):
            row = row_of(number, record)
            if row.event == GAP and len(reading.gaps) < MOST_GAPS:
                reading.gaps.append(f"record {number}: {row.what}")
            if wanted.takes(row):
                reading.shown += 1
                yield row
    walker.finish(known_last(connection) or 0)
    reading.last = walker.expected - 1
    reading.trimmed, reading.lost = walker.trimmed, walker.tombstones
    reading.faults, reading.unlisted = tuple(walker.faults), walker.unlisted


def _sound_records(walker: Walker, item: list[Values] | Stored | Unreadable) -> Iterator[tuple[int, Record]]:
    """Check a chunk, and yield its sound records with their numbers."""
    if isinstance(item, list) and walker.step_all(item):
        for row in item:
            yield row[0], decode(row[0], row[5])
        return
    for one in [Stored(*row) for row in item] if isinstance(item, list) else [item]:
        number = walker.step(one)
        if number is None or isinstance(one, Unreadable) or not isinstance(one.body, bytes):
            continue
        record = sound(number, one.body, one.leaf)
        if record is not None:
            yield number, record


def first_since(connection: apsw.Connection, since_ns: int) -> int:
    """Return the number of the first record that is not before a time."""
    if not since_ns:
        return 1
    low, high = trimmed_through(connection) + 1, (known_last(connection) or 0) + 1
    while low < high:
        middle = (low + high) // 2
        wall_ns = _wall_ns(connection, middle)
        if wall_ns is None or wall_ns >= since_ns:  # where it cannot be told, more is read, and never less
            high = middle
        else:
            low = middle + 1
    return low


def _wall_ns(connection: apsw.Connection, number: int) -> int | None:
    """Return the time in a record's body, since columns are only copies; None where it cannot be read."""
    try:
        row = row_at(connection, number)
        return decode(number, row.body).wall_ns if row is not None and isinstance(row.body, bytes) else None
    except (RecordError, apsw.Error):
        return None
