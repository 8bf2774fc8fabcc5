"""Run one SQLite file on one connection in one thread.

apsw is the only SQLite library in this process: it bundles a SQLite with the WAL-reset fix, and two SQLite
libraries in one process damage files, since closing a file drops every POSIX lock the process holds on it
(measured: 4 of 4 databases malformed). For the same reason nothing here may open() a live database file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from epad.storage import page_checksums
from epad.storage.open_file import OpenFiles, has_room

T = TypeVar("T")

# 3.7.0 to 3.51.2 may corrupt a WAL database on reset (fixed in 3.51.3, 3.50.7 and 3.44.6).
MINIMUM_SQLITE = (3, 51, 3)
BUSY_MILLISECONDS = 2_000


class DatabaseError(Exception):
    """A database file could not be opened, read or written."""


def connect(path: Path, *, readonly: bool = False) -> apsw.Connection:
    """Open a durable WAL connection. Raises DatabaseError, naming the file."""
    if tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) < MINIMUM_SQLITE:
        raise DatabaseError(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt WAL files: install apsw >= 3.51.3"
        )
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        page_checksums.register()
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        if not readonly:
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "full")
        connection.pragma("trusted_schema", 0)
        connection.pragma("cell_size_check", 1)
    except apsw.Error as error:
        raise DatabaseError(in_words(path, error)) from error
    return connection


def in_words(path: Path, error: apsw.Error) -> str:
    """Name the file, SQLite's message, and the fix if there is a known one."""
    return f"{path}: {error}{_fix_of(path, error)}"


def fetch(connection: apsw.Connection, statement: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a query and return its rows, typed for callers that know their own columns."""
    return connection.execute(statement, tuple(bindings)).fetchall()


class Database:
    """Runs functions against one connection, in its own thread, in order.

    The event loop never waits for the disk: a stalled fsync stalls the callers of this file alone.
    """

    def __init__(self, path: Path, schema: str, first: str = "") -> None:
        """`first` is done in a file that is new, in one step with its first tables."""
        self._path = path
        self._schema = schema
        self._first = first
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"db-{path.stem}")
        self._connection: apsw.Connection | None = None
        self._files = OpenFiles(())
        self.is_new = False
        """Whether there was no table when it was opened: a file that a kill left without any is as good as none."""

    async def open(self) -> None:
        """Open the file and make sure of its page sums and its tables. Raises DatabaseError."""

        def work() -> None:
            self._connection = connect(self._path)
            if page_checksums.add(self._connection):
                self._connection.close()
                self._connection = connect(self._path)
            with self._connection:
                self.is_new = not fetch(self._connection, "SELECT 1 FROM sqlite_master LIMIT 1")
                self._connection.execute(self._schema)
                if self.is_new and self._first:
                    self._connection.execute(self._first)
            self._files = OpenFiles.of_databases(self._path)

        await self._run(work)

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` in one transaction; on return it is on the disk, and will be found. Raises DatabaseError."""

        def transaction() -> T:
            connection = self._open_connection()
            loss = self._files.loss()
            if loss:
                raise DatabaseError(loss)
            with connection:
                result = work(connection)
            return result

        return await self._run(transaction)

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` without a transaction of its own. Raises DatabaseError."""
        return await self._run(lambda: work(self._open_connection()))

    async def close(self) -> None:
        """Finish the requests made before, and close the file."""

        def work() -> None:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

        if self._connection is not None:
            await self._run(work)
        self._thread.shutdown(wait=False)

    def _open_connection(self) -> apsw.Connection:
        if self._connection is None:
            raise DatabaseError(f"{self._path} is not open")
        return self._connection

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except apsw.Error as error:
            raise DatabaseError(in_words(self._path, error)) from error


def _fix_of(path: Path, error: apsw.Error) -> str:
    damaged = isinstance(error, (apsw.CorruptError, apsw.NotADBError))
    if damaged or getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
        return (
            "; its bytes have changed: stop epad and put the newest checkpoint back (`epactl checkpoint restore`); "
            "what came after it is lost"
        )
    if isinstance(error, apsw.ReadOnlyError):
        return "; it must be writable for epad's user (its mode, its directory's, or its mount)"
    # A log or an index that cannot grow is an I/O error to SQLite.
    full = isinstance(error, apsw.FullError) or (isinstance(error, apsw.IOError) and not has_room(path))
    return "; free space on its file system" if full else ""
