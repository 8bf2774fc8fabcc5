"""Compare signed heads with the records: check that the end is there, and that it is the same history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import apsw

from epad.ledger.anchor import Heads, read_heads
from epad.ledger.chain import Fault, FaultKind, links_before
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.hashes import leaf_hash, link_hash
from epad.ledger.head import Head
from epad.ledger.rows import DAMAGE, INDEXES, Row, Unreadable, repaired_spans, row_at
from epad.ledger.tree import LOST_LEAF, Frontier
from epad.storage.database import fetch

INDEX_FAULTS_SHOWN = 10
_ENTRIES = "SELECT count(*) FROM record INDEXED BY record_turn WHERE seq <= ?"
_COUNTS = (
    "SELECT (SELECT count(*) FROM record NOT INDEXED), (SELECT count(*) FROM record INDEXED BY record_turn)"
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Holds the faults of the whole, and the number of records at the end that no head covers."""

    faults: tuple[Fault, ...] = ()
    unanchored: int = 0


def heads_at(anchor: Path | None, log_bytes: int | None) -> Heads:
    """Return the heads, none where none are kept. Raises LedgerUnavailableError."""
    if anchor is None:
        return Heads()
    try:
        return read_heads(anchor, log_bytes)
    except OSError as error:
        raise LedgerUnavailableError(f"{anchor}: {error.strerror}") from error


def judge(connection: apsw.Connection, heads: Heads, last: int) -> Judgement:
    """Compare records that end at `last` with the heads, by their links."""
    faults = [Fault(0, FaultKind.HEAD, detail) for detail in heads.faults]
    newest = heads.newest
    if newest is None:
        return Judgement(tuple(faults), last if _was_anchored(connection) else 0)
    if newest.size > last:
        detail = f"a signed head speaks of {newest.size} records, there are {last}"
        faults.append(Fault(last + 1, FaultKind.TRUNCATED, detail, newest.size))
    sound = 0
    for head in heads.known:
        if head.size > last:
            break
        if is_other_history(connection, head):
            detail = f"after record {sound} this is not the history that was signed up to {head.size}"
            faults.append(Fault(sound + 1, FaultKind.FORKED, detail, head.size))
            break
        sound = head.size
    return Judgement(tuple(faults), max(0, last - newest.size))


def _was_anchored(connection: apsw.Connection) -> bool:
    """Tell if this ledger once had heads, so that none at all deserves a report."""
    try:
        return bool(fetch(connection, "SELECT 1 FROM meta WHERE key = 'anchored'"))
    except (apsw.SQLError, *DAMAGE):
        return False


def is_other_history(connection: apsw.Connection, head: Head) -> bool:
    """Tell if the record at a head's end is whole and differs from the signed one; damage is no fork."""
    if head.size == 0 or head.link in (links := links_before(connection, head.size + 1)) or not links:
        return False
    try:
        row = row_at(connection, head.size)
    except DAMAGE:
        return False
    if row is None or not isinstance(row.body, bytes):
        return False
    leaf = leaf_hash(row.body)
    return leaf == row.leaf and any(
        row.link == link_hash(link, head.size, leaf) for link in links_before(connection, head.size)
    )


class HeadTree:
    """The Merkle tree derived anew beside a walk, and compared with every head as it comes by."""

    def __init__(self, heads: Heads) -> None:
        self._frontier = Frontier()
        self._waiting = list(heads.known)[::-1]
        self._differing: list[Head] = []

    def leaves(self, leaves: Iterable[bytes]) -> None:
        for leaf in leaves:
            self._frontier.append(leaf)
            if self._waiting and self._waiting[-1].size <= self._frontier.size:
                self._compare()

    def row(self, item: Row | Unreadable, expected: int) -> None:
        """Take in a row that is not plainly sound; missing ones before it count as lost."""
        if isinstance(item, Unreadable):
            return
        self.leaves(LOST_LEAF for _ in range(self._frontier.size + 1, max(expected, item.seq)))
        if item.seq == self._frontier.size + 1:
            self.leaves([item.leaf if isinstance(item.leaf, bytes) else LOST_LEAF])

    def faults(self, connection: apsw.Connection) -> list[Fault]:
        """Heads whose root is another, unless a repair has since stated that a record before it is lost."""
        lost = min((first for first, _ in repaired_spans(connection)), default=None)
        return [
            Fault(head.size, FaultKind.FORKED, "the tree up to here has another root than was signed")
            for head in self._differing
            if lost is None or head.size < lost
        ][:1]

    def _compare(self) -> None:
        while self._waiting and self._waiting[-1].size <= self._frontier.size:
            head = self._waiting.pop()
            if head.size == self._frontier.size and head.root != self._frontier.root():
                self._differing.append(head)


def index_faults(
    connection: apsw.Connection, *, checked: int | None = None, last: int = 0, full: bool = False
) -> list[Fault]:
    """Check that the indexes have an entry for each row; with `full`, that each entry is right, too.

    `checked` is how many rows up to record `last` were just read, which saves counting them.
    """
    try:
        return [_index_fault(text) for text in _index_damage(connection, checked, last, full=full)]
    except (UnicodeDecodeError, *DAMAGE) as error:
        return [_index_fault(str(error))]


def _index_damage(connection: apsw.Connection, checked: int | None, last: int, *, full: bool) -> list[str]:
    present = {name for (name,) in fetch(connection, "SELECT name FROM sqlite_schema WHERE type = 'index'")}
    missing = [f"{name} is missing" for name in INDEXES if name not in present]
    if missing:
        return missing
    if full:
        lines = fetch(connection, "PRAGMA integrity_check(record)")
        return [line for (line,) in lines if line != "ok"][:INDEX_FAULTS_SHOWN]
    if checked is None:
        # One statement, so that no record of a live writer comes between the two counts.
        ((rows, entries),) = fetch(connection, _COUNTS)
    else:
        rows, ((entries,),) = checked, fetch(connection, _ENTRIES, (last,))
    return [] if rows == entries else [f"record_turn has {entries} entries for {rows} rows"]


def _index_fault(detail: str) -> Fault:
    return Fault(0, FaultKind.INDEX, f"an index does not match its rows: {detail}")
