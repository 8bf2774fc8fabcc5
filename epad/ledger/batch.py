"""Make rows of entries, each encoded once, hashed as it is stored and linked to the one before, and insert them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import apsw

from epad.ledger.entry import Entry, Stamp, record_of
from epad.ledger.errors import LedgerError, RecordError
from epad.ledger.hashes import leaf_hash, link_hash
from epad.ledger.record import Record, columns_of, encode
from epad.ledger.rows import Values
from epad.ledger.tail import Tail

# One statement for many rows: SQLite gives up the GIL once a statement, and a busy loop is slow to give it back
# (measured: 0.8 ms a commit of 64 records beside a loop that never rests, 2.7 ms with a statement each).
# Powers of two, so that a batch of any size is few statements, each prepared once.
_INSERTS = {
    rows: f"INSERT INTO record VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, ?)'] * rows)}"  # noqa: S608  constants only
    for rows in (64, 32, 16, 8, 4, 2, 1)
}


def rows_of(entries: Sequence[Entry], tail: Tail, stamp: Stamp) -> list[Values]:
    """Build the rows that come after `tail`.

    Raises ValueError, OverflowError, TypeError for an entry that cannot be written.
    """
    sequence, link, wall_ns = tail.seq, tail.link, stamp.wall_ns
    rows: list[Values] = []
    for entry in entries:
        sequence += 1
        record = record_of(entry, stamp)
        turn, kind, subsystem, _ = columns_of(record)
        body = encode(record)
        leaf = leaf_hash(body)
        link = link_hash(link, sequence, leaf)
        rows.append((sequence, turn, kind, subsystem, wall_ns, body, leaf, link))
    return rows


def insert(connection: apsw.Connection, rows: Sequence[Values]) -> None:
    """Insert rows, within the transaction that is open. Raises apsw.Error."""
    start = 0
    for count, statement in _INSERTS.items():
        while len(rows) - start >= count:
            connection.execute(statement, tuple(chain.from_iterable(rows[start : start + count])))
            start += count


def insert_one(connection: apsw.Connection, tail: Tail, record: Record) -> tuple[Tail, bytes]:
    """Insert one record of any kind after the tail; return the new tail and the record's leaf.

    Raises LedgerError if it alone cannot be taken.
    """
    turn, kind, subsystem, wall_ns = columns_of(record)
    sequence = tail.seq + 1
    try:
        body = encode(record)
        leaf = leaf_hash(body)
        link = link_hash(tail.link, sequence, leaf)
        connection.execute(_INSERTS[1], (sequence, turn, kind, subsystem, wall_ns, body, leaf, link))
    except apsw.ConstraintError as error:
        raise LedgerError(f"turn {turn} is {kind.name.lower()} already: {error}") from error
    except (ValueError, OverflowError, TypeError) as error:
        raise RecordError(f"turn {turn}: its record cannot be written: {error}") from error
    return Tail(sequence, link), leaf


def tail_of(rows: Sequence[Values]) -> Tail:
    """Return the tail after these rows."""
    return Tail(rows[-1][0], rows[-1][7])
