"""Check rows against their own hashes and against the record before."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import apsw
import msgspec

from epad.ledger.errors import RecordError
from epad.ledger.hashes import GENESIS, leaf_hash, leaf_hashes, link_hash, link_hashes
from epad.ledger.record import Span, columns_of, decode
from epad.ledger.record_head import HEADED, HEADS, decode_head
from epad.ledger.rows import DAMAGE, Row, Unreadable, Values, repaired_spans, row_at, trimmed_through

MAX_FAULTS = 100
"""Faults that are named; the rest are counted. One bad disk must not fill the memory with its description."""


class FaultKind(StrEnum):
    """Names the kinds of a record's damage."""

    BODY = "body"
    LEAF = "leaf"
    LINK = "link"
    GAP = "gap"
    COLUMN = "column"
    UNDECODABLE = "undecodable"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    FORKED = "forked"
    INDEX = "index"
    HEAD = "head"
    SEGMENT = "segment"
    PAYLOAD = "payload"
    FILE = "file"
    CATALOGUE = "catalogue"


BESIDE = frozenset(
    {
        FaultKind.FORKED,
        FaultKind.INDEX,
        FaultKind.HEAD,
        FaultKind.SEGMENT,
        FaultKind.PAYLOAD,
        FaultKind.FILE,
        FaultKind.CATALOGUE,
    }
)
"""Faults of what stands beside the records, or of all of them: no single record is to be restored."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Damage at one record, or at all from `seq` to `through`."""

    seq: int
    kind: FaultKind
    detail: str
    through: int = 0

    @property
    def last_seq(self) -> int:
        return max(self.seq, self.through)


def links_before(connection: apsw.Connection, first: int) -> tuple[bytes, ...]:
    """The links that record `first` may rest on: as stored and as computed, so that blame falls on the owner.

    Empty where the record before is lost: then nothing can be said about the first link.
    """
    if first == 1:
        return (GENESIS,)
    try:
        before = row_at(connection, first - 1)
        seed = row_at(connection, first - 2)
    except DAMAGE:
        return ()
    if before is None or not isinstance(before.link, bytes):
        return ()
    link = seed.link if seed is not None else GENESIS if first == 2 else None
    if not isinstance(link, bytes) or not isinstance(before.leaf, bytes):
        return (before.link,)
    return _distinct(before.link, link_hash(link, first - 1, before.leaf))


