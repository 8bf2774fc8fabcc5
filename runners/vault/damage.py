"""Open a store whatever its file is like: a torn one is put aside, its readable rows go to a new one, the rest is told.

The rows keep their ids, so links between them stay; a row whose digest in the torn journal is another is not taken.
The loss is a row of `losses`, which a person reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw

from runners.vault.schema import COLUMNS
from runners.vault.store import OPERATOR, SHARED, By, Quotas, Store, digest_of

_UNREADABLE: Final = frozenset({apsw.SQLITE_IOERR_DATA, apsw.SQLITE_IOERR_SHORT_READ})
_AT_ONCE: Final = 256
_MOST_MISSES: Final = 4096
"""So many ids in a row that cannot be read end a table."""

Row = tuple[int, list[Any]]


def open_store(path: Path, quotas: Quotas | None, now: Callable[[], float]) -> Store:
    """Return the store, made anew from the readable rows where its file is torn. Raises apsw.Error, OSError."""
    _end_rescue(path)
    try:
        store = Store(path, quotas, now)
        fault = _fault(store.connection)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        fault = str(error)
    except apsw.IOError as error:
        if getattr(error, "extendedresult", 0) not in _UNREADABLE:
            raise
        fault = str(error)
    if not fault:
        return store
    with contextlib.suppress(UnboundLocalError):
        store.connection.close()
    return _rescued(path, quotas, now, fault)


def _fault(connection: apsw.Connection) -> str:
    """Return the first fault of the file; empty if it is whole. It reads all of it."""
    try:
        line = str(connection.execute("PRAGMA quick_check(1)").fetchall()[0][0])
    except (apsw.Error, UnicodeDecodeError) as error:
        return str(error)
    return "" if line == "ok" else line


def _end_rescue(path: Path) -> None:
    """Put a file that was rescued by a former life in its place, if it died before it did."""
    rescued = path.with_name("rescued.db")
    if rescued.exists() and not path.exists():
        rescued.rename(path)


def _rescued(path: Path, quotas: Quotas | None, now: Callable[[], float], fault: str) -> Store:
    """Make a new file beside the torn one, and then change places: a kill in between begins or ends it again."""
    fresh = path.with_name("rescued.db")
    for suffix in ("", "-wal", "-shm"):
        _beside(fresh, suffix).unlink(missing_ok=True)
    aside = next(place for n in range(1, 1 << 20) if not (place := path.with_name(f"torn-{n}.db")).exists())
    target = Store(fresh, quotas, now)
    with target.connection:
        lost = _copy(path, target)
        sentence = f"{fault[:200]}: {lost}; the torn file is {aside.name}"
        target.append("losses", By(OPERATOR, ""), sentence=sentence)
    target.connection.close()
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            _beside(path, suffix).rename(_beside(aside, suffix))
    fresh.rename(path)
    return Store(path, quotas, now)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _copy(path: Path, target: Store) -> str:
    """Copy the rows that can be read and are as they were appended; return in words what was lost."""
    reader = apsw.Connection(
        str(path), vfs="unix"
    )  # without page sums: the digests tell which rows are right
    try:
        proven = {
            (row[0], row[1]): bytes(row[2])
            for _, row in _readable(reader, "journal", ("kind", "row", "digest"))
        }
        kept = 0
        for table, names in COLUMNS.items():
            for number, row in _readable(reader, table, names):
                if proven.pop((table, number), None) not in {None, digest_of(table, number, row)}:
                    proven[table, number] = b""
                    continue
                if not _has_its_entity(target, table, dict(zip(names, row, strict=True))):
                    proven[table, number] = b""
                    continue
                marks = ", ".join("?" * (len(names) + 1))
                target.connection.execute(
                    f"INSERT INTO {table}(id, {', '.join(names)}) VALUES({marks})",
                    (number, *row),
                )
                target.chain(table, number, row)
                kept += 1
        _index(target)
    finally:
        reader.close()
    if not kept and not proven:
        return "no row could be read"
    return f"{kept} rows were kept, {len(proven)} are lost"


def _has_its_entity(target: Store, table: str, row: dict[str, Any]) -> bool:
    names = {"observations": ("entity_id",), "relations": ("from_entity", "to_entity")}.get(table, ())
    return all(target.one("SELECT 1 FROM entities WHERE id = ?", row[name]) is not None for name in names)


def _index(target: Store) -> None:
    """Make the index for searching anew, of the rows that count."""
    target.load()
    for row in list(index_rows(target.connection)):
        target.connection.execute("INSERT INTO found(rowid, text, scope) VALUES(?, ?, ?)", row)


def index_rows(connection: apsw.Connection) -> Iterator[tuple[int, str, str]]:
    """Yield what the index for searching has of each text that counts: its id, its words and its scope."""
    hidden = {
        session
        for (session,) in connection.execute(
            "SELECT DISTINCT of_session FROM retractions WHERE of_session IS NOT NULL"
        )
    }
    newest = (
        "SELECT o.id, e.name, o.content, o.scope, o.session FROM observations o JOIN entities e ON e.id = o.entity_id"
        " WHERE o.id > coalesce((SELECT max(up_to_observation) FROM retractions r WHERE r.entity_id = e.id), 0)"
        " AND (o.kind <> 'content' OR o.version = (SELECT max(version) FROM observations n"
        " WHERE n.entity_id = e.id AND n.kind = 'content'))"
    )
    for number, qualified, content, scope, session in connection.execute(newest):
        if session not in hidden or scope == SHARED:
            yield number, f"{qualified.partition('/')[2]} {content}", f"x{scope}"


def _readable(reader: apsw.Connection, table: str, names: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows of a table that can be read: many at once, and one by one where a page cannot."""
    last, misses, query = 0, 0, f"SELECT id, {', '.join(names)} FROM {table}"  # noqa: S608
    while misses < _MOST_MISSES:
        try:
            rows: list[tuple[Any, ...]] = reader.execute(
                f"{query} WHERE id > ? ORDER BY id LIMIT ?", (last, _AT_ONCE)
            ).fetchall()
        except (apsw.Error, UnicodeDecodeError):
            rows = _one_by_one(reader, query, last)
            if not rows:
                last, misses = last + _AT_ONCE, misses + _AT_ONCE
                continue
        if not rows:
            return
        misses = 0
        for number, *row in rows:
            last = int(str(number))
            yield last, list(row)


def _one_by_one(reader: apsw.Connection, query: str, last: int) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for number in range(last + 1, last + 1 + _AT_ONCE):
        with contextlib.suppress(apsw.Error, UnicodeDecodeError):
            rows += reader.execute(f"{query} WHERE id = ?", (number,)).fetchall()
    return rows
