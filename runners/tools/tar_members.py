"""Read the members of a tar archive from its beginning to its end, plain or compressed, within bounds of bytes.

`tarfile` is used for the headers alone: none of its ways to extract is, since its filters have let members outside. It
reads a stream that counts what was unpacked, so that neither a member nor a header can be a bomb.
"""

from __future__ import annotations

import bz2
import codecs
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from tarfile import ReadError
from typing import IO, Any, Final, Protocol, Self, cast

from runners.tools.archive_members import BLOCK_BYTES, MOST_BYTES, Blocks, Member, refuse_ratio
from runners.tools.signature import ToolError

for _name in ("utf-8", "ascii", "iso8859-1"):
    codecs.lookup(_name)  # loaded here, since a call may not read Python's own files

_MOST_STREAM: Final = MOST_BYTES + (32 << 20)
"""The members and their headers."""
_MOST_MEMORY: Final = 128 << 20
_MAGIC: Final = ((b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zst"))
_BROKEN_HEADERS: Final = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]
_DAMAGED: Final = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, OSError)


@dataclass(frozen=True, slots=True)
class TarMembers:
    """Implements `Archive`."""

    size: int
    descriptor: int
    compression: str

    def members(self) -> Iterator[tuple[Member, Blocks]]:
        """Yield the members, in the order of the archive. Raises ToolError where it is damaged."""
        stream = cast("IO[bytes]", _Stream(self.descriptor, self.size, self.compression))
        try:
            with tarfile.open(
                fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape", tarinfo=_Header
            ) as tar:
                while (info := tar.next()) is not None:
                    # Without this the library keeps each header for the case of a second look.
                    tar.members.clear()  # type: ignore[attr-defined]
                    yield _member(info), partial(_blocks, tar, info)
        except _DAMAGED as error:
            raise ToolError(
                f"not a tar archive that can be read: {error}", "the archive is damaged"
            ) from None


class _Header(tarfile.TarInfo):
    """Reads a header. The library takes a damaged one behind the first for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """Read the next header. Raises TarError."""
        try:
            return super().fromtarfile(tarfile)
        except _BROKEN_HEADERS as error:
            raise ReadError(f"a header is broken: {error}") from None


def open_tar(descriptor: int) -> TarMembers:
    """Open a tar archive, of a compression that is told by its first bytes. Raises ToolError."""
    head = os.pread(descriptor, 8, 0)
    compression = next((name for magic, name in _MAGIC if head.startswith(magic)), "")
    if compression == "zst":
        raise ToolError("an archive that is compressed by zstd is not read", "gz, bz2, xz or no compression")
    return TarMembers(os.fstat(descriptor).st_size, descriptor, compression)


def _member(info: tarfile.TarInfo) -> Member:
    kind = _kind_of(info)
    why = "it is a sparse file" if info.sparse is not None else ""
    return Member(info.name, kind, info.size if kind == "file" else 0, bool(info.mode & 0o100), why)


def _kind_of(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "directory"
    if info.islnk() or info.issym():
        return "link"
    return "fifo" if info.isfifo() else "device" if info.isdev() else "file"


def _blocks(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(info)
    if content is None:
        return
    left = info.size
    while left and (block := content.read(BLOCK_BYTES)):
        left -= len(block)
        yield block
    if left:
        raise ToolError("its content is cut short", "the archive is damaged")


class _Decompressor(Protocol):
    """The part of a decompressor that all three have."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Stream:
    """Reads an archive's unpacked bytes forwards. Raises ToolError above the bounds."""

    def __init__(self, descriptor: int, size: int, compression: str) -> None:
        self._descriptor = descriptor
        self._size = size
        self._compression = compression
        self._decompressor = _decompressor(compression)
        self._at = 0
        self._given = 0

    def read(self, length: int = -1) -> bytes:
        """Return at most so many bytes, and none at the end alone."""
        length = BLOCK_BYTES if length < 0 else length
        data = self._plain(length) if self._decompressor is None else self._unpacked(length)
        self._given += len(data)
        refuse_ratio(self._given, self._size)
        if self._given > _MOST_STREAM:
            raise ToolError(
                f"the archive unpacks to over {MOST_BYTES} bytes", "ask a person to unpack a larger one"
            )
        return data

    def _plain(self, length: int) -> bytes:
        data = os.pread(self._descriptor, length, self._at)
        self._at += len(data)
        return data

    def _unpacked(self, length: int) -> bytes:
        while self._decompressor is not None:
            if self._decompressor.eof:
                # A second compressed stream may follow the first, as `cat a.gz b.gz` makes.
                rest = self._decompressor.unused_data or self._plain(BLOCK_BYTES)
                if not rest.strip(b"\0"):
                    return b""
                self._decompressor = _decompressor(self._compression)
                data = self._decompress(rest, length)
            else:
                data = self._decompress(b"", length)
                if not data:
                    packed = self._plain(64 << 10)
                    if not packed and not self._decompressor.eof:
                        raise EOFError("its compressed data is cut short")
                    data = self._decompress(packed, length)
            if data:
                return data
        return b""

    def _decompress(self, data: bytes, length: int) -> bytes:
        decompressor = self._decompressor
        if decompressor is None or (decompressor.eof and not data):
            return b""
        return decompressor.decompress(data, length)


class _Gzip:
    """Gives zlib's decompressor the form of the others: what was not unpacked yet is kept inside."""

    def __init__(self) -> None:
        self._zlib: Any = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return bool(self._zlib.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._zlib.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return bytes(self._zlib.decompress(self._zlib.unconsumed_tail + data, max(0, max_length)))


def _decompressor(compression: str) -> _Decompressor | None:
    match compression:
        case "gz":
            return cast("_Decompressor", _Gzip())
        case "bz2":
            return cast("_Decompressor", bz2.BZ2Decompressor())
        case "xz":
            return cast("_Decompressor", lzma.LZMADecompressor(memlimit=_MOST_MEMORY))
        case _:
            return None
