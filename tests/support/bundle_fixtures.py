from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest
from patience import PATIENCE_SECONDS

from epad.checkpoint.bundle import Bundle, Label, bundle_id, create
from epad.checkpoint.manifest import BundleKind
from epad.checkpoint.source import Source

AT = datetime(2026, 11, 22, 13, 30, tzinfo=UTC)


@pytest.fixture
def label() -> Callable[..., Label]:
    def make(number: int = 1, kind: BundleKind = "checkpoint") -> Label:
        return Label(bundle_id(AT, number), kind, "a test", AT, {"phase": "PRESERVATION", "ledger_size": 7})

    return make


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A WAL database with 200 rows and a foreign key."""
    path = tmp_path / "state" / "graph.db"
    path.parent.mkdir()
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.execute(
        "CREATE TABLE entity(id INTEGER PRIMARY KEY, name TEXT);"
        "CREATE TABLE observation(id INTEGER PRIMARY KEY, entity REFERENCES entity(id), text TEXT)"
    )
    with connection:
        connection.executemany("INSERT INTO entity VALUES (?, ?)", [(i, f"entity {i}") for i in range(200)])
        connection.executemany(
            "INSERT INTO observation VALUES (?, ?, ?)", [(i, i, "x" * 300) for i in range(200)]
        )
    connection.close()
    return path


@pytest.fixture
def make_bundle(tmp_path: Path, label: Callable[..., Label]) -> Callable[..., Awaitable[Bundle]]:
    async def make(*sources: Source, number: int = 1) -> Bundle:
        return await create(
            tmp_path / "checkpoints", sources, label(number), deadline_seconds=PATIENCE_SECONDS
        )

    return make
