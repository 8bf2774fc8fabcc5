"""Tools of the category `database`: read SQLite databases of the workspace, and write none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runners.tools import output, sqlite_reading
from runners.tools.signature import Args, PathArg, Result, ToolError, meta


class QueryArgs(Args, frozen=True):
    """Names a database, and holds one statement with its parameters by place or by name."""

    path: PathArg
    sql: str
    parameters: list[Any] | dict[str, Any] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 200


class QueryResult(Result, frozen=True):
    """Holds the first rows. A blob is `{"base64", "bytes"}`; a number that JSON would round is a text."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool


SQLITE_QUERY: Final = meta(
    "sqlite_query",
    QueryArgs,
    QueryResult,
    risk="R1",
    timeout=10,
    description="Run one SELECT on a SQLite database, read-only.",
    examples=({"path": "data.sqlite", "sql": "SELECT * FROM people WHERE age > ?", "parameters": [3]},),
)


@SQLITE_QUERY.tool
async def sqlite_query(args: QueryArgs) -> QueryResult:
    """Read as far as the limit and the answer's room go."""
    with sqlite_reading.opened(args.path) as database:
        rows, cut = sqlite_reading.cut_rows(database.rows(args.sql, args.parameters or ()), args.limit)
        return QueryResult(columns=database.columns, rows=rows, truncated=cut)


class SchemaArgs(Args, frozen=True):
    """Names a database and, if wanted, one table."""

    path: PathArg
    table: str | None = None


class SchemaResult(Result, frozen=True):
    """Holds the statements that made the tables, indexes, views and triggers."""

    sql: list[str]
    truncated: bool


SQLITE_SCHEMA: Final = meta(
    "sqlite_schema",
    SchemaArgs,
    SchemaResult,
    risk="R1",
    timeout=10,
    description="Show the schema of a SQLite database, or of one table.",
    examples=({"path": "data.sqlite"}, {"path": "data.sqlite", "table": "people"}),
)


@SQLITE_SCHEMA.tool
async def sqlite_schema(args: SchemaArgs) -> SchemaResult:
    """Read the table of the schema, which is text: nothing of it is run."""
    with sqlite_reading.opened(args.path) as database:
        rows = database.rows(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND (?1 IS NULL OR tbl_name = ?1 COLLATE NOCASE)"
            " ORDER BY rowid",
            (args.table,),
        )
        kept, cut = output.cut_items((str(row[0]) for row in rows), sqlite_reading.MOST_CELL)
    if args.table and not kept:
        raise ToolError(f"there is no table {args.table!r}", "sqlite_tables shows the names")
    return SchemaResult(sql=kept, truncated=cut)


class TablesArgs(Args, frozen=True):
    """Names a database."""

    path: PathArg


class Table(msgspec.Struct, frozen=True):
    """Describes a table or view; `rows` is left out for views, virtual tables, and where time was short."""

    name: str
    type: str
    rows: int | UnsetType = UNSET


class TablesResult(Result, frozen=True):
    """Holds the tables and views."""

    tables: list[Table]
    truncated: bool


SQLITE_TABLES: Final = meta(
    "sqlite_tables",
    TablesArgs,
    TablesResult,
    risk="R1",
    timeout=10,
    description="List the tables and views of a SQLite database, with their rows.",
    examples=({"path": "data.sqlite"},),
)


@SQLITE_TABLES.tool
async def sqlite_tables(args: TablesArgs) -> TablesResult:
    """Count the rows of tables as long as there is time."""
    with sqlite_reading.opened(args.path) as database:
        listed = list(
            database.rows("SELECT name, type FROM pragma_table_list WHERE schema = 'main' ORDER BY 1")
        )
        kept, cut = output.cut_items(_tables(database, listed), sqlite_reading.MOST_CELL)
    return TablesResult(tables=kept, truncated=cut)


def _tables(database: sqlite_reading.Database, listed: list[tuple[str, str]]) -> Iterator[Table]:
    for name, kind in listed:
        if not name.startswith("sqlite_"):
            yield Table(name, kind, _count(database, name) if kind == "table" else UNSET)


def _count(database: sqlite_reading.Database, name: str) -> int | UnsetType:
    if database.is_late:
        return UNSET
    quoted = name.replace('"', '""')
    try:
        return int(next(database.rows(f'SELECT count(*) FROM "{quoted}"'))[0])  # noqa: S608 (a name, quoted)
    except ToolError:
        return UNSET


TOOLS: Final = (SQLITE_QUERY, SQLITE_SCHEMA, SQLITE_TABLES)
