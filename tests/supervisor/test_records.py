"""What is remembered of a process beyond the daemon's life."""

from __future__ import annotations

import apsw
import pytest
from supervisor_world import World

from epad.storage.database import fetch
from epad.supervisor.records import ProcessRecord, ProcessRecords
from epad.supervisor.restart import History
from epad.supervisor.stage import Stage

HISTORY = History((10.0, 20.0), in_a_row=7, lives=(45.0, 44.5), failed_at=(1.5, 10.0, 20.0))


async def test_a_history_survives(world: World) -> None:
    """How often in a row, when, and how long it lived."""
    records = ProcessRecords(world.database, world.boot_id)
    for name, history in (("it", HISTORY), ("new", History())):
        await records.write(ProcessRecord(name, world.boot_id, Stage.WAITING, history=history))
    loaded = await records.load()
    assert loaded["it"].history == HISTORY
    assert loaded["new"].history == History()


async def test_the_history_of_a_former_version_is_read(world: World) -> None:
    """A daemon that is upgraded while it runs finds a list there."""
    records = ProcessRecords(world.database, world.boot_id)
    await records.write(ProcessRecord("it", world.boot_id, Stage.WAITING, history=HISTORY))

    def work(connection: apsw.Connection) -> None:
        connection.execute("UPDATE process SET history = '[3, 1.0, 2.5]'")

    await world.database.write(work)
    assert (await records.load())["it"].history == History((1.0, 2.5), in_a_row=3)


KNOWN_BEFORE = {"spawning", "running", "stopping", "waiting", "finished", "failed"}
COARSER = {Stage.BACKING_OFF: Stage.WAITING, Stage.ENDED: Stage.RUNNING}


@pytest.mark.parametrize("stage", list(Stage))
async def test_a_stage_survives_in_words_that_a_former_version_reads(world: World, stage: Stage) -> None:
    """A back-off begins anew, and an exit that was not judged is judged; frozen is a column of its own."""
    records = ProcessRecords(world.database, world.boot_id)
    await records.write(ProcessRecord("it", world.boot_id, stage))
    assert (await records.load())["it"].stage is COARSER.get(stage, stage)
    [(word, frozen)] = await world.database.read(lambda c: fetch(c, "SELECT stage, frozen FROM process"))
    assert word in KNOWN_BEFORE
    assert bool(frozen) == (stage is Stage.FROZEN)
