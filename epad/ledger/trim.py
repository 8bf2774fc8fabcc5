"""Keep the ledger within a number of records: the oldest bodies go, their hashes stay.

A body goes with its second copy, a segment at a time, and only once three things are on the disk: the sums of all
records up to it, in a record of the kind `Trimmed` (rule: spending is never forgotten); the seal behind it; and both of
the sums that a start reads. Its leaf and link stay, 64 bytes: every link still follows from the one before, every
head's root can still be derived, and a proof of inclusion still holds.

| a crash comes | the next start finds | and does |
|---|---|---|
| before the record is written | nothing | at the next seal it is planned again |
| between the record and the last body | bodies that may be missing and are there | drops them |
| before a segment is deleted | a segment that may be missing and is there | deletes it |

Rows are deleted and written again, smaller, instead of being updated: SQLite gives a page back only when deleting
leaves it empty, and later rows go into the pages given back. The file grows by the hashes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw

from epad.ledger.append import Make
from epad.ledger.entry import Stamp
from epad.ledger.head import Verifier
from epad.ledger.kept_sums import KEPT, kept_sums
from epad.ledger.record import Trimmed
from epad.ledger.rows import row_at, trimmed_through
from epad.ledger.seal import all_seals
from epad.ledger.spent import sums_through
from epad.storage.database import fetch

BATCH_ROWS = 250
"""Bodies dropped in one transaction: 1.5 ms at the median, 16 at most (bench/retention.py). Turns wait no longer."""

_HASHES = "SELECT seq, leaf, link FROM record WHERE seq BETWEEN ? AND ? ORDER BY seq"
_DELETE = "DELETE FROM record WHERE seq BETWEEN ? AND ?"
_HASHES_ALONE = "INSERT INTO record VALUES (?, NULL, 0, NULL, 0, NULL, ?, ?)"


@dataclass(frozen=True, slots=True)
class Trim:
    """Plans to drop the bodies of records up to `through`; `sums` is the sum of these records."""

    through: int
    sums: bytes
    keep_records: int

    @property
    def record(self) -> Make:
        """Makes the record that says so."""

        def make(stamp: Stamp) -> Trimmed:
            return Trimmed(
                through=self.through,
                sums=self.sums,
                reason=f"[ledger] keep_records = {self.keep_records}",
                wall_ns=stamp.wall_ns,
                boot_id=stamp.boot_id,
                monotonic_ns=stamp.monotonic_ns,
                epoch=stamp.epoch,
            )

        return make


def plan_trim(
    connection: apsw.Connection,
    keep_records: int,
    last: int,
    verifier: Verifier | None,
    pause: Callable[[], None] = lambda: None,
) -> Trim | None:
    """Say which bodies are one segment or more beyond `keep_records`; None where none are, or where 0 keeps all.

    None also where the newest sums are not there or not believed, and where a record up to there is damaged: nothing
    is dropped that a repair may still need, or that has not been counted.
    """
    trusted = [sums.through for sums in kept_sums(connection, verifier)]
    if not keep_records or len(trusted) < KEPT:
        return None
    before = trimmed_through(connection)
    limit = min(last - keep_records, *trusted)
    ends = (seal.trailer.last for seal in all_seals(connection).values())
    through = max((end for end in ends if before < end <= limit), default=0)
    if not through:
        return None
    sums = sums_through(connection, through, verifier, pause)
    return None if sums is None else Trim(through, sums, keep_records)


def drop_bodies(connection: apsw.Connection, first: int, through: int) -> int:
    """Drop the bodies of some records from `first` on, within a transaction; return where to go on."""
    last = min(first + BATCH_ROWS - 1, through)
    hashes = fetch(connection, _HASHES, (first, last))
    connection.execute(_DELETE, (first, last))
    connection.executemany(_HASHES_ALONE, hashes)
    return last + 1


def first_body(connection: apsw.Connection, through: int) -> int:
    """The first record up to `through` whose body is there, since bodies go in order; `through` + 1 if none is."""
    low, high = 1, through + 1
    while low < high:
        middle = (low + high) // 2
        row = row_at(connection, middle)
        if row is not None and row.body is None:
            low = middle + 1
        else:
            high = middle
    return low


def drop_segments(connection: apsw.Connection, directory: Path, through: int) -> None:
    """Delete the second copies of records whose bodies have gone. Raises OSError."""
    for seal in all_seals(connection).values():
        if seal.trailer.last <= through:
            (directory / seal.name).unlink(missing_ok=True)
