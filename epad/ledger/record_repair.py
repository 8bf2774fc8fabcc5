"""Decide which bytes of a damaged record are the original ones, from rows, the chain and copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from epad.ledger.chain import differing_column
from epad.ledger.errors import RecordError
from epad.ledger.hashes import GENESIS, HASH_BYTES, leaf_hash, link_hash
from epad.ledger.rows import Row
from epad.ledger.tail import Tail

Parts = tuple[bytes | None, bytes, bytes]
"""A record's body (None: lost), leaf and link."""


class Copy(Protocol):
    """Somewhere else where the records may stand too: a segment, a checkpoint."""

    @property
    def name(self) -> str: ...

    def row(self, sequence: int) -> Row | None:
        """Return the record there, None where it is not; only its body, leaf and link count."""


@dataclass(slots=True)
class Mended:
    """Holds the bytes to write, and their meaning. `absent` are lost records without even a known leaf."""

    changes: dict[int, Parts] = field(default_factory=dict)
    restored: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    absent: list[int] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)


class Mender:
    """Decides record by record, oldest first, each on the links that are sure before it."""

    def __init__(
        self,
        rows: Mapping[int, Row],
        damaged: Sequence[int],
        tail: Tail,
        copies: Sequence[Copy],
    ) -> None:
        self._rows = rows
        self._damaged = damaged
        self._tail = tail
        self._copies = copies
        self._unsure = set(damaged)
        self._links: dict[int, bytes] = {0: GENESIS}
        self._mended = Mended()

    def mend(self) -> Mended:
        for run in _runs(self._damaged, self._rows):
            row = self._rows.get(run[0])
            if row is not None:
                self._mend_row(run[0], row)
            else:
                self._mend_absent(run)
        return self._mended

    def _mend_row(self, sequence: int, row: Row) -> None:
        previous = self._link_of(sequence - 1)
        of_body = leaf_hash(row.body) if isinstance(row.body, bytes) else None
        vouched = self._vouched(sequence, row, previous, of_body)
        if vouched is None:
            if of_body is None or of_body != row.leaf:
                self._give_up(sequence, _as_hash(row.leaf), _as_hash(row.link))
            return
        leaf, link = vouched
        self._links[sequence] = link
        body = row.body if of_body == leaf and isinstance(row.body, bytes) else self._copied(sequence, leaf)
        if body is None:
            self._give_up(sequence, leaf, link)
        elif (body, leaf, link) != (row.body, row.leaf, row.link) or _column_is_off(sequence, row):
            self._restore(sequence, (body, leaf, link))

    def _vouched(
        self, sequence: int, row: Row, previous: bytes | None, of_body: bytes | None
    ) -> tuple[bytes, bytes] | None:
        """Return the leaf and link that the chain bears out, from this row or from a copy of it."""
        if previous is None:
            known = of_body is not None and of_body == row.leaf and isinstance(row.link, bytes)
            return (row.leaf, row.link) if known else None  # type: ignore[return-value]
        own = [leaf for leaf in (of_body, row.leaf) if isinstance(leaf, bytes)]
        copied = [
            leaf_hash(copy.body) for _, copy in self._copies_of(sequence) if isinstance(copy.body, bytes)
        ]
        for leaf in own + copied:
            link = link_hash(previous, sequence, leaf)
            if link == row.link or self._is_rested_on(sequence, link):
                return leaf, link
        return None

    def _mend_absent(self, run: Sequence[int]) -> None:
        """Restore a run of missing rows as a whole: only its two ends are held by the chain."""
        previous = self._link_of(run[0] - 1)
        for copy in self._copies if previous is not None else ():
            parts = list(_chained(copy, run, previous))
            if len(parts) == len(run) and self._is_rested_on(run[-1], parts[-1][2]):
                self._mended.sources.add(copy.name)
                for sequence, part in zip(run, parts, strict=True):
                    self._links[sequence] = part[2]
                    self._restore(sequence, part)
                return
        self._mended.absent.extend(run)
        self._mended.lost.extend(run)

    def _copied(self, sequence: int, leaf: bytes) -> bytes | None:
        for name, row in self._copies_of(sequence):
            if isinstance(row.body, bytes) and leaf_hash(row.body) == leaf:
                self._mended.sources.add(name)
                return row.body
        return None

    def _copies_of(self, sequence: int) -> Iterator[tuple[str, Row]]:
        for copy in self._copies:
            row = copy.row(sequence)
            if row is not None:
                yield copy.name, row

    def _is_rested_on(self, sequence: int, link: bytes) -> bool:
        """Tell if the record after this one follows from `link`; the writer vouches for the newest."""
        if sequence == self._tail.seq:
            return link == self._tail.link
        after = self._rows.get(sequence + 1)
        if after is None:
            return False
        leaves = [after.leaf, leaf_hash(after.body) if isinstance(after.body, bytes) else None]
        return any(
            after.link == link_hash(link, sequence + 1, leaf) for leaf in leaves if isinstance(leaf, bytes)
        )

    def _link_of(self, sequence: int) -> bytes | None:
        """Return a link that is sure, None where it was lost."""
        if sequence in self._links:
            return self._links[sequence]
        row = self._rows.get(sequence)
        if sequence in self._unsure or row is None or not isinstance(row.link, bytes):
            return None
        return row.link

    def _restore(self, sequence: int, parts: Parts) -> None:
        self._mended.changes[sequence] = parts
        self._mended.restored.append(sequence)

    def _give_up(self, sequence: int, leaf: bytes, link: bytes) -> None:
        row = self._rows.get(sequence)
        if row is not None and row.body is None and (row.leaf, row.link) == (leaf, link):
            return
        self._mended.changes[sequence] = (None, leaf, link)
        self._mended.lost.append(sequence)


def _runs(damaged: Sequence[int], rows: Mapping[int, Row]) -> Iterator[list[int]]:
    """Present rows one by one, absent ones as runs."""
    run: list[int] = []
    for sequence in damaged:
        if run and (sequence in rows or sequence != run[-1] + 1):
            yield run
            run = []
        if sequence in rows:
            yield [sequence]
        else:
            run.append(sequence)
    if run:
        yield run


def _chained(copy: Copy, run: Sequence[int], previous: bytes | None) -> Iterator[Parts]:
    """Yield the copy's records of a run, for as long as each follows from the one before."""
    for sequence in run:
        row = copy.row(sequence)
        if row is None or previous is None or not isinstance(row.body, bytes):
            return
        leaf = leaf_hash(row.body)
        previous = link_hash(previous, sequence, leaf)
        yield row.body, leaf, previous


def _column_is_off(sequence: int, row: Row) -> bool:
    try:
        return row.seq != sequence or differing_column(row) is not None
    except RecordError:
        return False


def _as_hash(value: object) -> bytes:
    return value if isinstance(value, bytes) else bytes(HASH_BYTES)
