"""Child process: copy a file, or a directory with all below it.

`python -m epad.copying.file_copy SOURCE DESTINATION [--sealed]`. A file that turns out to be a SQLite database is
copied by the backup API: its bytes alone, taken while someone writes, are worth nothing.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw

from epad.copying.copied_file import (
    CHUNK_BYTES,
    CopiedFile,
    CopyReport,
    DestinationError,
    How,
    SourceError,
    answer,
    die_with_parent,
    sealed,
    write_failure,
)
from epad.copying.disk import DIRECTORY_MODE, FILE_MODE
from epad.copying.rights import as_owner_of, our_own, rights_for
from epad.copying.sqlite_copy import copy_database
from epad.storage.bundle_names import is_safe

SQLITE_MAGIC = b"SQLite format 3\x00"
SQLITE_COMPANIONS = ("-wal", "-shm", "-journal")
QUIET_ATTEMPTS = 3
_WRITE_BITS = 0o222


def copy_file(source: Path, destination: Path, *, is_sealed: bool = False) -> How:
    """Copy one file and say how. Raises SourceError or DestinationError.

    A file that changes while it is read is read again; after three times the last reading is kept and marked as
    changing. A sealed one, which is never written again, is linked: that costs no room and no time, and guards against
    its removal; against rot, only the rest of the bundle does. What belongs to another user is read with that user's
    rights (`rights.py`).
    """
    try:
        with as_owner_of(source):
            return _copy(source, destination, is_sealed=is_sealed)
    except PermissionError as error:
        raise SourceError(f"{source}: {error.strerror}") from error


def _copy(source: Path, destination: Path, *, is_sealed: bool) -> How:
    if is_sealed and _linked(source, destination):
        return "hard_link"
    if _is_sqlite(source):
        copy_database(source, destination)
        return "sqlite_backup"
    for _ in range(QUIET_ATTEMPTS):
        before = _fingerprint(source)
        _copy_bytes(source, destination)
        if _fingerprint(source) == before:
            return "copy"
    return "copy_of_changing"


def _linked(source: Path, destination: Path) -> bool:
    try:
        if rights_for(source) is not None or source.stat().st_mode & _WRITE_BITS:
            return False
        with our_own():
            # follow_symlinks=False: what was a file a moment ago may be a link by now
            os.link(source, destination, follow_symlinks=False)
    except OSError:  # another file system, or one without links: it is copied
        return False
    return True


def _is_sqlite(source: Path) -> bool:
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            raise SourceError(f"{source}: not a regular file")
        with source.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError as error:
        raise SourceError(f"{source}: {error.strerror}") from error


def _fingerprint(source: Path) -> tuple[int, int, int]:
    try:
        status = source.stat()
    except OSError as error:
        raise SourceError(f"{source}: {error.strerror}") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _copy_bytes(source: Path, destination: Path) -> None:
    try:
        with our_own():
            descriptor = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    except OSError as error:
        raise write_failure(destination, error) from error
    with os.fdopen(descriptor, "wb", buffering=0) as copy:
        for chunk in _chunks(source):
            try:
                _write_all(copy.fileno(), chunk)
            except OSError as error:
                raise write_failure(destination, error) from error


def _chunks(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise SourceError(f"{source}: {error.strerror}") from error


def _write_all(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def report(source: Path, destination: Path, *, is_sealed: bool = False) -> CopyReport:
    """Copy a source, and report the result."""
    try:
        with as_owner_of(source):
            if os.path.isdir(source):  # noqa: PTH112 (False, too, for what may not be looked at)
                return CopyReport(tuple(_copy_tree(source, destination, is_sealed=is_sealed)))
        return CopyReport((_copied("", source, destination),))
    except DestinationError as error:
        return CopyReport(failure=str(error), disk_full=error.disk_full)
    except PermissionError as error:
        return CopyReport((CopiedFile("", error=f"{source}: {error.strerror}"),))


def _copied(file: str, source: Path, destination: Path, *, is_sealed: bool = False) -> CopiedFile:
    try:
        how = copy_file(source, destination, is_sealed=is_sealed)
        with our_own():
            return sealed(file, destination, how)
    except (SourceError, apsw.Error) as error:
        with our_own():
            destination.unlink(missing_ok=True)
        return CopiedFile(file, error=str(error))


def _copy_tree(source: Path, destination: Path, *, is_sealed: bool) -> Iterator[CopiedFile]:
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(source, onerror=unreadable.append):
        folders.sort()
        here = Path(folder)
        linked = [name for name in folders if (here / name).is_symlink()]
        for name in sorted(files + linked):
            path = here / name
            file = str(path.relative_to(source))
            if name in linked:
                yield CopiedFile(file, error=f"{path}: a link to a directory; name that directory itself")
            elif not is_safe(file) or not _is_utf8(file):
                printable = file.encode(errors="backslashreplace").decode()
                yield CopiedFile("", error=f"{source}: {printable!r} has a name no manifest can hold")
            elif not (_is_companion(path, files) or _holds_no_state(path)):
                _make_directory((destination / file).parent)
                yield _copied(file, path, destination / file, is_sealed=is_sealed)
    for error in unreadable:
        yield CopiedFile("", error=f"{error.filename}: {error.strerror}")


def _is_utf8(file: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in file)


def _is_companion(path: Path, siblings: list[str]) -> bool:
    """Tell if it is the WAL, index or journal of a database beside it, which the backup has read."""
    for suffix in SQLITE_COMPANIONS:
        database = path.name.removesuffix(suffix)
        if database != path.name and database in siblings:
            try:
                return _is_sqlite(path.with_name(database))
            except SourceError:
                return False
    return False


def _holds_no_state(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)


def _make_directory(path: Path) -> None:
    try:
        with our_own():
            path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(path, error) from error


def main(arguments: list[str]) -> int:
    """Run as a child of the daemon, or by hand."""
    die_with_parent()
    os.umask(0o077)
    source, destination = map(Path, arguments[:2])
    return answer(report(source, destination, is_sealed="--sealed" in arguments[2:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
