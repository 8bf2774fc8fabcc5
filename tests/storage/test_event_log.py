"""Events: taken at once, written soon, streamed to whoever keeps up."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from patience import PATIENCE_SECONDS

from epad.answers.decisions import Event
from epad.storage import event_log as module
from epad.storage.database import Database, fetch
from epad.storage.event_log import EVENT_SCHEMA, PRUNE_EVERY, EventKind, EventLog
from statemachine.clock import ManualClock


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "state.db", EVENT_SCHEMA)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def log(database: Database) -> EventLog:
    return EventLog(database, ManualClock())


def numbers(events: Sequence[Event]) -> list[object]:
    return [event["fields"]["number"] for event in events]


async def emit(log: EventLog, *range_of: int) -> None:
    for number in range(*range_of):
        log.emit(EventKind.NOTICE, "chat", number=number)
    await log.flush()


async def test_an_event_is_json_with_time_kind_subsystem_and_fields(log: EventLog) -> None:
    """What is not JSON becomes text rather than an error."""
    log.emit(EventKind.TURN_REFUSED, "chat", code="budget_exceeded", path=Path("/x"))
    await log.flush()
    (event,) = await log.since(0, 10)
    assert json.loads(json.dumps(event)) == {
        "id": 1,
        "at": "2026-01-01T00:00:00.000+00:00",
        "kind": "turn.refused",
        "subsystem": "chat",
        "fields": {"code": "budget_exceeded", "path": "/x"},
    }


async def test_events_are_read_from_an_id_on_or_from_the_end(log: EventLog) -> None:
    """Oldest first, whichever way."""
    await emit(log, 10)
    assert numbers(await log.since(7, 100)) == [7, 8, 9]
    assert numbers(await log.since(0, 3)) == [0, 1, 2]
    assert numbers(await log.since(-2, 100)) == [8, 9]
    assert numbers(await log.since(-99, 100)) == list(range(10))


async def test_they_are_written_as_they_come(log: EventLog) -> None:
    """Nobody has to flush."""
    task = asyncio.create_task(log.run())
    async with log.subscribe() as queue:
        log.emit(EventKind.NOTICE, number=7)
        async with asyncio.timeout(PATIENCE_SECONDS):
            event = await queue.get()
    assert event["id"] == 1
    assert numbers(await log.since(0, 10)) == [7]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_emitted_before_a_stop_is_written(log: EventLog, database: Database) -> None:
    """Even if the writer had just taken it up when it was cancelled."""
    stalled = threading.Event()
    blocking = asyncio.create_task(database.read(lambda _: stalled.wait(20)))
    task = asyncio.create_task(log.run())
    log.emit(EventKind.DAEMON_STOPPING, number=1)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    log.emit(EventKind.NOTICE, number=2)
    stalled.set()
    await blocking
    await log.flush()
    assert numbers(await log.since(0, 10)) == [1, 2]


async def test_a_listener_that_does_not_keep_up_is_cut_off(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds no more memory than its backlog; the others go on."""
    monkeypatch.setattr(module, "MAX_BACKLOG", 3)
    async with log.subscribe() as slow:
        monkeypatch.setattr(module, "MAX_BACKLOG", 100)
        async with log.subscribe() as quick:
            await emit(log, 5)
            assert slow.qsize() == 3
            slow.get_nowait()
            await emit(log, 5, 6)
            assert slow.qsize() == 2
            assert quick.qsize() == 6


async def test_who_has_left_is_told_nothing(log: EventLog) -> None:
    """The queue is let go."""
    async with log.subscribe() as queue:
        pass
    await emit(log, 1)
    assert queue.empty()


async def test_a_disk_that_refuses_delays_events_and_costs_the_oldest_of_too_many(
    log: EventLog, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written in order once it takes them; how many wait, and how many were lost, is said."""
    monkeypatch.setattr(module, "MAX_UNWRITTEN", 2)
    await database.write(lambda c: c.execute("ALTER TABLE event RENAME TO away"))
    with structlog.testing.capture_logs() as logs:
        await emit(log, 3)
    assert [(e["event"], e["count"], e["lost"]) for e in logs] == [("events.unwritten", 2, 1)]
    await database.write(lambda c: c.execute("ALTER TABLE away RENAME TO event"))
    await emit(log, 3, 4)
    assert numbers(await log.since(0, 10)) == [1, 2, 3]


async def test_the_oldest_are_dropped_and_their_ids_never_used_again(database: Database) -> None:
    """A reader that continues from an id sees no event twice."""
    log = EventLog(database, ManualClock(), 4)
    await log.prune()
    await emit(log, 10)
    await log.prune()
    kept = await log.since(0, 100)
    assert numbers(kept) == [6, 7, 8, 9]
    log = EventLog(database, ManualClock(), 0)
    await log.prune()
    await emit(log, 10, 11)
    assert [event["id"] for event in await log.since(0, 100)] == [11]


async def test_a_flood_of_events_is_kept_within_its_number_without_waiting_for_the_night(
    database: Database,
) -> None:
    """Never more than are to be kept, and those of a batch or two beside them."""
    log = EventLog(database, ManualClock(), 1_000)
    most = 0
    for first in range(0, 10_000, 250):
        await emit(log, first, first + 250)
        [(count,)] = await database.read(lambda c: fetch(c, "SELECT count(*) FROM event"))
        most = max(most, count)
    assert 1_000 <= most < 1_000 + PRUNE_EVERY + 250
    assert (await log.since(-1, 1))[0]["fields"]["number"] == 9_999
