"""Recognise the graph in a foreign SQLite database: the tables and columns that memory servers use, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import apsw

from epad.storage.database import fetch

_ENTITIES = ("entities", "entity", "nodes", "node")
_RELATIONS = ("relations", "relation", "relationships", "edges", "edge", "links")
_OBSERVATIONS = ("observations", "observation", "facts")
_ENDS = (
    ("from_entity", "to_entity"),
    ("from_entity_id", "to_entity_id"),
    ("from_id", "to_id"),
    ("from_name", "to_name"),
    ("from", "to"),
    ("source_id", "target_id"),
    ("source", "target"),
    ("src", "dst"),
    ("subject", "object"),
)
_OWNERS = ("entity_id", "entity_name", "entity", "node_id", "node")
_KINDS = ("entity_type", "entitytype", "type", "kind")
_VERSIONS = frozenset(
    {
        "updated_at",
        "modified_at",
        "last_updated",
        "last_modified",
        "updated",
        "modified",
        "version",
        "revision",
    }
)
_TIMES = frozenset({"timestamp", "created", "updated", "modified", "last_updated", "last_modified"})


@dataclass(frozen=True, slots=True)
class Table:
    """A plain table. `version` is the column by which a careful writer marks each change; "" if none."""

    name: str
    columns: tuple[str, ...]
    version: str = ""
    has_rowid: bool = True

    @property
    def times(self) -> list[str]:
        """Return the columns that hold moments."""
        return [c for c in self.columns if c.lower() in _TIMES or c.lower().endswith("_at")]


@dataclass(frozen=True, slots=True)
class Graph:
    """The parts of a knowledge graph that were recognised. `references` are (table, column) to an entity."""

    entities: Table
    keys: tuple[str, ...]
    identity: tuple[str, ...]
    references: tuple[tuple[str, str], ...]


def tables_of(connection: apsw.Connection) -> list[Table]:
    """Return the tables that hold rows of their own: no virtual ones, no shadows, none of SQLite's."""
    found = []
    for schema, name, kind, _, without_rowid, _ in fetch(connection, "PRAGMA table_list"):
        if schema == "main" and kind == "table" and not name.startswith("sqlite_"):
            columns = tuple(row[1] for row in fetch(connection, f"PRAGMA table_info({quoted(name)})"))
            version = next((c for c in columns if c.lower() in _VERSIONS), "")
            found.append(Table(name, columns, version, has_rowid=not without_rowid))
    return sorted(found, key=lambda table: table.name)


def graph_of(tables: Sequence[Table]) -> Graph | None:
    """Return the graph among these tables, if they are one."""
    entities = _named(tables, _ENTITIES)
    if entities is None:
        return None
    keys = tuple(c for c in entities.columns if c.lower() in {"id", "name"})
    name = next((c for c in entities.columns if c.lower() == "name"), "")
    kind = next((c for c in entities.columns if c.lower() in _KINDS), "")
    references: list[tuple[str, str]] = []
    if (relations := _named(tables, _RELATIONS)) is not None:
        lower = {c.lower(): c for c in relations.columns}
        pair = next((ends for ends in _ENDS if set(ends) <= set(lower)), ())
        references += [(relations.name, lower[end]) for end in pair]
    if (observations := _named(tables, _OBSERVATIONS)) is not None:
        owner = next((c for c in observations.columns if c.lower() in _OWNERS), "")
        references += [(observations.name, owner)] if owner else []
    if not keys:
        return None
    return Graph(entities, keys, tuple(c for c in (name, kind) if c), tuple(references))


def quoted(name: str) -> str:
    """Return an identifier as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _named(tables: Iterable[Table], names: Sequence[str]) -> Table | None:
    by_name = {table.name.lower(): table for table in tables}
    return next((by_name[name] for name in names if name in by_name), None)
