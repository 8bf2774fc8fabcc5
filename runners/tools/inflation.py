"""Inflate a compressed body piece by piece, with an end to its appetite: a few bytes may stand for a gigabyte."""

from __future__ import annotations

import zlib
from typing import Any, Final

from runners.tools.signature import ToolError

CODINGS: Final = ("gzip", "deflate")
_GZIP, _ZLIB, _RAW = 31, 15, -15
_RATIO_FROM_BYTES: Final = 1 << 20
"""Less than this is kept at any ratio: a short page of one letter is no bomb."""


class Inflater:
    """Inflates one body. `coding` is that of its field; an empty one passes everything on."""

    def __init__(self, coding: str, most_bytes: int, most_ratio: int) -> None:
        coding = coding.strip().lower()
        if coding not in {"", "identity", *CODINGS}:
            raise ToolError(f"the answer is coded as {coding[:40]!r}, which was not asked for", "")
        self._is_gzip = coding == "gzip"
        self._most_bytes, self._most_ratio = most_bytes, most_ratio
        self._taken = self._given = 0
        self._inflate: Any = None
        if coding in CODINGS:
            self._inflate = zlib.decompressobj(_GZIP if self._is_gzip else _ZLIB)

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that these stand for. Raises ToolError for too many, and for a broken body."""
        self._taken += len(data)
        if self._inflate is None:
            return self._counted(data)
        parts = bytearray()
        while data:
            parts += self._counted(self._piece(data))
            data = self._inflate.unconsumed_tail
            if self._inflate.eof:
                data = self._inflate.unused_data
                if not self._is_gzip:
                    break
                self._inflate = zlib.decompressobj(_GZIP)
        return bytes(parts)

    def _piece(self, data: bytes) -> bytes:
        room = self._most_bytes - self._given + 1
        try:
            piece: bytes = self._inflate.decompress(data, room)
        except zlib.error as error:
            if self._is_gzip or self._given or self._taken > len(data):
                raise ToolError(f"the answer's compressed body is broken: {error}", "") from None
            # Half of all servers mean the bare format by `deflate`.
            self._inflate = zlib.decompressobj(_RAW)
            try:
                piece = self._inflate.decompress(data, room)
            except zlib.error:
                raise ToolError(f"the answer's compressed body is broken: {error}", "") from None
        return piece

    def _counted(self, piece: bytes) -> bytes:
        self._given += len(piece)
        if self._given > self._most_bytes:
            raise ToolError(
                f"the answer inflates to more than {self._most_bytes} bytes", "ask for a part of it"
            )
        if self._given > max(_RATIO_FROM_BYTES, self._taken * self._most_ratio):
            raise ToolError(
                f"the answer inflates to more than {self._most_ratio} times its size: this is how a bomb looks",
                "",
            )
        return piece
