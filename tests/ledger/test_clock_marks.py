"""Readings of both clocks: one for each boot, the newest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

import apsw
from kept_past import MemoryFile, TwoClocks

from epad.ledger.clock_marks import MARK_SCHEMA, ClockMarks
from epad.storage.database import DatabaseError

T = TypeVar("T")


async def test_each_boot_keeps_its_newest_reading() -> None:
    """The next boot begins one of its own."""
    clock, file = TwoClocks(), MemoryFile(MARK_SCHEMA)
    await ClockMarks(file, clock, "one").keep()
    clock.advance(10)
    clock.step(100)
    await ClockMarks(file, clock, "one").keep()
    first = clock.stamp(0)
    clock.reboot()
    await ClockMarks(file, clock, "two").keep()
    marks = await ClockMarks(file, clock, "two").load()
    assert set(marks) == {"one", "two"}
    assert (marks["one"].wall_ns, marks["one"].monotonic_ns) == (first.wall_ns, first.monotonic_ns)
    assert marks["two"].monotonic_ns == 0


class FailsOnce(MemoryFile):
    """A disk that is full, once."""

    failed = False

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        if not self.failed:
            self.failed = True
            raise DatabaseError("state.db: database or disk is full")
        return await super().write(work)


async def test_a_jump_keeps_a_reading_and_a_full_disk_ends_nothing() -> None:
    """What could not be kept is kept at the next jump."""
    clock, file = TwoClocks(), FailsOnce(MARK_SCHEMA)
    marks = ClockMarks(file, clock, "one")
    running = asyncio.create_task(marks.run())
    for expected in (False, True):
        marks.jumped()
        for _ in range(10):
            await asyncio.sleep(0)
        assert file.failed
        assert bool(await marks.load()) is expected
    assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
