"""Check that a copy of a database is whole, even if this process lacks parts that only its own program has.

A collation, a function, a tokenizer or a newer syntax that is missing here says nothing about the file. The parts that
need it are left out, and named; their trees are still read page by page, which needs no SQL of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from epad.inspection.bit_flips import one_bit
from epad.storage.database import fetch

FAULTS_SHOWN = 20
MAX_STAND_INS = 256
# What the check says of pages and trees; everything else it says of rows, by means of collations and functions.
_OF_TREES = ("Tree ", "Page ", "Freelist", "Main freelist", "Fragmentation", "***", "max rootpage")
# A schema that SQLite cannot use because of the file, and not because of a syntax that it does not know.
_SCHEMA_DAMAGE = ("invalid rootpage", "orphan index")
_CREATE = re.compile(r"\s*CREATE\s+(TEMP|TEMPORARY|TABLE|UNIQUE|INDEX|VIEW|TRIGGER|VIRTUAL)\b", re.IGNORECASE)
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")


@dataclass(slots=True)
class Structure:
    """Holds the faults of a copy, and the parts that could not be judged here, with the reason."""

    faults: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def open_copy(copy: Path, *, lenient: bool = False) -> apsw.Connection:
    """Open a copy so that looking at it leaves nothing beside it; `lenient` reads the readable part of its schema."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"{copy.absolute().as_uri()}?immutable=1", flags=flags)
    connection.pragma("trusted_schema", 0)
    connection.pragma("cell_size_check", 1)
    if lenient:
        connection.pragma("writable_schema", 1)  # an entry that cannot be parsed then hides no other
    return connection


def check_structure(copy: Path, *, deep: bool) -> Structure:
    """Check everything that can be checked here. Raises apsw.Error: CorruptError and NotADBError are damage."""
    check = "integrity_check" if deep else "quick_check"
    connection = open_copy(copy)
    try:
        return Structure(_lines(connection, f"PRAGMA {check}({FAULTS_SHOWN})"))
    except apsw.SQLError as error:
        return _by_parts(copy, check, str(error))
    except apsw.CorruptError as error:
        if not _is_unknown_syntax(copy, str(error)):
            raise
        return _by_parts(copy, check, str(error))
    finally:
        connection.close()


def schema_flips(copy: Path, good: Path) -> list[str]:
    """Name the entries of the schema that differ in one bit from the last sound copy. Raises apsw.Error."""
    now, before = _schema(copy), _schema(good)
    return [
        f"the schema's entry {row} differs in one bit from the last sound copy"
        for row, text in now.items()
        if row in before and one_bit(before[row], text) is not None
    ]


def _by_parts(copy: Path, check: str, why: str) -> Structure:
    """Check table by table: virtual ones, which their module alone can check, are left out."""
    found = Structure()
    strict, loose = open_copy(copy, lenient=True), _with_stand_ins(copy)
    try:
        for (name,) in fetch(strict, "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"):
            quoted = "'" + name.replace("'", "''") + "'"
            try:
                found.faults += _lines(strict, f"PRAGMA {check}({quoted})")
            except apsw.SQLError as error:
                found.left_out.append(f"indexes and rules of {name} ({error})")
                found.faults += _trees(loose, quoted)
    finally:
        strict.close()
        loose.close()
    found.left_out = found.left_out or [f"what this SQLite does not know ({why})"]
    return found


def _trees(loose: apsw.Connection, quoted: str) -> list[str]:
    """Return the faults of the pages of a table and its indexes, in any order its own program may use."""
    try:
        lines = _lines(loose, f"PRAGMA quick_check({quoted})")
    except apsw.SQLError:
        return []
    return [line for line in lines if line.startswith(_OF_TREES)]


def _lines(connection: apsw.Connection, pragma: str) -> list[str]:
    return [line for (line,) in connection.execute(pragma) if line != "ok"]


def _with_stand_ins(copy: Path) -> apsw.Connection:
    """A connection with something for each collation and function of the schema: enough to open its trees."""
    connection = open_copy(copy, lenient=True)

    def stand_in(of: apsw.Connection, name: str) -> None:
        of.create_collation(name, lambda one, other: (one > other) - (one < other))

    connection.collation_needed(stand_in)
    known = {str(row[0]).lower() for row in fetch(connection, "PRAGMA function_list")}
    texts = [str(sql) for (sql,) in fetch(connection, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")]
    for name in sorted(_called(texts) - known)[:MAX_STAND_INS]:
        connection.create_scalar_function(
            name, lambda *_: None, deterministic=True, flags=apsw.SQLITE_INNOCUOUS
        )
    return connection


def _called(texts: Iterable[str]) -> set[str]:
    return {name.lower() for text in texts for name in _CALL.findall(text)}


def _is_unknown_syntax(copy: Path, message: str) -> bool:
    """Tell if the schema is readable text throughout, so that only its syntax, or a name in it, is unknown here."""
    if "malformed database schema" not in message or message.endswith(_SCHEMA_DAMAGE):
        return False
    try:
        texts = [entry.decode() for entry in _schema(copy).values()]
    except (apsw.Error, UnicodeDecodeError):
        return False
    return all(_CREATE.match(text) and "\ufffd" not in text and _is_readable(text) for text in texts)


def _is_readable(text: str) -> bool:
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _schema(copy: Path) -> dict[int, bytes]:
    connection = open_copy(copy, lenient=True)
    try:
        query = "SELECT rowid, CAST(sql AS BLOB) FROM sqlite_schema WHERE sql IS NOT NULL"
        return dict(fetch(connection, query))
    finally:
        connection.close()
