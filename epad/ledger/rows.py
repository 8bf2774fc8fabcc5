"""The ledger's tables, and how their rows are read when the file may be damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from epad.ledger.errors import LedgerUnavailableError, RecordError
from epad.ledger.hashes import leaf_hash
from epad.ledger.record import Record, Repaired, Span, Trimmed, decode
from epad.storage.database import DatabaseError, connect, fetch, in_words

RECORD_TABLE = """
CREATE TABLE IF NOT EXISTS {table}(
    seq INTEGER PRIMARY KEY, turn TEXT, kind INTEGER NOT NULL, subsystem TEXT, wall_ns INTEGER NOT NULL,
    body BLOB, leaf BLOB NOT NULL, link BLOB NOT NULL) STRICT;
"""
TABLES = f"""
{RECORD_TABLE.format(table="record")}
CREATE TABLE IF NOT EXISTS payload_kept(
    hash BLOB PRIMARY KEY, codec INTEGER NOT NULL, wall_ns INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS seal(
    no INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, sha256 BLOB NOT NULL,
    trailer BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS quarantine(
    id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, cause TEXT NOT NULL, raw BLOB NOT NULL,
    wall_ns INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value ANY) STRICT;
CREATE TABLE IF NOT EXISTS sums(no INTEGER PRIMARY KEY, body BLOB NOT NULL, note TEXT NOT NULL) STRICT;
"""
SMALL_TABLES = ("seal", "meta", "payload_kept", "quarantine", "sums")
# Indexes stand apart from the table so that a repair can drop and rebuild them.
INDEXES = {
    "record_turn": "CREATE UNIQUE INDEX IF NOT EXISTS record_turn ON record(turn, kind)",
    "record_closed": "CREATE INDEX IF NOT EXISTS record_closed ON record(wall_ns) WHERE kind = 2",
    "record_repaired": "CREATE INDEX IF NOT EXISTS record_repaired ON record(seq) WHERE kind = 4",
    "record_trimmed": "CREATE INDEX IF NOT EXISTS record_trimmed ON record(seq) WHERE kind = 5",
    "record_session": "CREATE INDEX IF NOT EXISTS record_session ON record(subsystem) WHERE kind = 8",
    "record_label": "CREATE INDEX IF NOT EXISTS record_label ON record(subsystem) WHERE kind = 10",
    "record_rooted": "CREATE INDEX IF NOT EXISTS record_rooted ON record(seq) WHERE kind = 11",
}
_VALUES = ("turn", "kind", "subsystem", "wall_ns", "body", "leaf", "link")
_ROWS_FROM = "SELECT * FROM record WHERE seq >= ? ORDER BY seq LIMIT ?"
# A flipped bit may turn a blob into text that is not UTF-8, which cannot be fetched: then all is read as bytes.
_CAREFULLY = ", ".join(
    f"typeof({name}), CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"
    for name in _VALUES
)
_ROWS_FROM_CAREFULLY = f"SELECT seq, {_CAREFULLY} FROM record WHERE seq >= ? ORDER BY seq LIMIT ?"  # noqa: S608  constants only
DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.IOError, apsw.FormatError, apsw.TooBigError)
"""What SQLite says of damage; an unreadable disk sector is IOError, a flipped length TooBigError."""
_UNREADABLE_BYTES = {
    apsw.SQLITE_IOERR_READ,
    apsw.SQLITE_IOERR_SHORT_READ,
    apsw.SQLITE_IOERR_DATA,
    apsw.SQLITE_IOERR_CORRUPTFS,
    apsw.SQLITE_IOERR_IN_PAGE,
}
"""The I/O errors that are about a file's bytes. Others say that SQLite could not prepare to read: the first reader of a
file must write the index of its log, which fails on a disk that takes nothing (SQLITE_IOERR_SHMSIZE)."""

CHUNK_ROWS = 250  # what fits a core's cache
STATEMENT_ROWS = 4_000  # beginning a statement costs 40 us; between two of them the WAL can be reset
LINEAR_SEARCH_ROWS = 1_000  # row by row past damage (a page holds about ten), then in doubling steps


Values = tuple[Any, ...]
"""A row's columns as SQLite gave them: seq, turn, kind, subsystem, wall_ns, body, leaf, link."""


class Row(NamedTuple):
    """A row as stored: any value may be of any type, since a flipped bit may have changed even that.

    `mistyped` names a column whose bytes may be right but are stored as a type they cannot have.
    """

    seq: int
    turn: object
    kind: object
    subsystem: object
    wall_ns: object
    body: object
    leaf: object
    link: object
    mistyped: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Rows that SQLite could not read; `last` is None where the end is not known either."""

    first: int
    last: int | None
    detail: str


def open_reader(path: Path) -> apsw.Connection:
    """Open a ledger file to read. Raises LedgerUnavailableError where there is none, or none can be read now."""
    if not path.is_file():
        raise LedgerUnavailableError(f"{path}: no ledger there; name the state directory's ledger.db")
    try:
        connection = connect(path, readonly=True)
    except DatabaseError as error:
        raise LedgerUnavailableError(str(error)) from error
    try:
        connection.pragma("schema_version")
    except apsw.Error as error:
        if not _is_of_bytes(error):
            connection.close()
            why = f"SQLite cannot prepare to read it: {in_words(path, error)}"
            raise LedgerUnavailableError(why) from error
    return connection


def _is_of_bytes(error: apsw.Error) -> bool:
    """Tell if an error is about the bytes of a file: whoever reads them tells which."""
    if isinstance(error, apsw.IOError):
        return getattr(error, "extendedresult", 0) in _UNREADABLE_BYTES
    return isinstance(error, DAMAGE)


def known_last(connection: apsw.Connection) -> int | None:
    """Return the newest record's number, None where damage hides it."""
    try:
        return last_sequence(connection)
    except apsw.CorruptError:
        return None


def last_sequence(connection: apsw.Connection) -> int:
    """Return the newest record's number, 0 without records."""
    return int(fetch(connection, "SELECT coalesce(max(seq), 0) FROM record")[0][0])


def first_moment(connection: apsw.Connection) -> int | None:
    """Return the time of the first record that is kept whole, in nanoseconds; None without one."""
    first = trimmed_through(connection) + 1
    rows = fetch(connection, "SELECT wall_ns FROM record WHERE seq >= ? ORDER BY seq LIMIT 1", (first,))
    return int(rows[0][0]) if rows else None


def row_at(connection: apsw.Connection, sequence: int) -> Row | None:
    """Return one row by its number. Raises the errors in DAMAGE."""
    rows = _rows_from(connection, sequence, 1)
    return rows[0] if rows and rows[0].seq == sequence else None


def read_rows(
    connection: apsw.Connection, first: int, chunk_rows: int = CHUNK_ROWS
) -> Iterator[Row | Unreadable]:
    """Yield every row from `first` on, in file order, stepping over unreadable ones."""
    for item in read_chunks(connection, first, chunk_rows):
        if isinstance(item, list):
            yield from (Row(*values) for values in item)
        else:
            yield item


def read_chunks(
    connection: apsw.Connection, first: int, chunk_rows: int = CHUNK_ROWS
) -> Iterator[list[Values] | Row | Unreadable]:
    """Yield every row from `first` on: as lists of raw rows, and one by one around damage."""
    position = first
    while True:
        begun = position
        try:
            for rows in _in_chunks(connection, position, chunk_rows):
                yield rows
                position = max(position, rows[-1][0]) + 1
        except (UnicodeDecodeError, *DAMAGE):
            ended = True
            for item in _carefully(connection, position, chunk_rows):
                ended = False
                yield item
                if isinstance(item, Row):
                    position = max(position, item.seq) + 1
                elif item.last is None:
                    return
                else:
                    position = item.last + 1
            if ended:
                return
            continue
        if position == begun:
            return


def _in_chunks(connection: apsw.Connection, position: int, chunk_rows: int) -> Iterator[list[Values]]:
    """Yield raw rows of one statement. Raises the errors in DAMAGE, and UnicodeDecodeError."""
    cursor = connection.execute(_ROWS_FROM, (position, max(chunk_rows, STATEMENT_ROWS)))
    try:
        while rows := list(islice(cursor, chunk_rows)):
            yield rows
    finally:
        cursor.close()


def _carefully(connection: apsw.Connection, position: int, limit: int) -> Iterator[Row | Unreadable]:
    """Yield some rows one by one, past one stretch of damage at the most."""
    for _ in range(limit):
        item = _first_row(connection, position)
        if item is None:
            return
        yield item
        if isinstance(item, Unreadable):
            return
        position = max(position, item.seq) + 1


def repaired_spans(connection: apsw.Connection) -> tuple[Span, ...]:
    """Return the records that repairs have given up as lost, from repair records whose bytes are sound."""
    repairs = _sound_records(connection, "kind = 4 ORDER BY seq")
    return tuple(span for record in repairs if isinstance(record, Repaired) for span in record.lost)


def newest_trim(connection: apsw.Connection) -> Trimmed | None:
    """Return the record that says up to where bodies are no longer kept; None where all are."""
    trims = _sound_records(connection, "kind = 5 ORDER BY seq DESC")
    return next((record for record in trims if isinstance(record, Trimmed)), None)


def trimmed_through(connection: apsw.Connection) -> int:
    """Return the newest record whose body need not be there, 0 where all must be."""
    trim = newest_trim(connection)
    return trim.through if trim is not None else 0


def _sound_records(connection: apsw.Connection, which: str) -> Iterator[Record]:
    """Records whose bytes are sound, among those that an index of their kind names."""
    try:
        rows = fetch(
            connection,
            f"SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record WHERE {which}",  # noqa: S608  constants only
        )
    except DAMAGE:
        return
    for sequence, body, leaf in rows:
        with contextlib.suppress(RecordError):
            if isinstance(body, bytes) and leaf_hash(body) == leaf:
                yield decode(sequence, body)


def _rows_from(connection: apsw.Connection, position: int, limit: int) -> list[Row]:
    try:
        return [Row(*values) for values in fetch(connection, _ROWS_FROM, (position, limit))]
    except UnicodeDecodeError:
        return [_row_of(values) for values in fetch(connection, _ROWS_FROM_CAREFULLY, (position, limit))]


def _row_of(values: tuple[Any, ...]) -> Row:
    """Return a row from its number, and the type and value of each column."""
    columns: list[object] = []
    mistyped = ""
    for name, kind, value in zip(_VALUES, values[1::2], values[2::2], strict=True):
        columns.append(value)
        if kind == "text":
            with contextlib.suppress(UnicodeDecodeError):
                columns[-1] = value if name in {"body", "leaf", "link"} else value.decode()
            mistyped = name if isinstance(columns[-1], bytes) else mistyped
    return Row._make((values[0], *columns, mistyped))


def _first_row(connection: apsw.Connection, position: int) -> Row | Unreadable | None:
    try:
        rows = _rows_from(connection, position, 1)
    except DAMAGE as error:
        following = _next_readable(connection, position)
        return Unreadable(position, None if following is None else following - 1, str(error))
    return rows[0] if rows else None


def _next_readable(connection: apsw.Connection, position: int) -> int | None:
    """Return the number of the next row that can be read, None where none is known."""
    last = known_last(connection)
    if last is None:
        return None
    candidate, step = position + 1, 1
    while candidate <= last:
        try:
            rows = _rows_from(connection, candidate, 1)
        except DAMAGE:
            step = 1 if candidate - position < LINEAR_SEARCH_ROWS else step * 2
            candidate += step
        else:
            return rows[0].seq if rows else None
    return None
