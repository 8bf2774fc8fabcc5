"""Cut what a server prints into messages, one a line, without ever holding more than one of bounded length. Pure.

A line that is too long is thrown away as it comes, and told with its beginning and its end, by which the call that it
answers is found: that call fails, and the server goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MOST_BYTES: Final = 8 << 20
_EDGE_BYTES: Final = 4_096
_HEAD_ID: Final = re.compile(rb'^\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*([1-9]\d{0,15})\s*,')
_TAIL_ID: Final = re.compile(rb'"id"\s*:\s*([1-9]\d{0,15})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')


@dataclass(frozen=True, slots=True)
class TooLong:
    """Tells of a line that was thrown away: its size, and the number of the request that it seems to answer."""

    size: int
    answers: int | None


class Lines:
    """Takes bytes as they come, and gives whole lines."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0
        self._head = b""
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[bytes | TooLong]:
        """Yield each line that these bytes end; an empty one is none."""
        while data:
            piece, ended, data = data.partition(b"\n")
            self._take(piece)
            if ended and (line := self._end()):
                yield line

    def _take(self, piece: bytes) -> None:
        before, self._size = self._size, self._size + len(piece)
        if before < _EDGE_BYTES:
            self._head = (self._head + piece[:_EDGE_BYTES])[:_EDGE_BYTES]
        if self._size <= self._most:
            self._parts.append(piece)
            return
        last = b"".join([*self._parts[-1:], piece]) if self._parts else self._tail + piece
        self._tail = last[-_EDGE_BYTES:]
        self._parts.clear()

    def _end(self) -> bytes | TooLong:
        size, parts, head, tail = self._size, self._parts, self._head, self._tail
        self._size, self._parts, self._head, self._tail = 0, [], b"", b""
        if size <= self._most:
            return b"".join(parts).strip()
        found = _HEAD_ID.search(head) or _TAIL_ID.search(tail)
        return TooLong(size, None if found is None else int(found[1]))
