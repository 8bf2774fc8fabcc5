"""The sensitivity cache: every score ever measured, keyed by the content that it came from.

A key is the digest of everything that decides a score: weights, tokenizer, calibration tokens, solver, storage, group,
bits, seed, device, library versions and this package's own sources. Nothing is filed under a name or a path, so a row
either equals a new measurement or is not found. Each row carries a digest of itself; one that was altered, or moved
from another key, is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, Final

from runners.quantize.fault import StaleError
from runners.quantize.journal import connect

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS key(digest TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS score(
  key TEXT NOT NULL REFERENCES key, layer TEXT NOT NULL, bits INTEGER NOT NULL, drift REAL NOT NULL,
  fisher REAL NOT NULL, imatrix REAL NOT NULL, tokens INTEGER NOT NULL, solver TEXT NOT NULL, reason TEXT NOT NULL,
  digest TEXT NOT NULL, PRIMARY KEY(key, layer, bits)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kl(
  key TEXT NOT NULL REFERENCES key, layer TEXT NOT NULL, bits INTEGER NOT NULL, kl REAL NOT NULL,
  digest TEXT NOT NULL, PRIMARY KEY(key, layer, bits)) STRICT, WITHOUT ROWID;
"""

# What decides a score. Another version of any of these makes another key.
DECIDING_SOURCES: Final = ("grid.py", "network.py", "passes.py", "profiling.py", "forks.py", "solvers/*.py")


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Holds the scores of one layer at some bits, each figure with nine significant digits."""

    layer: str
    bits: int
    drift: float
    fisher: float
    imatrix: float
    tokens: int
    solver: str
    reason: str


def code_digest() -> str:
    """SHA-256 over the sources that decide a score."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for pattern in DECIDING_SOURCES:
        for path in sorted(here.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def key_of(content: Mapping[str, Any]) -> str:
    """Return the digest that rows of this content are filed under."""
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def nine_digits(value: float) -> float:
    """Round off the digits that a change of threads or machine could alter."""
    return float(f"{value:.8e}")


class SensitivityCache:
    """Scores on the disk, shared by all runs of one user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = connect(path, SCHEMA)

    def close(self) -> None:
        self._connection.close()

    def put(self, content: Mapping[str, Any], rows: Iterable[ScoreRow]) -> None:
        """File rows, all or none."""
        key = key_of(content)
        with self._connection:
            self._connection.execute("INSERT OR IGNORE INTO key VALUES(?, ?)", (key, _canonical(content)))
            self._connection.executemany(
                "INSERT OR REPLACE INTO score VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(key, *astuple(row), self._digest(key, asdict(row))) for row in rows],
            )

    def get(self, content: Mapping[str, Any]) -> dict[tuple[str, int], ScoreRow]:
        """Return every row of this content; one with a wrong digest stops everything."""
        key = key_of(content)
        found = {}
        columns = "layer, bits, drift, fisher, imatrix, tokens, solver, reason, digest"
        for *values, digest in self._connection.execute(f"SELECT {columns} FROM score WHERE key = ?", (key,)):  # noqa: S608
            row = ScoreRow(*values)
            self._check(digest, key, asdict(row))
            found[row.layer, row.bits] = row
        return found

    def put_kl(self, content: Mapping[str, Any], values: Mapping[tuple[str, int], float]) -> None:
        """File KL divergences, all or none."""
        key = key_of(content)
        rows = [{"layer": layer, "bits": bits, "kl": kl} for (layer, bits), kl in values.items()]
        with self._connection:
            self._connection.execute("INSERT OR IGNORE INTO key VALUES(?, ?)", (key, _canonical(content)))
            self._connection.executemany(
                "INSERT OR REPLACE INTO kl VALUES(?, ?, ?, ?, ?)",
                [(key, *row.values(), self._digest(key, row)) for row in rows],
            )

    def get_kl(self, content: Mapping[str, Any]) -> dict[tuple[str, int], float]:
        """KL divergences of this content by layer and bits."""
        key = key_of(content)
        found = {}
        rows = self._connection.execute("SELECT layer, bits, kl, digest FROM kl WHERE key = ?", (key,))
        for layer, bits, kl, digest in rows:
            self._check(digest, key, {"layer": layer, "bits": bits, "kl": kl})
            found[layer, bits] = kl
        return found

    def _check(self, digest: str, key: str, row: Mapping[str, Any]) -> None:
        if digest != self._digest(key, row):
            raise StaleError(
                f"{self.path}: the row of {row['layer']} at {row['bits']} bits is not what was measured under key "
                f"{key[:12]}; delete the file, it will be measured anew"
            )

    @staticmethod
    def _digest(key: str, row: Mapping[str, Any]) -> str:
        return hashlib.sha256(f"{key}{_canonical(row)}".encode()).hexdigest()
