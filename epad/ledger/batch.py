"""Many entries as rows: each encoded once, hashed as it is stored, linked to the one before, and inserted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import apsw

from epad.ledger.entry import Entry, OpenTurn, Stamp, closed, opened
from epad.ledger.record import GENESIS, Kind, encode, leaf_hash, link_hash
from epad.ledger.rows import Values

# One statement for many rows: SQLite gives up the GIL once a statement, and a busy loop is slow to give it back
# (measured: 0.8 ms a commit of 64 records beside a loop that never rests, 2.7 ms with a statement each).
# Powers of two, so that a batch of any size is few statements, each prepared once.
_INSERTS = {
    rows: f"INSERT INTO record VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, ?)'] * rows)}"  # noqa: S608  constants only
    for rows in (64, 32, 16, 8, 4, 2, 1)
}


@dataclass(frozen=True, slots=True)
class Tail:
    """Points to the end of the chain: after `seq`, continuing `link`."""

    seq: int = 0
    link: bytes = GENESIS


def rows_of(entries: Sequence[Entry], tail: Tail, stamp: Stamp) -> list[Values]:
    """Build the rows that come after `tail`.

    Raises ValueError, OverflowError, TypeError for an entry that cannot be written.
    """
    sequence, link, wall_ns = tail.seq, tail.link, stamp.wall_ns
    rows: list[Values] = []
    for entry in entries:
        sequence += 1
        if isinstance(entry, OpenTurn):
            kind, body = Kind.OPENED, encode(opened(entry, stamp))
        else:
            kind, body = Kind.CLOSED, encode(closed(entry, stamp))
        leaf = leaf_hash(body)
        link = link_hash(link, sequence, leaf)
        rows.append((sequence, entry.turn, kind, entry.subsystem, wall_ns, body, leaf, link))
    return rows


def insert(connection: apsw.Connection, rows: Sequence[Values]) -> None:
    """Insert rows, within the transaction that is open. Raises apsw.Error."""
    start = 0
    for count, statement in _INSERTS.items():
        while len(rows) - start >= count:
            connection.execute(statement, tuple(chain.from_iterable(rows[start : start + count])))
            start += count


def tail_of(rows: Sequence[Values]) -> Tail:
    """Return the tail after these rows."""
    return Tail(rows[-1][0], rows[-1][7])
