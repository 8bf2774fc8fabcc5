"""Child process: copy a SQLite database that others may be writing.

`python -m epad.copying.sqlite_copy SOURCE DESTINATION`. The daemon itself must never open() a live
database file: closing it drops every lock the process holds on it (measured: 4 of 4 databases malformed).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import apsw

from epad.copying.copied_file import (
    CopiedFile,
    CopyReport,
    DestinationError,
    SourceError,
    answer,
    die_with_parent,
    sealed,
)
from epad.copying.errors import NO_ROOM
from epad.copying.rights import as_owner_of, our_own
from epad.storage import page_checksums

BUSY_MILLISECONDS = 10_000
_MODE_AT, _WAL_MODE = 18, b"\x02\x02"
_WRITE_FAILURES = frozenset(
    {
        apsw.SQLITE_IOERR_WRITE,
        apsw.SQLITE_IOERR_FSYNC,
        apsw.SQLITE_IOERR_DIR_FSYNC,
        apsw.SQLITE_IOERR_TRUNCATE,
        apsw.SQLITE_IOERR_CLOSE,
        apsw.SQLITE_IOERR_DELETE,
    }
)


def copy_database(source: Path, destination: Path) -> None:
    """Copy in one shot, to a single file. Raises SourceError or DestinationError.

    One shot, because a stepwise backup starts over at every foreign commit and never ends beside a busy
    writer (aborted after 60 s at 100 commits/s); all at once takes 2 to 3 s per GB. Another user's is opened with that
    user's rights.
    """
    # The copy's first page is changed at the end; without its sum renewed the copy could never be opened again.
    with our_own():  # its library may lie where the owner of the source cannot read
        page_checksums.register()
    try:
        with as_owner_of(source):
            _copy(source, destination)
    except PermissionError as error:
        raise SourceError(f"{source}: {error.strerror}") from error


def _copy(source: Path, destination: Path) -> None:
    origin = _open_source(source)
    try:
        try:
            _backup(origin, source, destination)
        except apsw.ReadOnlyError:
            # A crashed writer left a hot journal: it must be rolled back before anyone can read.
            origin.close()
            origin = _open_source(source, apsw.SQLITE_OPEN_READWRITE)
            _backup(origin, source, destination)
    finally:
        origin.close()


def _open_source(source: Path, flags: int = apsw.SQLITE_OPEN_READONLY) -> apsw.Connection:
    try:
        source.stat()
    except FileNotFoundError:
        raise SourceError(f"{source}: no such file") from None
    except OSError as error:
        raise SourceError(f"{source}: {error.strerror}") from error
    try:
        origin = apsw.Connection(str(source), flags=flags)
        origin.set_busy_timeout(BUSY_MILLISECONDS)
        # Being the last to close must not make us the one who writes the WAL back.
        origin.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    except apsw.Error as error:
        raise SourceError(f"{source}: {error}") from error
    return origin


def _backup(origin: apsw.Connection, source: Path, destination: Path) -> None:
    with our_own():
        destination.unlink(missing_ok=True)
        copy = _open_copy(destination)
    try:
        copy.pragma("journal_mode", "off")  # a half-made copy is thrown away, never rolled back
        copy.pragma("synchronous", 0)  # `sealed` fsyncs it once, at the end
        origin.pragma("schema_version")  # read first: the backup's own error would not say what is wrong
        with copy.backup("main", origin, "main") as backup:
            backup.step(-1)
    except apsw.ReadOnlyError:
        raise
    except apsw.Error as error:
        raise _whose_fault(error, copy, source, destination) from error
    finally:
        copy.close()
    with our_own():
        _to_single_file(source, destination)


def _to_single_file(source: Path, destination: Path) -> None:
    """Take the copy out of WAL mode, which it inherited, so that it needs no -wal and no -shm."""
    with destination.open("rb") as file:
        if file.read(len(_WAL_MODE) + _MODE_AT)[_MODE_AT:] != _WAL_MODE:
            return  # it needs neither, and a schema that this SQLite cannot read would not let it be changed
    copy = _open_copy(destination)
    try:
        copy.pragma(
            "writable_schema", 1
        )  # the mode is no part of the schema, which may have entries unknown here
        copy.pragma("journal_mode", "delete")
    except apsw.Error as error:
        raise _whose_fault(error, copy, source, destination) from error
    finally:
        copy.close()


def _open_copy(destination: Path) -> apsw.Connection:
    try:
        return apsw.Connection(str(destination))
    except apsw.Error as error:
        raise DestinationError(destination, str(error), disk_full=False) from error


def _whose_fault(
    error: apsw.Error, copy: apsw.Connection, source: Path, destination: Path
) -> SourceError | DestinationError:
    no_room = isinstance(error, apsw.FullError) or copy.system_errno in NO_ROOM
    # A failing backup leaves its message on neither connection.
    reason = type(error).__name__ if str(error) == "not an error" else str(error)
    if no_room or getattr(error, "extendedresult", 0) in _WRITE_FAILURES:
        return DestinationError(destination, reason, disk_full=no_room)
    return SourceError(f"{source}: {reason}")


def report(source: Path, destination: Path) -> CopyReport:
    """Copy a database, and report the result."""
    try:
        copy_database(source, destination)
        return CopyReport((sealed("", destination, "sqlite_backup"),))
    except (SourceError, apsw.Error) as error:
        destination.unlink(missing_ok=True)
        return CopyReport((CopiedFile("", error=str(error)),))
    except DestinationError as error:
        return CopyReport(failure=str(error), disk_full=error.disk_full)


def main(arguments: list[str]) -> int:
    """Run as a child of the daemon, or by hand."""
    die_with_parent()
    os.umask(0o077)
    source, destination = map(Path, arguments)
    return answer(report(source, destination))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
