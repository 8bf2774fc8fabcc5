"""The journal while `state.db` takes nothing: the same decisions, the same numbers, and in the end the same rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
import structlog
from epad_story import finding
from patience import PATIENCE_SECONDS

from epad.control_loop import standby_journal as module
from epad.control_loop.journal import JOURNAL_SCHEMA, Decision, Journal
from epad.control_loop.standby_journal import StandbyJournal, place_of_copy
from epad.control_loop.step import Lane, Plan, Step, StepName, StepState
from epad.storage.database import Database, DatabaseError, fetch
from statemachine.assessor import Anomaly, Cleared, Raised
from statemachine.clock import ManualClock
from statemachine.table import TABLE

BOOT = "this-boot"
ISOLATE = next(row for row in TABLE if row.guard == "troubled")
PRESERVE = next(row for row in TABLE if row.guard == "outlasted")
HOLD = Step(StepName.HOLD, "chat")
FULL = "state.db: database or disk is full"
TABLES = ("anomaly", "transition", "operation", "step", "note")


class Disk(Database):
    """A database on a disk that takes nothing while `why` says so."""

    why = ""
    unreadable = False

    async def write(self, work: Callable[[apsw.Connection], Any]) -> Any:
        if self.why:
            raise DatabaseError(self.why)
        return await super().write(work)

    async def read(self, work: Callable[[apsw.Connection], Any]) -> Any:
        if self.unreadable:
            raise DatabaseError("state.db: disk I/O error")
        return await super().read(work)


class Bench:
    def __init__(self, disk: Disk, copy: Path | None) -> None:
        self.disk = disk
        self.clock = ManualClock()
        self.standby = StandbyJournal(disk, JOURNAL_SCHEMA, copy)
        self.journal = Journal(disk, self.clock, BOOT, self.standby)
        self.told: list[str] = []
        self.journal.attach(self.told.append, lambda: self.told.append("over"))

    def raised(self, subsystem: str = "chat") -> Raised:
        found = finding(self.clock, subsystem)
        return Raised(Anomaly(found, self.clock.monotonic(), self.clock.monotonic()))

    async def begin(self) -> int:
        """A hold, journalled; the number of its operation."""
        plan = Plan(Lane.CONTAINMENT, "hold", [HOLD])
        (operation,) = await self.journal.commit(Decision([self.raised()], ISOLATE, plans=[plan]))
        return operation.id

    async def live(self) -> list[int]:
        """A stretch of a life with every kind of write in it; the numbers that were given."""
        plan = Plan(Lane.CONTAINMENT, "hold", [HOLD, HOLD])
        (first,) = await self.journal.commit(Decision([self.raised("game")], plans=[plan]))
        self.clock.advance(1)
        await self.journal.step_tried(first.steps[0].id)
        await self.journal.step_ended(first.steps[0].id, StepState.DONE, "frozen")
        cleared = Cleared(self.raised().anomaly, "quiet")
        second, third = await self.journal.commit(
            Decision([cleared], PRESERVE, plans=[plan, plan], notes={"incident": 1}, abort_open="moved on")
        )
        assert not await self.journal.is_open(first.id)
        assert await self.journal.is_open(second.id)
        assert not await self.journal.operation_ended(first.id, StepState.DONE)
        assert await self.journal.operation_ended(second.id, StepState.DONE)
        await self.journal.note("gateway_port", 8700)
        operations = (first, second, third)
        return [n for o in operations for n in (o.id, *(r.id for r in o.steps))]

    async def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        def work(connection: apsw.Connection) -> dict[str, list[tuple[Any, ...]]]:
            return {t: fetch(connection, f"SELECT * FROM {t} ORDER BY 1") for t in TABLES}  # noqa: S608

        return await self.disk.read(work)


@asynccontextmanager
async def opened(path: Path, copy: Path | None = None) -> AsyncIterator[Bench]:
    disk = Disk(path, JOURNAL_SCHEMA)
    await disk.open()
    bench = Bench(disk, copy)
    yield bench
    await bench.standby.close()
    disk.unreadable = False
    await disk.close()


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)
    with structlog.testing.capture_logs() as entries:
        yield entries


async def settled(bench: Bench) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while bench.journal.stands_by:
            await asyncio.sleep(0.001)


async def test_what_is_kept_and_written_later_is_what_would_have_been_written(tmp_path: Path) -> None:
    """Numbers, moments, order: every row of every table is the same."""
    async with opened(tmp_path / "plain.db") as plain:
        await plain.begin()
        numbers = await plain.live()
        expected = await plain.rows()
    async with opened(tmp_path / "state.db") as bench:
        await bench.begin()
        before = await bench.rows()
        bench.disk.why = FULL
        assert await bench.live() == numbers
        assert await bench.rows() == before
        assert FULL in bench.journal.stands_by
        assert "in memory alone" in bench.journal.stands_by
        bench.disk.why = ""
        await settled(bench)
        assert await bench.rows() == expected


async def test_who_shuts_the_gateway_is_told_before_a_decision_is_given_and_after_all_is_written(
    tmp_path: Path,
) -> None:
    """Once each, however much is kept meanwhile; a later full disk is told again."""
    async with opened(tmp_path / "state.db") as bench:
        for _ in range(2):
            bench.told.clear()
            bench.disk.why = FULL
            await bench.begin()
            await bench.begin()
            assert bench.told == [f"the journal cannot be written: {FULL}"]
            bench.disk.why = ""
            await settled(bench)
            assert bench.told == [f"the journal cannot be written: {FULL}", "over"]


async def test_a_journal_that_cannot_be_read_either_fails_as_ever(tmp_path: Path) -> None:
    """Without what is open nobody could say what a decision changes."""
    async with opened(tmp_path / "state.db") as bench:
        bench.disk.why, bench.disk.unreadable = FULL, True
        with pytest.raises(DatabaseError, match="I/O error"):
            await bench.begin()
        assert not bench.journal.stands_by
        assert bench.told == []


async def test_memory_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit fails as it did before."""
    monkeypatch.setattr(module, "MAX_KEPT", 1)
    async with opened(tmp_path / "state.db") as bench:
        bench.disk.why = FULL
        await bench.begin()
        with pytest.raises(DatabaseError, match="are kept in memory already"):
            await bench.begin()


