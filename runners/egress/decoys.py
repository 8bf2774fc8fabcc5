"""Look for decoys in what goes out in clear: keys that open nothing, which only who collects keys sends.

They are found as they stand; not encoded, not cut in two by the sender, and not in a tunnel.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Final

from runners.egress.refusal import RefusedError, Why

_WORDS: Final = "a decoy was sent: a key that opens nothing, and that no program has a use for"


class DecoyWatch:
    """Refuses whatever has a decoy in it, also one that comes in pieces."""

    def __init__(self, decoys: Sequence[str]) -> None:
        self._found = re.compile("|".join(map(re.escape, decoys)).encode("latin-1")) if decoys else None
        self._kept = max(map(len, decoys), default=1) - 1

    def check(self, data: bytes) -> None:
        """Raise RefusedError if a decoy is in the data."""
        if self._found is not None and self._found.search(data):
            raise RefusedError(Why.DECOY, _WORDS)

    async def pieces(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the pieces of a body until one has a decoy, or the end of one. Raises RefusedError."""
        tail = b""
        async for piece in body:
            self.check(tail + piece)
            tail = (tail + piece)[-self._kept :] if self._kept else b""
            yield piece
