"""The journal's writes while `state.db` takes none: kept in memory, and written in order once it takes them again.

A full or read-only disk must not keep a person from freezing a runaway. Writes then go to an image of the journal's
open part in memory, so that decisions go on and numbers stay the same, and the statements are kept. A copy of them goes
to another file system if there is one: a daemon that is killed meanwhile continues from there.

| state | a write | who may act on it |
|---|---|---|
| writing | goes to `state.db`, durable on return | everybody |
| standing by | goes to the image and is kept | containment and the lifeboat; nothing is spent or restarted |

From writing to standing by: the first write that fails. Back: all kept statements have been written, in one
transaction. The one invariant: while anything is kept the gateway is shut, since a hold that is not on a disk would be
forgotten. An image cannot be made if `state.db` cannot be read either; then the write fails as it always did.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw
import structlog

from epad.storage.database import Database, DatabaseError, fetch

T = TypeVar("T")

RETRY_SECONDS = 1.0
MAX_KEPT = 50_000
"""Statements. A decision and its steps are some ten of them, so this is hours of the worst flapping, and some 20 MB."""
_WRITES = frozenset({"INSERT", "UPDATE", "REPLACE", "DELETE"})
_TABLES = ("anomaly", "transition", "operation", "step")
_OPEN_ROWS: Mapping[str, str] = {
    "anomaly": "cleared_utc IS NULL",
    "transition": "0",
    "operation": "state = 'pending'",
    "step": "operation IN (SELECT id FROM operation WHERE state = 'pending')",
    "note": "1",
}
"""What later writes look up. The newest row comes with it: numbers go on from there."""

Statement = tuple[str, Sequence[Any]]


def _nothing(*_: object) -> None:
    """Tell nobody."""


class StandbyJournal:
    """Writes to `state.db` while that is possible, and keeps the statements that could not be written.

    `copy` is a file on another file system, or None. `schema` makes the journal's tables.
    """

    def __init__(self, database: Database, schema: str, copy: Path | None = None) -> None:
        self._database = database
        self._schema = schema
        self._copy = copy
        self._lock = asyncio.Lock()
        self._image: apsw.Connection | None = None
        self._kept: list[Statement] = []
        self._why = ""
        self._copied = False
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("epad.journal")
        self._begun: Callable[[str], None] = _nothing
        self._ended: Callable[[], None] = _nothing

    def attach(self, begun: Callable[[str], None], ended: Callable[[], None]) -> None:
        """Call `begun` with the reason before anything is kept, and `ended` when all of it has been written."""
        self._begun, self._ended = begun, ended

    @property
    def sentence(self) -> str:
        """Describe the kept statements and the reason, in one line; empty while writes reach the disk."""
        if self._image is None:
            return ""
        places = f"in memory and in {self._copy}" if self._copied else "in memory alone"
        return (
            f"the journal cannot be written: {self._why}; {len(self._kept)} of its writes are kept {places} and follow "
            "once it can be; until then orders are carried out and nothing is forwarded or restarted"
        )

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` on `state.db`, else on the image. Raises DatabaseError where there is neither."""
        async with self._lock:
            if self._image is None:
                try:
                    return await self._database.write(work)
                except DatabaseError as error:
                    self._image = await self._begin(str(error))
            return self._keep(self._image, work)

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` on the present journal. Raises DatabaseError."""
        return await self._database.read(work) if self._image is None else work(self._image)

    async def _begin(self, why: str) -> apsw.Connection:
        """Make the image and stand by. Raises DatabaseError."""
        image = await self._database.read(lambda connection: _image_of(connection, self._schema))
        self._why = why
        self._log.error("journal.stands_by", error=why)
        self._begun(f"the journal cannot be written: {why}")
        self._start_copy(image)
        self._task = asyncio.create_task(self._try_again(), name="standby journal")
        return image

    def _keep(self, image: apsw.Connection, work: Callable[[apsw.Connection], T]) -> T:
        if len(self._kept) >= MAX_KEPT:
            raise DatabaseError(f"{self._why}; {MAX_KEPT} writes are kept in memory already")
        statements: list[Statement] = []

        def trace(_: apsw.Cursor, sql: str, bindings: Any) -> bool:
            if sql.split(None, 1)[0].upper() in _WRITES:
                statements.append((sql, tuple(bindings or ())))
            return True

        image.exec_trace = trace
        try:
            with image:
                result = work(image)
        except apsw.Error as error:
            raise DatabaseError(f"the journal's image in memory: {error}") from error
        finally:
            image.exec_trace = None
        self._kept += statements
        self._append(statements)
        return result

    async def _try_again(self) -> None:
        while not await self.flush():  # noqa: ASYNC110 (nobody can tell when a disk takes something again)
            await asyncio.sleep(RETRY_SECONDS)

    async def flush(self) -> bool:
        """Write the kept statements, in one transaction; return True if none is kept any more."""
        async with self._lock:
            if self._image is None:
                return True
            kept = tuple(self._kept)
            try:
                await self._database.write(lambda connection: _run(connection, kept))
            except DatabaseError as error:
                self._why = str(error)
                return False
            self._image, self._kept = None, []
            self._drop_copy()
        self._log.warning("journal.written_again", statements=len(kept))
        self._ended()
        return True

    async def close(self) -> None:
        """Try once more to write the kept statements; report the loss if that fails."""
        if self._task is not None:
            self._task.cancel()
        if not await self.flush():
            where = str(self._copy) if self._copied else "nowhere"
            self._log.error("journal.left_unwritten", statements=len(self._kept), kept_in=where)

    # The copy on another file system.

    async def recover(self) -> int:
        """Write the statements that the previous run kept in the copy; return their number. Raises DatabaseError.

        A copy that does not continue `state.db` is put aside: it was made beside other content.
        """
        if self._copy is None or not self._copy.exists():
            return 0
        try:
            base, statements = _read_copy(self._copy)
        except (OSError, ValueError) as error:
            return self._put_aside(f"it cannot be read: {error}")

        def work(connection: apsw.Connection) -> bool:
            follows = _newest(connection) == base
            if follows:
                _run(connection, statements)
            return follows

        if not await self._database.write(work):
            return self._put_aside("state.db has gone on without it, or is another")
        self._drop_copy()
        self._log.warning("journal.recovered", statements=len(statements), copy=str(self._copy))
        return len(statements)

    def _put_aside(self, why: str) -> int:
        if self._copy is not None:
            aside = self._copy.with_name(f"{self._copy.name}.unused")
            with contextlib.suppress(OSError):
                self._copy.replace(aside)
            self._log.error("journal.copy_unused", copy=str(aside), reason=why)
        return 0

    def _start_copy(self, image: apsw.Connection) -> None:
        self._copied = self._copy is not None
        self._drop_copy()
        self._append(_newest(image))

    def _append(self, line: object) -> None:
        if self._copy is None or not self._copied:
            return
        try:
            descriptor = os.open(self._copy, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{json.dumps(line)}\n")
        except OSError as error:
            self._copied = False  # half of it would be worse than none
            self._drop_copy()
            self._log.error("journal.not_copied", copy=str(self._copy), error=str(error))

    def _drop_copy(self) -> None:
        if self._copy is not None:
            with contextlib.suppress(OSError):
                self._copy.unlink(missing_ok=True)


def place_of_copy(runtime: Path, state: Path) -> Path | None:
    """Say where a copy is kept: beside the sockets, if those are on another file system than the state."""
    if runtime.stat().st_dev == state.stat().st_dev:
        return None
    return runtime / "journal.standby"


def _image_of(connection: apsw.Connection, schema: str) -> apsw.Connection:
    """Copy the tables that later writes look up into a database in memory."""
    image = apsw.Connection(":memory:")
    image.execute(schema)
    for table, is_open in _OPEN_ROWS.items():
        newest = "" if table == "note" else f" OR id = (SELECT max(id) FROM {table})"  # noqa: S608 (constants)
        rows = fetch(connection, f"SELECT * FROM {table} WHERE {is_open}{newest}")  # noqa: S608 (constants)
        for row in rows:
            marks = ", ".join("?" * len(row))
            image.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608 (constants)
    return image


def _newest(connection: apsw.Connection) -> list[int]:
    """Read the newest number of each table."""
    query = "SELECT coalesce(max(id), 0) FROM {}"
    return [fetch(connection, query.format(table))[0][0] for table in _TABLES]


def _run(connection: apsw.Connection, statements: Sequence[Statement]) -> None:
    for sql, bindings in statements:
        connection.execute(sql, tuple(bindings)).fetchall()


def _read_copy(copy: Path) -> tuple[list[int], list[Statement]]:
    """Read a copy, a line for each write; one that a kill has cut short is left out. Raises OSError, ValueError."""
    first, *lines = copy.read_text().split("\n")[:-1]
    writes = [json.loads(line) for line in lines]
    return json.loads(first), [(sql, bindings) for write in writes for sql, bindings in write]
