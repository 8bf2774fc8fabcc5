"""The watchdog is fed only if what the daemon is for has moved."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from patience import PATIENCE_SECONDS
from virtual_time import VirtualTime

from epad.runtime import watchdog as module
from epad.runtime.watchdog import (
    START_PATIENCE_SECONDS,
    START_WORD_SECONDS,
    asking_for_time,
    feed,
    interval_seconds,
    watch_clock,
)
from statemachine.clock import ManualClock

Logs = list[MutableMapping[str, Any]]


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_systemd_says_how_often_and_whom_it_means(
    environment: dict[str, str], interval: float | None
) -> None:
    """A third of its interval; what is meant for another process is not for us."""
    assert interval_seconds(environment, 7) == interval


class Manager:
    """The socket of a service manager, and what it was told."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def pings(self) -> int:
        count = 0
        while True:
            try:
                assert self.socket.recv(100) == b"WATCHDOG=1"
            except BlockingIOError:
                return count
            count += 1


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    directory = Path(tempfile.mkdtemp(prefix="epad-"))
    one = Manager(directory / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(directory / "notify"))
    yield one
    one.socket.close()
    shutil.rmtree(directory)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with structlog.testing.capture_logs() as logs:
        yield logs


class Daemon:
    """What the watchdog looks at; each look is counted, and may be made to see no movement."""

    def __init__(self, *, loop_moves: bool = True, ledger: str = "idle") -> None:
        self.looks = 0
        self.loop_moves = loop_moves
        self.ledger = ledger

    def cycles(self) -> int:
        self.looks += 1
        return self.looks if self.loop_moves else 1

    def commits(self) -> int | None:
        return {"idle": None, "stuck": 5, "busy": self.looks}[self.ledger]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        task = asyncio.create_task(feed(0.001, self.cycles, self.commits))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.looks < 5:
                await asyncio.sleep(0.001)
        yield
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("ledger", ["idle", "busy"])
async def test_it_is_fed_while_loop_and_ledger_move(manager: Manager, logs: Logs, ledger: str) -> None:
    """A ledger that nobody waits for need not move."""
    daemon = Daemon(ledger=ledger)
    async with daemon.watched():
        assert manager.pings() >= 4
    assert logs == []


async def test_it_is_withheld_when_the_control_loop_stands_still(manager: Manager, logs: Logs) -> None:
    """The first look cannot tell; from the second on systemd hears nothing."""
    async with Daemon(loop_moves=False).watched():
        assert manager.pings() == 1
    assert {(e["event"], e["control_loop_moves"], e["ledger_moves"]) for e in logs} == {
        ("watchdog.withheld", False, True)
    }


async def test_it_is_withheld_when_turns_wait_for_a_ledger_that_does_not_commit(
    manager: Manager, logs: Logs
) -> None:
    """A hung disk is a hung daemon."""
    async with Daemon(ledger="stuck").watched():
        assert manager.pings() == 1
    assert {(e["control_loop_moves"], e["ledger_moves"]) for e in logs} == {(True, False)}


async def test_it_is_fed_again_when_things_move_again(manager: Manager, logs: Logs) -> None:
    """One late commit is no verdict."""
    daemon = Daemon(ledger="stuck")
    async with daemon.watched():
        manager.pings()
        daemon.ledger = "idle"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not manager.pings():
                await asyncio.sleep(0.001)


async def test_a_wall_clock_that_was_set_is_said_once_and_its_slew_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forwards and backwards; time that passes on both clocks is no jump."""
    monkeypatch.setattr(module, "CLOCK_CHECK_SECONDS", 0.001)
    looks = 0

    class CountingClock(ManualClock):
        def utc(self):
            nonlocal looks
            looks += 1
            return super().utc()

    clock = CountingClock()
    jumps: list[float] = []
    task = asyncio.create_task(watch_clock(clock, jumps.append))

    async def let_it_look() -> None:
        wanted = looks + 3
        async with asyncio.timeout(PATIENCE_SECONDS):
            while looks < wanted:
                await asyncio.sleep(0.001)

    for seconds in (0.5, -1.0, 3_600, -7_200, 1.5):
        await let_it_look()
        clock.advance(1_000)
        clock.jump_wall_clock(seconds)
    await let_it_look()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert jumps == [pytest.approx(3_600), pytest.approx(-7_200)]


class Start:
    """A start that takes some of a core, until it hangs."""

    def __init__(self, time: VirtualTime, hangs_after: float = float("inf")) -> None:
        self.time = time
        self.began = time.monotonic()
        self.hangs_after = hangs_after

    def seconds(self) -> float:
        return self.time.monotonic() - self.began

    def worked(self) -> float:
        return min(self.seconds(), self.hangs_after) / 4

    def words(self) -> str:
        return f", {1_000 * self.seconds():,.0f} records of the ledger read"

    async def lasts(self, seconds: float) -> None:
        async with asking_for_time(self.words, self.worked):
            await asyncio.sleep(seconds)
        await asyncio.sleep(100.0)


def lines_told(manager: Manager) -> list[list[str]]:
    told = []
    with contextlib.suppress(BlockingIOError):
        while True:
            told.append(manager.socket.recv(1_000).decode().split("\n"))
    return told


async def test_a_long_start_asks_for_time_as_long_as_it_works(
    manager: Manager, virtual_time: VirtualTime
) -> None:
    """Each word well before the time of the last one is over, and none after the start."""
    await Start(virtual_time).lasts(41.0)  # a Unix socket holds ten messages that nobody takes
    told = lines_told(manager)
    assert len(told) == 9
    assert told[0] == [
        "EXTEND_TIMEOUT_USEC=60000000",
        "WATCHDOG=1",
        "STATUS=starting, 0 records of the ledger read",
    ]
    assert told[8][2] == "STATUS=starting, 40,000 records of the ledger read"
    assert START_WORD_SECONDS <= START_PATIENCE_SECONDS / 4


async def test_a_start_that_hangs_is_given_no_more_time(manager: Manager, virtual_time: VirtualTime) -> None:
    """What only waits takes no processor time."""
    await Start(virtual_time, hangs_after=21.0).lasts(301.0)
    assert len(lines_told(manager)) == 6


async def test_without_systemd_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, virtual_time: VirtualTime
) -> None:
    """And nothing fails."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    await Start(virtual_time).lasts(30.0)
