"""Count the rows that break each rule of a knowledge graph, and the rows there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import apsw

from epad.inspection.graph_schema import Graph, Table, graph_of, quoted, tables_of
from epad.storage.database import fetch

CLOCK_MARGIN = timedelta(hours=36)
"""A moment without a zone may be of any zone; what is this far ahead is of none."""
FEW_ROWS = 20
"""A table this small may lose any share of its rows in one honest stroke."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts rows by table, and the rows that break each rule; a rule that none breaks is in it too.

    `unread` are tables that exist and could not be counted, `left_out` the checks that could not be made, and why.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    broken: Mapping[str, int] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()


def tally_database(connection: apsw.Connection, now: datetime) -> Tally:
    """Count everything in a database. Raises apsw.Error.

    A question that needs a collation or a function which is not here is left out, and so is a foreign key that its
    own schema does not fit: neither says anything of the rows.
    """
    tables = tables_of(connection)
    graph = graph_of(tables)
    rows: dict[str, int] = {}
    broken: dict[str, int] = {}
    left_out: list[str] = []

    def ask(what: str, answers: Callable[[], Iterable[tuple[str, int]]], into: dict[str, int]) -> None:
        try:
            into.update(answers())
        except apsw.SQLError as error:
            left_out.append(f"{what} ({error})")

    for table in tables:
        ask(f"rows of {table.name}", partial(_count, connection, table), rows)
        ask(f"times of {table.name}", partial(_ahead, connection, table, now), broken)
    ask("foreign keys", partial(_foreign_keys, connection), broken)
    if graph is not None:
        ask("rules of the graph", partial(_graph_rules, connection, graph), broken)
    unread = frozenset(table.name for table in tables if table.name not in rows)
    return Tally(rows, broken, unread, tuple(left_out))


def _count(connection: apsw.Connection, table: Table) -> Iterator[tuple[str, int]]:
    query = f"SELECT count(*) FROM {quoted(table.name)}"
    try:
        yield table.name, _number(connection, query)
    except apsw.SQLError:  # the index that it would have been counted by
        yield table.name, _number(connection, f"{query} NOT INDEXED")


def _foreign_keys(connection: apsw.Connection) -> Iterator[tuple[str, int]]:
    yield "foreign keys", len(fetch(connection, "PRAGMA foreign_key_check"))


def rule_faults(before: Tally, now: Tally) -> Iterator[tuple[str, str]]:
    """Yield the rules that have ceased to hold. A rule broken in the last sound copy is not this store's rule."""
    for rule, count in now.broken.items():
        if count and before.broken.get(rule) == 0:
            yield "rule", f"{count} row(s) break a rule that held before: {rule}"


def shrink_faults(before: Tally, now: Tally, shrink_ratio: float) -> Iterator[tuple[str, str]]:
    """Tables that have lost more than a share of their rows since the last sound copy."""
    for table, had in before.rows.items():
        if table in now.unread:
            continue
        has = now.rows.get(table, 0)
        if had > FEW_ROWS and had - has > max(shrink_ratio * had, 1):
            yield "shrink", f"{table} had {had} rows and has {has}"


def _graph_rules(connection: apsw.Connection, graph: Graph) -> Iterator[tuple[str, int]]:
    entities = quoted(graph.entities.name)
    for table, column in graph.references:
        counts = [
            _number(
                connection,
                f"SELECT count(*) FROM {quoted(table)} WHERE {quoted(column)} IS NOT NULL AND "
                f"{quoted(column)} NOT IN (SELECT {quoted(key)} FROM {entities} WHERE {quoted(key)} IS NOT NULL)",
            )
            for key in graph.keys
        ]
        # By id or by name? By what most rows resolve with.
        yield f"{table}.{column} names an entity", min(counts)
    if graph.identity:
        columns = ", ".join(quoted(column) for column in graph.identity)
        duplicates = f"SELECT 1 FROM {entities} GROUP BY {columns} HAVING count(*) > 1"
        yield (
            f"{graph.entities.name} differ in {columns}",
            _number(connection, f"SELECT count(*) FROM ({duplicates})"),
        )


def _ahead(connection: apsw.Connection, table: Table, now: datetime) -> Iterator[tuple[str, int]]:
    limit = (now.astimezone(UTC) + CLOCK_MARGIN).timestamp()
    text = datetime.fromtimestamp(limit, UTC).strftime("%Y-%m-%d %H:%M:%S")
    for column in table.times:
        name = quoted(column)
        # Seconds, milli-, micro- or nanoseconds: a moment of this century tells which by its size.
        numeric = (
            f"typeof({name}) IN ('integer', 'real') AND {name} / CASE WHEN {name} < 1e11 THEN 1.0 "
            f"WHEN {name} < 1e14 THEN 1e3 WHEN {name} < 1e17 THEN 1e6 ELSE 1e9 END > {limit}"
        )
        written = f"{name} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-*' AND replace({name}, 'T', ' ') > '{text}'"
        yield (
            f"{table.name}.{column} ahead of now",
            _number(
                connection, f"SELECT count(*) FROM {quoted(table.name)} WHERE ({numeric}) OR ({written})"
            ),
        )


def _number(connection: apsw.Connection, query: str) -> int:
    ((number,),) = fetch(connection, query)
    return int(number)