async def test_a_killed_daemon_takes_up_what_it_had_kept(tmp_path: Path) -> None:
    """From the copy on the other file system, once; half a line is left out."""
    copy = tmp_path / "journal.standby"
    async with opened(tmp_path / "plain.db") as plain:
        await plain.begin()
        await plain.live()
        expected = await plain.rows()
    async with opened(tmp_path / "state.db", copy) as bench:
        await bench.begin()
        bench.disk.why = FULL
        await bench.live()
        assert str(copy) in bench.journal.stands_by
        kept = copy.read_text()
    assert copy.read_text() == kept
    copy.write_text(kept + '[["INSERT INTO note VALUES')
    async with opened(tmp_path / "state.db", copy) as bench:
        assert await bench.standby.recover() > 0
        assert await bench.rows() == expected
        assert not copy.exists()
        copy.write_text(kept)  # as if the daemon had died before it could remove it
        assert await bench.standby.recover() == 0
        assert await bench.rows() == expected
        assert not copy.exists()
        assert copy.with_name("journal.standby.unused").exists()


@pytest.mark.parametrize("text", ["", "[0, 0, 0, 0]\n{", "no JSON\n", "[1]\n"])
async def test_a_copy_that_does_not_fit_changes_nothing(tmp_path: Path, text: str) -> None:
    """It is put aside for a person, or is nothing."""
    copy = tmp_path / "journal.standby"
    async with opened(tmp_path / "state.db", copy) as bench:
        before = await bench.rows()
        copy.write_text(text)
        assert await bench.standby.recover() == 0
        assert await bench.rows() == before
        assert not copy.exists()


async def test_a_copy_that_cannot_be_written_is_not_spoken_of(tmp_path: Path) -> None:
    """Then memory is all there is, and a half copy is taken away."""
    copy = tmp_path / "gone" / "journal.standby"
    async with opened(tmp_path / "state.db", copy) as bench:
        bench.disk.why = FULL
        await bench.begin()
        assert "in memory alone" in bench.journal.stands_by


async def test_what_cannot_be_written_at_the_end_is_said(tmp_path: Path, logs: list[dict[str, Any]]) -> None:
    async with opened(tmp_path / "state.db") as bench:
        bench.disk.why = FULL
        await bench.begin()
    left = [entry for entry in logs if entry["event"] == "journal.left_unwritten"]
    assert [(entry["kept_in"], entry["statements"] > 0) for entry in left] == [("nowhere", True)]


def test_a_copy_is_for_another_file_system(tmp_path: Path) -> None:
    """Beside the state it would be as full."""
    assert place_of_copy(tmp_path, tmp_path) is None
    assert place_of_copy(Path("/proc"), tmp_path) == Path("/proc/journal.standby")
