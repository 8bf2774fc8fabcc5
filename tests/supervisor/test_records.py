"""What is remembered of a process beyond the daemon's life."""

from __future__ import annotations

import apsw
from supervisor_world import World

from epad.supervisor.records import ProcessRecord, ProcessRecords, Stage
from epad.supervisor.restart import History

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
