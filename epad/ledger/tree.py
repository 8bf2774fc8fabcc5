"""The Merkle tree over the records' leaves, as RFC 6962 has it: its root, and proofs that a leaf is in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from epad.ledger.hashes import HASH_BYTES

_NODE_PREFIX = b"\1"
EMPTY_ROOT = sha256().digest()
LOST_LEAF = bytes(HASH_BYTES)
"""Stands for a record of which not even the leaf is known any more."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return an inner node."""
    return sha256(_NODE_PREFIX + left + right).digest()


class Frontier:
    """Holds the part of a tree needed to append to it: the roots of its full subtrees, largest first."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise ValueError(
                f"a tree of {size} leaves has {size.bit_count()} full subtrees, not {len(peaks)}"
            )
        self.size = size
        self.peaks = list(peaks)

    def append(self, leaf: bytes) -> None:
        """Add a leaf."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves: with each, one peak more for each power of two that is now full."""
        peaks = self.peaks
        for leaf in leaves:
            node, size = leaf, self.size
            while size & 1:
                node = sha256(_NODE_PREFIX + peaks.pop() + node).digest()  # `node_hash`, without its call
                size >>= 1
            peaks.append(node)
            self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node

    def copy(self) -> Frontier:
        return Frontier(self.size, self.peaks)


@dataclass(frozen=True, slots=True)
class Range:
    """Leaves from `first` up to, not including, `end`; numbered from 0."""

    first: int
    end: int


def sibling_ranges(index: int, size: int) -> list[Range]:
    """Return the ranges whose roots prove leaf `index` of a tree of `size` leaves, upward (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    siblings: list[Range] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + (1 << (end - first - 1).bit_length() - 1)
        if index < middle:
            siblings.append(Range(middle, end))
            end = middle
        else:
            siblings.append(Range(first, middle))
            first = middle
    return siblings[::-1]


def inclusion_path(index: int, size: int, leaves: Iterable[bytes]) -> list[bytes]:
    """Return the proof's hashes, reading the leaves once and keeping none: a million need no memory."""
    ranges = sibling_ranges(index, size)
    subtrees = {one: Frontier() for one in ranges}
    ordered = sorted(ranges, key=lambda one: one.first)
    for one, part in _parts(ordered, leaves):
        subtrees[one].append(part)
    return [subtrees[one].root() for one in ranges]


def _parts(ordered: Sequence[Range], leaves: Iterable[bytes]) -> Iterator[tuple[Range, bytes]]:
    waiting = iter(ordered)
    current = next(waiting, None)
    for index, leaf in enumerate(leaves):
        while current is not None and index >= current.end:
            current = next(waiting, None)
        if current is None:
            return
        if index >= current.first:
            yield current, leaf


def root_from_path(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """Return the root that a proof leads to. Raises ValueError where its length is wrong."""
    ranges = sibling_ranges(index, size)
    if len(path) != len(ranges):
        raise ValueError(f"leaf {index} of {size} needs {len(ranges)} hashes, not {len(path)}")
    node = leaf
    for one, sibling in zip(ranges, path, strict=True):
        node = node_hash(sibling, node) if one.first < index else node_hash(node, sibling)
    return node
