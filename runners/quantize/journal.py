"""Keep the run's memory: the finished units of each stage, with the digests of their files. One SQLite file a run.

A unit's file is renamed into place first and its row committed second, so a row always has its file; a file without
a row is done again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from runners.quantize.fault import HsaqError, StaleError

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS identity(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unit(
  stage TEXT NOT NULL, idx INTEGER NOT NULL, digest TEXT NOT NULL, seconds REAL NOT NULL, peak_bytes INTEGER NOT NULL,
  PRIMARY KEY(stage, idx)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS result(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note(
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, layer TEXT NOT NULL, detail TEXT NOT NULL,
  UNIQUE(kind, layer, detail)) STRICT;
"""


def connect(path: Path, schema: str) -> apsw.Connection:
    """Open or make a database of the quantizer's; every commit is on the disk before it counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(10_000)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.execute(schema)
    except apsw.Error as error:
        raise HsaqError(f"{path}: {error}; move it away to begin anew") from error
    return connection


@dataclass(frozen=True, slots=True)
class Unit:
    """Holds one committed piece of a stage."""

    stage: str
    index: int
    digest: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something a reader of the result must know, such as a fallback, with the layer it is about."""

    kind: str
    layer: str
    detail: str


class Journal:
    """Holds one run's committed units, results and notes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = connect(path, SCHEMA)

    def close(self) -> None:
        self._connection.close()

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Bind the run to its inputs; refuse to go on with others, and say which differ."""
        wanted = {name: json.dumps(value, sort_keys=True) for name, value in identity.items()}
        with self._connection:
            held = dict(self._connection.execute("SELECT name, value FROM identity"))
            if not held:
                self._connection.executemany("INSERT INTO identity VALUES(?, ?)", wanted.items())
                return
        differing = sorted(name for name in held.keys() | wanted.keys() if held.get(name) != wanted.get(name))
        if differing:
            changes = "; ".join(
                f"{n} was {held.get(n, 'unset')}, is {wanted.get(n, 'unset')}" for n in differing
            )
            raise StaleError(
                f"{self.path}: this run has other inputs ({changes}); choose another --work folder"
            )

    def identity(self) -> dict[str, Any]:
        """Return the inputs that the run was begun with."""
        return {n: json.loads(v) for n, v in self._connection.execute("SELECT name, value FROM identity")}

    def unit(self, stage: str, index: int) -> Unit | None:
        """Return the committed unit, if it is."""
        rows = list(
            self._connection.execute("SELECT * FROM unit WHERE stage = ? AND idx = ?", (stage, index))
        )
        return Unit(*rows[0]) if rows else None

    def units(self, stage: str) -> dict[int, Unit]:
        """Return the committed units of a stage by index."""
        rows = self._connection.execute("SELECT * FROM unit WHERE stage = ? ORDER BY idx", (stage,))
        return {row[1]: Unit(*row) for row in rows}

    def stages(self) -> list[tuple[str, int, float, int]]:
        """Stage, units committed, seconds in all, greatest peak."""
        return list(
            self._connection.execute(
                "SELECT stage, count(*), sum(seconds), max(peak_bytes) FROM unit GROUP BY stage ORDER BY stage"
            )
        )

    def commit(self, unit: Unit, notes: tuple[Note, ...] = ()) -> None:
        """Record a unit and its notes, in one transaction."""
        with self._connection:
            self._connection.execute(
                "INSERT OR REPLACE INTO unit VALUES(?, ?, ?, ?, ?)",
                (unit.stage, unit.index, unit.digest, unit.seconds, unit.peak_bytes),
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO note(kind, layer, detail) VALUES(?, ?, ?)",
                [(note.kind, note.layer, note.detail) for note in notes],
            )

    def forget(self, stage: str, index: int) -> None:
        """Take back a unit whose file is gone or damaged."""
        self._connection.execute("DELETE FROM unit WHERE stage = ? AND idx = ?", (stage, index))

    def notes(self) -> list[Note]:
        """Return them in an order that does not depend on when they were made."""
        rows = self._connection.execute("SELECT kind, layer, detail FROM note ORDER BY kind, layer, detail")
        return [Note(*row) for row in rows]

    def put(self, name: str, value: Any) -> None:
        """Keep a result as JSON."""
        text = json.dumps(value, sort_keys=True)
        self._connection.execute("INSERT OR REPLACE INTO result VALUES(?, ?)", (name, text))

    def get(self, name: str) -> Any:
        """Return a result that was kept, or None."""
        rows = list(self._connection.execute("SELECT value FROM result WHERE name = ?", (name,)))
        return json.loads(rows[0][0]) if rows else None

    def results(self) -> dict[str, Any]:
        """Return every result by name."""
        rows = self._connection.execute("SELECT name, value FROM result ORDER BY name")
        return {name: json.loads(value) for name, value in rows}
