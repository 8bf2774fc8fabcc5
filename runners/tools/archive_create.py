"""Pack files of the workspace into a zip or tar archive: names, content and the right to execute, and no owner.

Directories are packed with what is below them. Links and devices are left out and counted.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import IO, Final, Literal, cast

from runners.tools import beneath, walk
from runners.tools.archive_members import MOST_BYTES, MOST_MEMBERS
from runners.tools.signature import ToolError

Compression = Literal["gz", "bz2", "xz", "none"]
_FIRST_YEAR_OF_ZIP: Final = 1980


@dataclass(frozen=True, slots=True)
class Source:
    """Names a file or directory to pack."""

    path: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def mode(self) -> int:
        executable = self.is_directory or self.status.st_mode & stat.S_IXUSR
        return 0o755 if executable else 0o644


@dataclass(frozen=True, slots=True)
class Sources:
    """Holds all that is packed, in the order of paths, and how many entries are left out."""

    found: tuple[Source, ...]
    left_out: int

    @property
    def files(self) -> int:
        return sum(not each.is_directory for each in self.found)


def sources(paths: Sequence[str]) -> Sources:
    """Return the files below the paths. Raises ToolError for too many, or too large together."""
    found: dict[str, Source] = {}
    left_out = total = 0
    for path in paths:
        for source in _below(path):
            if stat.S_ISDIR(source.status.st_mode) or stat.S_ISREG(source.status.st_mode):
                total += source.status.st_size if source.path not in found else 0
                found[source.path] = source
            else:
                left_out += 1
            if len(found) > MOST_MEMBERS or total > MOST_BYTES:
                raise ToolError(
                    f"the paths hold over {MOST_MEMBERS} files or {MOST_BYTES} bytes", "pack them in parts"
                )
    return Sources(tuple(found[path] for path in sorted(found)), left_out)


def _below(path: str) -> Iterator[Source]:
    descriptor = beneath.open_path(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status, real = os.fstat(descriptor), beneath.real_path(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISDIR(status.st_mode):
        yield Source(real, status)
        return
    if real != ".":
        yield Source(real, status)
    for each in walk.entries(path):
        yield Source(each.path, each.status)


def write_zip(packed: Sources, target: int) -> None:
    """Write a zip archive of the sources to an open file."""
    with (
        os.fdopen(os.dup(target), "wb") as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for source in packed.found:
            moment = time.gmtime(max(0, source.status.st_mtime))
            shown = (
                moment[:6] if moment.tm_year >= _FIRST_YEAR_OF_ZIP else (_FIRST_YEAR_OF_ZIP, 1, 1, 0, 0, 0)
            )
            info = zipfile.ZipInfo(_name(source) + "/" * source.is_directory, shown)
            kind = stat.S_IFDIR if source.is_directory else stat.S_IFREG
            info.external_attr = (kind | source.mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            with file.open(info, "w") as member:
                for block in _content(source):
                    member.write(block)


def write_tar(packed: Sources, target: int, compression: Compression) -> None:
    """Write a tar archive of the sources to an open file."""
    with (
        os.fdopen(os.dup(target), "wb") as stream,
        _compressing(stream, compression) as packing,
        tarfile.open(fileobj=packing, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as file,
    ):
        for source in packed.found:
            _add(file, source)


def _compressing(stream: IO[bytes], compression: Compression) -> AbstractContextManager[IO[bytes]]:
    match compression:
        case "gz":
            # Without the name and the time of the temporary file, so that the same files give the same bytes.
            return cast("IO[bytes]", gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0))
        case "bz2":
            return cast("IO[bytes]", bz2.BZ2File(stream, "wb"))
        case "xz":
            return cast("IO[bytes]", lzma.LZMAFile(stream, "wb"))
        case _:
            return nullcontext(stream)


def _add(file: tarfile.TarFile, source: Source) -> None:
    info = tarfile.TarInfo(_name(source))
    info.mode, info.mtime = source.mode, int(source.status.st_mtime)
    if source.is_directory:
        info.type = tarfile.DIRTYPE
        file.addfile(info)
        return
    with beneath.opened(source.path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as content:
        info.size = os.fstat(descriptor).st_size
        try:
            file.addfile(info, content)
        except OSError as error:
            raise ToolError(f"{source.path!r} has changed while it was packed", "try again") from error


def _content(source: Source) -> Iterator[bytes]:
    if source.is_directory:
        return
    with beneath.opened(source.path) as descriptor:
        yield from beneath.blocks(descriptor, MOST_BYTES)


def _name(source: Source) -> str:
    with suppress(UnicodeEncodeError):
        source.path.encode()
        return source.path
    raise ToolError(f"a name below the paths is not UTF-8: {source.path!r}", "rename it first")
