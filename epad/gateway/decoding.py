"""Unpacking an answer that was compressed although it was asked for as it is: piece by piece, in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from epad import EpadError

# The most that is unpacked at a time, however small it was packed.
PIECE_BYTES = 256 << 10
_MOST_CODINGS = 3
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = frozenset({"gzip", "x-gzip"})
_KNOWN = _GZIP | {"deflate"}


class DecodingError(EpadError):
    """The body does not fit its Content-Encoding."""


class Decoder:
    """Undoes a body's codings, the last of them first."""

    def __init__(self, codings: Sequence[str]) -> None:
        self._stages = [_Stage(coding) for coding in reversed(codings)]

    @property
    def whole(self) -> bool:
        """Tell if all of the body has come and been taken; an empty body is whole."""
        return all(stage.whole for stage in self._stages)

    def give(self, data: bytes) -> None:
        """Take bytes that came."""
        self._stages[0].give(data)

    def take(self) -> bytes:
        """Return the next piece; empty if more has to come first. Raises DecodingError."""
        return self._take(len(self._stages) - 1)

    def _take(self, at: int) -> bytes:
        stage = self._stages[at]
        while not (piece := stage.take()):
            before = self._take(at - 1) if at else b""
            if not before:
                return b""
            stage.give(before)
        return piece


class _Stage:
    """Undoes one coding."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding in _GZIP
        self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16 if self._gzip else zlib.MAX_WBITS)
        self._packed = b""
        self._more = False
        self._begun = False

    @property
    def whole(self) -> bool:
        return not self._begun or (self._unpacker.eof and not self._packed)

    def give(self, data: bytes) -> None:
        self._packed += data

    def take(self) -> bytes:
        if self._unpacker.eof and not self._next_member():
            return b""
        if not self._packed and not self._more:
            return b""
        first, self._begun = not self._begun, True
        packed = self._packed
        try:
            piece = self._unpacker.decompress(packed, PIECE_BYTES)
        except zlib.error as error:
            if not first or self._gzip:
                raise DecodingError(f"its body cannot be unpacked: {error}") from error
            # Some servers leave out the header that `deflate` has.
            self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._raw(packed)
        return self._taken(piece)

    def _raw(self, packed: bytes) -> bytes:
        try:
            return self._taken(self._unpacker.decompress(packed, PIECE_BYTES))
        except zlib.error as error:
            raise DecodingError(f"its body cannot be unpacked: {error}") from error

    def _taken(self, piece: bytes) -> bytes:
        self._more = len(piece) == PIECE_BYTES and not self._unpacker.eof
        self._packed = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
        return piece

    def _next_member(self) -> bool:
        """Go on with the next member of a gzip file; zeros may fill up the end. Raises DecodingError."""
        self._packed = self._packed.lstrip(b"\0")
        if not self._packed or (self._gzip and self._packed == _GZIP_MAGIC[:1]):
            return False
        if not self._gzip or not self._packed.startswith(_GZIP_MAGIC):
            raise DecodingError("its body goes on after the end of what was packed")
        self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        return True


def codings_of(values: Sequence[bytes]) -> tuple[str, ...]:
    """Return the codings that Content-Encoding names, in the order they were applied in."""
    if not values:
        return ()
    names = (name.strip().lower() for name in b",".join(values).decode("latin-1").split(","))
    return tuple(name for name in names if name and name != "identity")


def can_decode(codings: Sequence[str]) -> bool:
    """Say whether these can be undone here."""
    return len(codings) <= _MOST_CODINGS and all(name in _KNOWN for name in codings)
