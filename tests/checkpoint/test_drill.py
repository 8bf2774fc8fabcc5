"""The drill as the daemon runs it: in a child, told of by event, metric and finding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from epad.checkpoint.bundle import Bundle, verify
from epad.checkpoint.drill import RestoreDrill
from epad.checkpoint.source import BytesSource, SqliteSource
from epad.metrics.registry import Metrics
from epad.storage.database import Database
from epad.storage.event_log import EVENT_SCHEMA, EventLog
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity


class Bench:
    def __init__(self, state: Path, database: Database) -> None:
        self.newest: Bundle | None = None
        self.findings: list[Finding] = []
        self.metrics = Metrics("test")
        clock = ManualClock()
        self.events = EventLog(database, clock)
        self.drill = RestoreDrill(
            lambda: self.newest, state, 60.0, self.findings.append, clock, self.events, self.metrics
        )

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = Database(tmp_path / "events.db", EVENT_SCHEMA)
    await database.open()
    yield Bench(tmp_path / "state", database)
    await database.close()


async def test_a_good_bundle_comes_back(
    bench: Bench, make_bundle: Callable[..., Awaitable[Bundle]], database: Path
) -> None:
    """The metric says so, and so does the time."""
    bench.newest = await make_bundle(SqliteSource("graph.db", database), BytesSource("a/b", b"c"))
    assert (await verify(bench.newest.path, 60.0)).ok
    assert (await bench.drill.run()).ok
    assert bench.value("epad_restore_drill_ok") == 1
    assert (bench.value("epad_restore_drill_timestamp_seconds") or 0) > 0
    assert bench.findings[0].severity is Severity.OK


async def test_a_bundle_that_rots_fails_the_drill(
    bench: Bench, make_bundle: Callable[..., Awaitable[Bundle]], database: Path
) -> None:
    """A drill that could not fail would prove nothing: one bit, and it does."""
    bench.newest = await make_bundle(SqliteSource("graph.db", database))
    copy = bench.newest.path / "graph.db"
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    outcome = await bench.drill.run()
    assert "its bytes have changed" in outcome.faults[0]
    assert bench.value("epad_restore_drill_ok") == 0
    assert bench.findings[0].severity is Severity.WARNING
    assert bench.newest.id in bench.findings[0].reason


async def test_nothing_to_restore_is_a_failure(bench: Bench) -> None:
    """It is the very thing a drill is there to tell."""
    assert not (await bench.drill.run()).ok
    assert "no verified checkpoint" in bench.findings[0].reason
