"""The recording stays within the number of records that is configured."""

from __future__ import annotations

from pathlib import Path

from epad.simulate.recorder import PRUNE_EVERY, RECORDING_SCHEMA, Recorder
from epad.storage.database import Database, fetch
from probes.turns import TurnRefused
from statemachine.clock import ManualClock

KEPT, BATCH, BATCHES = 1_500, 250, 20


async def test_the_oldest_records_go_while_it_runs(tmp_path: Path) -> None:
    """Never more than are to be kept, and those of a thousand or so beside them; what is left is the newest."""
    database = Database(tmp_path / "state.db", RECORDING_SCHEMA)
    await database.open()
    clock = ManualClock()
    recorder = Recorder(database, clock, "boot", KEPT)
    counts = []
    for _ in range(BATCHES):
        for _ in range(BATCH):
            clock.advance(1.0)
            recorder.refused(
                TurnRefused(at=clock.monotonic(), subsystem="a", code="budget", limit=f"{clock.monotonic()}")
            )
        await recorder.flush()
        [(count, newest)] = await database.read(lambda c: fetch(c, "SELECT count(*), max(at) FROM recording"))
        assert newest == clock.monotonic()
        counts.append(count)
    assert counts[-1] >= KEPT
    assert max(counts) < KEPT + PRUNE_EVERY + BATCH
    await database.close()
