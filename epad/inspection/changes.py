"""Compare the last sound copy of a database with a new one: pages first, then rows.

Pages that are the same need no look, so the cost follows the changes and one pass over the bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from epad.inspection.bit_flips import is_flip, one_bit
from epad.inspection.graph_schema import Table, quoted, tables_of
from epad.storage.database import fetch

CHUNK_BYTES = 1 << 20
MAX_ROW_CHANGES = 100_000
"""Beyond this it is a rewrite, and every table in it counts as edited."""
# Page 1: the change counter, size, free list and schema cookie, and the counter's second copy.
_HEADER_COUNTERS = (range(24, 48), range(92, 100))


@dataclass(slots=True)
class Changes:
    """Holds the faults found as (kind, detail), and the tables whose values are edited in place.

    `left_out` are tables whose rows could not be compared here, and why.
    """

    faults: list[tuple[str, str]] = field(default_factory=list)
    edited: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


def changed_pages(before: Path, after: Path) -> tuple[int, dict[int, int | None]]:
    """Return the page size, and each page that differs with the offset of its one flipped bit, or None."""
    changed: dict[int, int | None] = {}
    with before.open("rb") as old_file, after.open("rb") as new_file:
        header = new_file.read(100)
        page_bytes = int.from_bytes(header[16:18], "big")
        page_bytes = 65_536 if page_bytes == 1 else max(page_bytes, 512)
        old_file.seek(0)
        new_file.seek(0)
        number = 1
        while (new := new_file.read(CHUNK_BYTES)) and (old := old_file.read(CHUNK_BYTES)):
            if old != new:
                changed |= _differing(old, new, page_bytes, number)
            number += CHUNK_BYTES // page_bytes
    return page_bytes, changed


def _differing(old: bytes, new: bytes, page_bytes: int, first: int) -> dict[int, int | None]:
    changed: dict[int, int | None] = {}
    for start in range(0, min(len(old), len(new)), page_bytes):
        one, other = old[start : start + page_bytes], new[start : start + page_bytes]
        if one != other:
            changed[first + start // page_bytes] = one_bit(one, other)
    return changed


def compare(connection: apsw.Connection, good: Path, copy: Path, edited: set[str]) -> Changes:
    """Compare a copy, open as `main`, with the last sound one. Raises apsw.Error, OSError."""
    changes = Changes(edited=set(edited))
    _, pages = changed_pages(good, copy)
    if not pages:
        return changes
    owners = _owners(connection)
    names = {owners.get(page, "") for page in pages}
    connection.execute("ATTACH ? AS good", (f"{good.as_uri()}?immutable=1",))
    try:
        before = {table.name: table for table in tables_of(connection)}
        counts: Counter[str] = Counter()
        for table in before.values():
            if table.name in names and table.has_rowid and _same_columns(connection, table):
                try:
                    counts[table.name] = _compare_rows(connection, table, changes)
                except apsw.SQLError as error:
                    changes.left_out.append(f"changed rows of {table.name} ({error})")
                    counts[table.name] = 1  # for all that is known: a page of it accuses nobody
    finally:
        connection.execute("DETACH good")
    for page, at in pages.items():
        if at is None or (page == 1 and any(at in span for span in _HEADER_COUNTERS)):
            continue
        owner = owners.get(page, "")
        if owner in before and counts[owner] == 0:
            detail = (
                f"page {page} of {owner} differs in one bit from the last sound copy, and no row has changed"
            )
            changes.faults.append(("flip", detail))
    return changes


def _owners(connection: apsw.Connection) -> Mapping[int, str]:
    """Map each page to its table, those of its indexes included; only pages that hold rows.

    The others, free pages and the inner ones of a tree, hold numbers that moving rows about may change by a bit.
    """
    table_of = dict(fetch(connection, "SELECT name, tbl_name FROM main.sqlite_schema"))
    rows = fetch(connection, "SELECT pageno, name FROM dbstat('main') WHERE pagetype <> 'internal'")
    return {page: table_of.get(name, name) for page, name in rows}


def _same_columns(connection: apsw.Connection, table: Table) -> bool:
    rows = fetch(connection, f"PRAGMA good.table_info({quoted(table.name)})")
    return tuple(row[1] for row in rows) == table.columns


def _compare_rows(connection: apsw.Connection, table: Table, changes: Changes) -> int:
    """Look at each row that is in both copies and not the same in both; say how many there were."""
    number = 0
    for number, (rowid, *values) in enumerate(_changed_rows(connection, table), 1):
        if number > MAX_ROW_CHANGES:
            changes.edited.add(table.name)
            break
        cells = [values[at : at + 4] for at in range(0, len(values), 4)]
        is_vouched = _is_vouched(table, cells)
        for column, (old_type, old, new_type, new) in zip(table.columns, cells, strict=True):
            if old_type != new_type or old == new or old_type not in {"text", "blob"}:
                continue
            has_edits = table.name in changes.edited
            if is_flip(old, new, is_text=old_type == "text", has_edits=has_edits, is_vouched=is_vouched):
                detail = f"{table.name} row {rowid}: {column} differs in one bit from the last sound copy"
                changes.faults.append(("flip", detail))
            elif one_bit(old, new) is None:
                changes.edited.add(table.name)
    return number


def _changed_rows(connection: apsw.Connection, table: Table) -> Iterator[tuple[Any, ...]]:
    columns = [quoted(column) for column in table.columns]
    cells = ", ".join(
        f"typeof(g.{c}), CAST(g.{c} AS BLOB), typeof(c.{c}), CAST(c.{c} AS BLOB)" for c in columns
    )
    # Byte for byte: a collation of the column's own may be unknown here, or take a changed letter for the same.
    differ = " OR ".join(f"c.{c} COLLATE BINARY IS NOT g.{c} COLLATE BINARY" for c in columns)
    name = quoted(table.name)
    yield from connection.execute(
        f"SELECT c._rowid_, {cells} FROM main.{name} c JOIN good.{name} g ON g._rowid_ = c._rowid_ WHERE {differ}"
    )


def _is_vouched(table: Table, cells: list[list[Any]]) -> bool:
    """Tell if the row has a version, and it is unchanged."""
    if not table.version:
        return False
    _, old, _, new = cells[table.columns.index(table.version)]
    return old is not None and old == new
