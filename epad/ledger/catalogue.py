"""Check the file's notes about itself beside its records: its schema, the notes of its seals, its marks.

All of it can be made again. So that a change is noticed, the schema is compared with the code's own, and a digest
over seals and marks stands among the marks; each transaction that changes them renews it, unless it was wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

import apsw
import msgspec

from epad.ledger.chain import Fault, FaultKind
from epad.ledger.errors import SegmentError
from epad.ledger.rows import DAMAGE, INDEXES, SMALL_TABLES, TABLES, row_at, trimmed_through
from epad.ledger.seal import add_seal
from epad.ledger.segment import Seal, check_segment, read_segment, segment_paths
from epad.storage.database import fetch

DIGEST = "digest"
MARKS = frozenset({"anchored", "closed", DIGEST})
_MARKS = "SELECT typeof(key), CAST(key AS BLOB), typeof(value), CAST(value AS BLOB) FROM meta NOT INDEXED"
_SEALS = (
    "SELECT no, typeof(first), CAST(first AS BLOB), typeof(last), CAST(last AS BLOB),"
    " typeof(sha256), CAST(sha256 AS BLOB), typeof(trailer), CAST(trailer AS BLOB) FROM seal ORDER BY no"
)
_SUMS = "SELECT no, typeof(body), CAST(body AS BLOB), typeof(note), CAST(note AS BLOB) FROM sums ORDER BY no"
_SCHEMA = "SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema WHERE sql IS NOT NULL"
_KEPT_ASIDE = b"record_damaged_"  # a table that a repair has replaced, and its indexes

Schema = dict[bytes, bytes]
"""The text that made each table and index, by its name."""


def catalogue_faults(connection: apsw.Connection, *, full: bool = False) -> list[Fault]:
    """Check schema, seals and marks against the written ones; with `full`, check their pages, too."""
    try:
        return [
            Fault(0, FaultKind.CATALOGUE, f"{what} is not what was written")
            for what in _changed(connection, full=full)
        ][:1]
    except (apsw.SQLError, UnicodeDecodeError, *DAMAGE) as error:
        return [Fault(0, FaultKind.CATALOGUE, f"what stands beside the records cannot be read: {error}")]


@contextlib.contextmanager
def renewed_digest(connection: apsw.Connection) -> Iterator[None]:
    """Around a change of seals or marks, in its transaction. A digest that is wrong stays so, to be found."""
    was_right = False
    with contextlib.suppress(apsw.SQLError, *DAMAGE):
        was_right = _stored_digest(connection) in {None, _digest(connection)}
    yield
    if was_right:
        _renew(connection)


def mend_catalogue(connection: apsw.Connection, segments: Path | None) -> None:
    """Make all of it again: the schema from the code, the seals from whole segments. Within a transaction.

    The mark of an orderly end goes: the epoch that runs will set it. So do the sums: the next seal makes them again.
    """
    _mend_schema(connection)
    connection.execute("DELETE FROM meta")
    connection.execute("DELETE FROM seal")
    connection.execute("DELETE FROM sums")
    if segments is not None:
        connection.execute("INSERT INTO meta VALUES ('anchored', 1)")
        for seal in _whole_seals(connection, segments):
            add_seal(connection, seal)
    _renew(connection)


def _changed(connection: apsw.Connection, *, full: bool) -> Iterator[str]:
    wanted, there = _own_schema(), _schema(connection)
    for name in sorted(
        there
    ):  # a table that is missing cannot be read below, an index is looked for elsewhere
        if wanted.get(name) != there[name]:
            yield f"the schema of {name.decode(errors='replace')}"
    with connection:  # one snapshot: the writer may be at work
        stored, marks = _stored_digest(connection), _marks(connection)
        if any(key.decode(errors="replace") not in MARKS for _, key, _, _ in marks):
            yield "a mark's name"
        if stored is not None and stored != _digest(connection):
            yield "a seal or a mark"
    for table in SMALL_TABLES if full else ():
        if table.encode() in there and fetch(connection, f"PRAGMA integrity_check({table})") != [("ok",)]:
            yield f"the table {table}"


@cache
def _own_schema() -> Schema:
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        for statement in (TABLES, *INDEXES.values()):
            connection.execute(statement)
        return _schema(connection)


def _schema(connection: apsw.Connection) -> Schema:
    """Return the stored schema, without the quotes that SQLite puts around a table that was renamed."""
    rows = fetch(connection, _SCHEMA)
    return {
        name: sql.replace(b'TABLE "record"(', b"TABLE record(", 1)
        for name, sql in rows
        if not name.startswith(_KEPT_ASIDE)
    }


def _marks(connection: apsw.Connection) -> list[tuple[str, bytes, str, bytes]]:
    rows: list[tuple[str, bytes, str, bytes]] = []
    for kind, key, value_kind, value in fetch(connection, _MARKS):
        rows.append((kind, key or b"", value_kind, value))
    return sorted(rows)


def _stored_digest(connection: apsw.Connection) -> bytes | None:
    """Return None in a ledger from before there was one."""
    return next((value for _, key, _, value in _marks(connection) if key == DIGEST.encode()), None)


def _digest(connection: apsw.Connection) -> bytes:
    marks = [mark for mark in _marks(connection) if mark[1] != DIGEST.encode()]
    sums = fetch(connection, _SUMS) if _has_sums(connection) else []
    told = (marks, fetch(connection, _SEALS))
    return sha256(msgspec.msgpack.encode((*told, sums) if sums else told)).digest()


def _has_sums(connection: apsw.Connection) -> bool:
    """Not so in a file that no epad has written since there are any."""
    return bool(fetch(connection, "SELECT 1 FROM sqlite_schema WHERE name = 'sums'"))


def _renew(connection: apsw.Connection) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (DIGEST, _digest(connection)))


def _mend_schema(connection: apsw.Connection) -> None:
    """Restore the code's own definition of any table or index that differs."""
    there = _schema(connection)
    wrong = {name: sql for name, sql in _own_schema().items() if there.get(name, sql) != sql}
    if not wrong:
        return
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.pragma("writable_schema", 1)
    for name, sql in wrong.items():
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql.decode(), name.decode()))
    connection.pragma("writable_schema", "reset")


def _whole_seals(connection: apsw.Connection, segments: Path) -> Iterator[Seal]:
    """Yield the seals of segments that are whole, follow each other, and end with a record of this ledger."""
    previous, trimmed = None, trimmed_through(connection)
    for path in segment_paths(segments):
        try:
            seal = check_segment(path)
            if not _follows(seal, previous, trimmed) or not _is_of_this(connection, seal, path):
                return
        except SegmentError:
            return
        yield seal
        previous = seal


def _follows(seal: Seal, previous: Seal | None, trimmed: int) -> bool:
    """Tell if a segment comes after another; the first one there comes after records whose bodies have gone."""
    trailer = seal.trailer
    if previous is None:
        return (trailer.number, trailer.first) == (1, 1) or trailer.first - 1 <= trimmed
    before = previous.trailer
    return (trailer.number, trailer.first, trailer.previous_sha256) == (
        before.number + 1,
        before.last + 1,
        previous.sha256,
    )


def _is_of_this(connection: apsw.Connection, seal: Seal, path: Path) -> bool:
    row = row_at(connection, seal.trailer.last)
    return row is not None and row.link == read_segment(path)[1][-1].link
