"""Open a database for statements of somebody who is not trusted: they read, within bounds, and nothing else.

Five walls, each for itself: files that cannot be written (`sqlite_files.py`), a read-only connection, an authorizer
with a list of what is allowed, SQLite's own limits, and a handler that stops a statement after a while. The process of
the call is the sixth: a few of SQLite's functions cannot be stopped in between.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import apsw

from runners.tools import output
from runners.tools.signature import ToolError
from runners.tools.sqlite_files import NAME, VFS_NAME, DatabaseFiles, DescriptorVfs

MOST_SECONDS: Final = 5.0
MOST_CELL: Final = 4096
"""The characters or bytes of one value that are shown."""
_MOST_NAME: Final = 100
_HEAP_BYTES: Final = 256 << 20
_STEPS: Final = 2000
_EXACT_IN_JSON: Final = 1 << 53
"""Whole numbers beyond are rounded by most readers of JSON."""

_LIMITS: Final = {
    apsw.SQLITE_LIMIT_LENGTH: 64 << 20,
    apsw.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    apsw.SQLITE_LIMIT_COLUMN: 500,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 100,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    apsw.SQLITE_LIMIT_VDBE_OP: 100_000,
    apsw.SQLITE_LIMIT_FUNCTION_ARG: 32,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 500,
    apsw.SQLITE_LIMIT_VARIABLE_NUMBER: 1000,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_SETTINGS: Final = {
    apsw.SQLITE_DBCONFIG_DEFENSIVE: 1,
    apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER: 0,
}
_READING: Final = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE})
_FUNCTIONS_REFUSED: Final = frozenset({"load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"})
_PRAGMAS: Final = frozenset(
    {
        *("application_id", "data_version", "encoding", "freelist_count", "page_count", "page_size"),
        *("schema_version", "user_version", "journal_mode", "auto_vacuum"),
    }
)
"""Those that tell something, and would set it with an argument."""
_PRAGMAS_OF: Final = frozenset(
    {
        *("foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo"),
        *("integrity_check", "quick_check", "table_info", "table_list", "table_xinfo"),
    }
)
"""Those whose argument names a table or an index."""

_ERRORS: Final[tuple[tuple[type[apsw.Error], str, str], ...]] = (
    (apsw.AuthError, "that is not allowed: {}", "statements read: SELECT, and pragmas that tell"),
    (apsw.InterruptError, f"the statement was stopped after {MOST_SECONDS:g} s", "narrow it"),
    (apsw.NoMemError, "the statement needs more memory than it may have", "select less at once"),
    (apsw.TooBigError, "a value or the statement is too long", "select less at once, by substr()"),
    (apsw.BusyError, "another program is writing to the database", "ask again in a moment"),
    (apsw.LockedError, "another program is writing to the database", "ask again in a moment"),
    (apsw.CorruptError, "the database is damaged: {}", "restore it from a copy"),
    (apsw.NotADBError, "the database is damaged: {}", "restore it from a copy"),
)


def authorize(
    operation: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None
) -> int:
    """Allow statements that read, and pragmas that tell."""
    match operation:
        case apsw.SQLITE_FUNCTION:
            allowed = (second or "").lower() not in _FUNCTIONS_REFUSED
        case apsw.SQLITE_PRAGMA:
            name = (first or "").lower()
            allowed = name in _PRAGMAS_OF or (name in _PRAGMAS and second is None)
        case _:
            allowed = operation in _READING
    return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY


class Database:
    """Answers statements from one open database."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._ends = time.monotonic() + MOST_SECONDS
        self.columns: list[str] = []
        connection.set_progress_handler(self._is_late, _STEPS)
        connection.exec_trace = self._begin
        self._statements = 0

    @property
    def is_late(self) -> bool:
        """Tell if the time for statements is used up."""
        return time.monotonic() > self._ends

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one statement; `columns` has their names then. Raises ToolError."""
        self._statements, self.columns = 0, []
        with translated():
            yield from self._connection.cursor().execute(sql, parameters)

    def _is_late(self) -> bool:
        return self.is_late

    def _begin(self, cursor: apsw.Cursor, _sql: str, _parameters: object) -> bool:
        self._statements += 1
        if self._statements > 1:
            raise ToolError("there is more than one statement", "give one statement a call")
        self.columns = [str(each[0])[:_MOST_NAME] for each in cursor.get_description()]
        return True


@contextmanager
def opened(path: str) -> Iterator[Database]:
    """Give an open database. Raises ToolError for what is none, and where it was changed while it was read."""
    files = DatabaseFiles(path)
    vfs = DescriptorVfs(files)
    apsw.hard_heap_limit(_HEAP_BYTES)
    with translated():
        connection = apsw.Connection(NAME, flags=apsw.SQLITE_OPEN_READONLY, vfs=VFS_NAME)
        for limit, value in _LIMITS.items():
            connection.limit(limit, value)
        for setting, value in _SETTINGS.items():
            connection.config(setting, value)
        # In a log's case the index is in this process's memory then, and no file is shared.
        connection.pragma("locking_mode", "exclusive")
        connection.pragma("temp_store", "memory")
        connection.pragma("mmap_size", 0)
        connection.pragma("schema_version")  # takes the lock
        files.refuse_cut()
        connection.authorizer = authorize
        yield Database(connection)
    files.refuse_changed()
    del vfs


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's errors into ones that name the fix."""
    try:
        yield
    except apsw.Error as error:
        raise _explained(error) from None
    except UnicodeDecodeError:
        raise ToolError("a text in the database is not UTF-8", "read it as CAST(column AS BLOB)") from None
    except TypeError as error:
        raise ToolError(
            f"a parameter is of a wrong kind: {error}", "texts, numbers, true, false, null"
        ) from None
    except KeyError as error:
        raise ToolError(f"the statement has a parameter {error}", "name it in `parameters`") from None
    except OverflowError:
        raise ToolError("a parameter is beyond 64 bits", "give it as a text") from None


def _explained(error: apsw.Error) -> ToolError:
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_READONLY_ROLLBACK:
        return ToolError(
            "a program has died while it wrote: the database has to be rolled back first",
            "open it once with the program that it belongs to",
        )
    if "not authorized to use function" in str(error):
        return ToolError(str(error), "it writes, or reads files")
    for kind, message, hint in _ERRORS:
        if isinstance(error, kind):
            return ToolError(message.format(error), hint)
    return ToolError(f"SQLite says: {error}"[:500], "sqlite_schema shows the tables")


def plain(value: Any) -> tuple[Any, bool]:
    """Return a value in JSON's kinds, and if it was cut: a blob is an object with its bytes in base64."""
    match value:
        case bytes():
            shown = base64.b64encode(value[:MOST_CELL]).decode()
            return {"base64": shown, "bytes": len(value)}, len(value) > MOST_CELL
        case str() if len(value) > MOST_CELL:
            return value[:MOST_CELL] + "…", True
        case int() if abs(value) > _EXACT_IN_JSON:
            return str(value), False
        case float() if not math.isfinite(value):
            return str(value), False
        case _:
            return value, False


def cut_rows(rows: Iterator[tuple[Any, ...]], limit: int) -> tuple[list[list[Any]], bool]:
    """Return the first rows in JSON's kinds, and if anything was left out."""
    any_cut = False

    def shown() -> Iterator[list[Any]]:
        nonlocal any_cut
        for row in rows:
            values = [plain(value) for value in row]
            any_cut = any_cut or any(cut for _, cut in values)
            yield [value for value, _ in values]

    kept, more = output.cut_items(shown(), limit)
    return kept, more or any_cut