class Walker:
    """Checks rows handed to it in order, starting with record `first`.

    Records of the spans `lost` may be missing, or lack their bodies. Those up to `trimmed_through` may lack their
    bodies; it is asked when a body is missing, since bodies may go while rows are being checked.
    """

    def __init__(
        self,
        first: int,
        links: tuple[bytes, ...],
        lost: Sequence[Span],
        trimmed_through: Callable[[], int] = int,
    ) -> None:
        self.expected = first
        self.checked = 0
        self.tombstones = 0
        self.trimmed = 0
        self.faults: list[Fault] = []
        self.unlisted = 0
        self._links = links
        self._lost = lost
        self._ask_trimmed = trimmed_through
        self._trimmed_through = 0
        self._blind = False

    def step_all(self, rows: Sequence[Values]) -> bool:
        """Check rows all at once, at three times the speed; False, and nothing done, unless all are sound."""
        if len(self._links) != 1 or not are_sound(rows, self.expected, self._links[0]):
            return False
        self._links = (rows[-1][7],)
        self.checked += len(rows)
        self.expected += len(rows)
        return True

    def step(self, item: Row | Unreadable) -> int | None:
        """Check the next row; its true number, None where it has none."""
        if isinstance(item, Unreadable):
            self._unreadable(item)
            return None
        if item.seq == self.expected and self._is_sound(item):
            self._links = (item.link,)  # type: ignore[assignment]
        elif not self._place(item):
            return None
        else:
            self._examine(item, self.expected)
        self.checked += 1
        self.expected += 1
        return self.expected - 1

    def finish(self, last: int) -> None:
        """State that records up to `last` should have come."""
        if self.expected <= last and not self._blind:
            self._missing(last)

    def _is_sound(self, row: Row) -> bool:
        """Return the whole check of an undamaged row."""
        if not isinstance(row.body, bytes) or len(self._links) != 1:
            return False
        leaf = leaf_hash(row.body)
        if leaf != row.leaf or link_hash(self._links[0], row.seq, leaf) != row.link:
            return False
        try:
            return differing_column(row) is None
        except RecordError:
            return False

    def _place(self, row: Row) -> bool:
        """Find where a row belongs whose number is not the expected one."""
        if row.seq == self.expected:
            return True
        if isinstance(row.leaf, bytes) and self._rests(row, self.expected, row.leaf):
            self._add(FaultKind.COLUMN, f"its number reads {row.seq}")
            return True
        if row.seq < self.expected:
            self._add(FaultKind.GAP, f"a record numbered {row.seq} stands here")
            return False
        self._missing(row.seq - 1)
        return True

    def _missing(self, last: int) -> None:
        if self._is_lost(self.expected, last):
            self.tombstones += last - self.expected + 1
        else:
            self._add(FaultKind.GAP, "records are missing", through=last)
        self.expected = last + 1
        self._links = ()

    def _unreadable(self, item: Unreadable) -> None:
        first, last = self.expected, max(item.last or item.first, self.expected)
        end = "" if item.last is not None else ", and all that follow"
        if not self._is_lost(first, last):
            self._add(FaultKind.UNREADABLE, f"SQLite cannot read it{end}: {item.detail}", through=last)
        self.expected = last + 1
        self._links = ()
        self._blind = item.last is None

    def _examine(self, row: Row, sequence: int) -> None:
        """Name the fault of a row, or note that it only follows damage."""
        lost = row.body is None and self._is_lost(sequence, sequence)
        of_body = leaf_hash(row.body) if isinstance(row.body, bytes) else None
        by_leaf = isinstance(row.leaf, bytes) and self._rests(row, sequence, row.leaf)
        by_body = of_body is not None and self._rests(row, sequence, of_body)
        is_trimmed = row.body is None and not lost and self._is_trimmed(sequence)
        self.trimmed += is_trimmed
        self.tombstones += of_body is None and not is_trimmed
        if of_body is None and not (lost or is_trimmed):
            self._add(FaultKind.BODY, "it has no body, and no repair record says why")
        elif of_body is not None and of_body != row.leaf:
            self._differs(by_leaf, by_body)
        if self._links and not (by_leaf or by_body or lost):
            self._add(FaultKind.LINK, "its link does not follow from the record before it")
        if of_body is not None and (of_body == row.leaf or by_body):
            self._decoded(row)
        self._links = self._links_after(row, sequence, unknown=lost and not by_leaf)

    def _differs(self, by_leaf: bool, by_body: bool) -> None:
        if by_body and not by_leaf:
            self._add(FaultKind.LEAF, "its leaf hash is not that of its body, which the chain vouches for")
        else:
            self._add(FaultKind.BODY, "its body does not hash to its leaf")

    def _decoded(self, row: Row) -> None:
        try:
            column = differing_column(row)
        except RecordError as error:
            self._add(FaultKind.UNDECODABLE, str(error))
        else:
            if column is not None:
                self._add(FaultKind.COLUMN, f"its column {column} is not what its body says it should be")

    def _rests(self, row: Row, sequence: int, leaf: bytes) -> bool:
        """Tell if the row's link follows from the record before it by this leaf."""
        return any(row.link == link_hash(link, sequence, leaf) for link in self._links)

    def _links_after(self, row: Row, sequence: int, *, unknown: bool) -> tuple[bytes, ...]:
        if unknown or not isinstance(row.link, bytes):
            stored: tuple[bytes, ...] = ()
        else:
            stored = (row.link,)
        leaf = row.leaf if isinstance(row.leaf, bytes) else None
        if unknown or leaf is None:
            return stored
        return _distinct(*stored, *(link_hash(link, sequence, leaf) for link in self._links))

    def _is_trimmed(self, sequence: int) -> bool:
        if sequence > self._trimmed_through:
            self._trimmed_through = self._ask_trimmed()
        return sequence <= self._trimmed_through

    def _is_lost(self, first: int, last: int) -> bool:
        return any(low <= first and last <= high for low, high in self._lost)

    def _add(self, kind: FaultKind, detail: str, *, through: int = 0) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(self.expected, kind, detail, through))
        else:
            self.unlisted += 1


def are_sound(rows: Sequence[Values], first: int, link: bytes) -> bool:
    """Tell if these rows are `first` and following, continue `link`, and have every column unaltered.

    Column by column, since a call and a tuple a row cost more than its hashes do.
    """
    seqs, turns, kinds, subsystems, walls, bodies, leaves, links = zip(*rows, strict=True)
    if seqs != tuple(range(first, first + len(rows))):
        return False
    try:
        return (
            leaf_hashes(bodies) == list(leaves)
            and link_hashes((link, *links[:-1]), seqs, leaves) == list(links)
            and _are_copies(seqs, bodies, turns, kinds, subsystems, walls)
        )
    except (TypeError, struct.error, UnicodeDecodeError, msgspec.MsgspecError, RecordError):
        return False


def _are_copies(
    seqs: Values, bodies: Values, turns: Values, kinds: Values, subsystems: Values, walls: Values
) -> bool:
    """Tell if the columns equal the bodies' values. A value without a column is covered by the leaf alone."""
    if not HEADED.issuperset(kinds):
        said = [columns_of(decode(seq, body)) for seq, body in zip(seqs, bodies, strict=True)]
        return said == list(zip(turns, kinds, subsystems, walls, strict=True))
    heads = list(map(decode_head, bodies))
    return (
        [HEADS[type(head)] for head in heads] == list(kinds)
        and [head.turn for head in heads] == list(turns)
        and [head.subsystem for head in heads] == list(subsystems)
        and [head.wall_ns for head in heads] == list(walls)
    )


def walker_at(connection: apsw.Connection, first: int) -> Walker:
    """Return a walker for the rows of this file from record `first` on."""
    links, lost = links_before(connection, first), repaired_spans(connection)
    return Walker(first, links, lost, lambda: trimmed_through(connection))


def differing_column(row: Row) -> str | None:
    """Return the first copied column that differs from the body. Raises RecordError."""
    record = decode(row.seq, row.body)  # type: ignore[arg-type]
    turn, kind, subsystem, wall_ns = columns_of(record)
    if row.mistyped:
        return row.mistyped
    if row.kind != kind:
        return "kind"
    if row.wall_ns != wall_ns:
        return "wall_ns"
    if row.turn != turn:
        return "turn"
    if row.subsystem != subsystem:
        return "subsystem"
    return None


def _distinct(*links: bytes) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(links))
