"""Read the members of a zip archive by the standard library, after what it does not look at was looked at.

`zipfile` reads the whole directory into memory and, in Python 3.11, unpacks members that lie over one another: so the
directory's size is bounded first, and overlapping members are refused.
"""

from __future__ import annotations

import codecs
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Final

from runners.tools.archive_members import BLOCK_BYTES, MOST_MEMBERS, Blocks, Member
from runners.tools.signature import ToolError

for _name in ("cp437", "utf-8"):
    codecs.lookup(_name)  # loaded here, since a call may not read Python's own files

_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64: Final = struct.Struct("<4sLQL")
_HEADER_BYTES: Final = 30
_MOST_COMMENT: Final = 1 << 16
_MOST_DIRECTORY: Final = 16 << 20
_ENCRYPTED: Final = 0x41
"""The bits of encryption and of strong encryption."""
_METHODS: Final = {
    zipfile.ZIP_STORED: "stored",
    zipfile.ZIP_DEFLATED: "deflated",
    zipfile.ZIP_BZIP2: "bzip2",
    zipfile.ZIP_LZMA: "lzma",
}
_KINDS: Final = {stat.S_IFLNK: "link", stat.S_IFREG: "file", stat.S_IFDIR: "directory", 0: "file"}
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    EOFError,
    ValueError,
    RuntimeError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class ZipMembers:
    """Implements `Archive`."""

    size: int
    file: zipfile.ZipFile

    def members(self) -> Iterator[tuple[Member, Blocks]]:
        """Yield the members in the order of the directory."""
        for info in self.file.infolist():
            yield _member(info), partial(self._blocks, info)

    def _blocks(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        try:
            with self.file.open(info) as content:
                while block := content.read(BLOCK_BYTES):
                    yield block
        except _DAMAGED as error:
            raise ToolError(f"it cannot be unpacked: {error}", "the archive is damaged") from None


def open_zip(descriptor: int) -> ZipMembers:
    """Open a zip archive, whose members do not overlap. Raises ToolError."""
    size = os.fstat(descriptor).st_size
    _refuse_directory(descriptor, size)
    stream: IO[bytes] = os.fdopen(os.dup(descriptor), "rb")
    try:
        opened = zipfile.ZipFile(stream)
    except (*_DAMAGED, struct.error) as error:
        raise ToolError(f"not a zip archive that can be read: {error}", "the archive is damaged") from None
    _refuse_overlap(opened)
    return ZipMembers(size, opened)


def _member(info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16
    kind = "directory" if info.is_dir() else _KINDS.get(stat.S_IFMT(mode), "device")
    # Some programs of Windows write its own separator.
    name = info.filename.replace("\\", "/")
    return Member(name, kind, info.file_size, bool(mode & stat.S_IXUSR), _why_not(info))


def _why_not(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted, and no tool takes a password"
    if info.compress_type not in _METHODS:
        return f"its compression {info.compress_type} is not read; {', '.join(_METHODS.values())} are"
    return ""


def _refuse_overlap(opened: zipfile.ZipFile) -> None:
    """Refuse members that share bytes: many large files over one small part of the archive."""
    end = opened.start_dir
    for info in sorted(opened.infolist(), key=lambda each: each.header_offset, reverse=True):
        least = _HEADER_BYTES + len(info.orig_filename) + info.compress_size
        if info.header_offset < 0 or info.header_offset + least > end:
            raise ToolError(
                f"the member {info.filename[:100]!r} lies over another one",
                "that is the shape of an archive bomb; ask a person to unpack it",
            )
        end = info.header_offset


def _refuse_directory(descriptor: int, size: int) -> None:
    """Refuse an archive whose directory is larger than its members need."""
    tail_at = max(0, size - _END.size - _MOST_COMMENT)
    tail = os.pread(descriptor, size - tail_at, tail_at)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise ToolError("not a zip archive: its end is missing", "the archive is damaged, or no zip at all")
    *_, count, length, _, _ = _END.unpack_from(tail, at)
    locator = os.pread(descriptor, _LOCATOR_64.size, max(0, tail_at + at - _LOCATOR_64.size))
    if len(locator) == _LOCATOR_64.size and locator.startswith(b"PK\6\7"):
        end = os.pread(descriptor, _END_64.size, min(size, _LOCATOR_64.unpack(locator)[2]))
        if len(end) == _END_64.size and end.startswith(b"PK\6\6"):
            *_, count, length, _ = _END_64.unpack(end)
    if count > MOST_MEMBERS or length > _MOST_DIRECTORY:
        raise ToolError(
            f"the archive's directory names {count} members in {length} bytes; at most {MOST_MEMBERS} are read",
            "ask a person to unpack a larger one",
        )
