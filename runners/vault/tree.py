"""Grow a Merkle tree as RFC 6962 defines it, leaf by leaf; keep its peaks alone. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

_LEAF: Final = b"\0"
_NODE: Final = b"\1"


class Tree:
    """Holds the perfect trees that the leaves so far make, the largest first; `size` is the number of leaves."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def copied(self) -> Tree:
        """Return a tree of the same leaves, to go on with apart from this one."""
        other = Tree()
        other.size, other._peaks = self.size, list(self._peaks)
        return other

    def add(self, leaf: bytes) -> None:
        """Append one leaf's value."""
        node, size = sha256(_LEAF + leaf).digest(), self.size
        while size & 1:
            node, size = sha256(_NODE + self._peaks.pop() + node).digest(), size >> 1
        self._peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the root over all leaves so far; of none, the digest of nothing."""
        if not self._peaks:
            return sha256().digest()
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = sha256(_NODE + peak + node).digest()
        return node
