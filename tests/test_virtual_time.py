"""Virtual time: what moves it, what holds it still, and what it does about code that waits in real time."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from virtual_time import START_UTC, BlockedError, StillError, VirtualTime, VirtualTimeLoop, run_virtually

from epad.runtime.clock import SystemClock

DAY = 86_400.0


async def test_a_sleep_of_a_year_takes_a_year_and_no_time(virtual_time: VirtualTime) -> None:
    began, real = virtual_time.monotonic(), time.monotonic()
    await asyncio.sleep(365 * DAY)
    assert virtual_time.monotonic() - began == pytest.approx(365 * DAY)
    assert time.monotonic() - real < DAY


async def test_timers_come_in_their_order_each_at_its_time(virtual_time: VirtualTime) -> None:
    began, seen = virtual_time.monotonic(), []

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((seconds, round(virtual_time.monotonic() - began, 6)))

    waits = [3600.0, 0.5, 86_400.25, 0.1, 7.0]
    await asyncio.gather(*map(sleeper, waits))
    assert seen == [(wait, wait) for wait in sorted(waits)]


async def test_a_timeout_is_virtual(virtual_time: VirtualTime) -> None:
    began = virtual_time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1_800):
            await asyncio.Event().wait()
    assert virtual_time.monotonic() - began == pytest.approx(1_800)


async def test_epads_clock_reads_the_same_time(virtual_time: VirtualTime) -> None:
    clock = SystemClock()
    began = clock.monotonic()
    await asyncio.sleep(DAY)
    assert clock.monotonic() - began == pytest.approx(DAY)
    assert (clock.utc() - START_UTC).total_seconds() == pytest.approx(DAY)
    assert clock.monotonic() == virtual_time.monotonic()


async def test_a_suspend_moves_boot_time_and_wall_clock_but_no_timer(virtual_time: VirtualTime) -> None:
    clock, loop = SystemClock(), asyncio.get_running_loop()
    began, wall, timers = clock.monotonic(), clock.utc(), loop.time()
    virtual_time.suspend(8 * 3600)
    assert clock.monotonic() - began == pytest.approx(8 * 3600)
    assert (clock.utc() - wall).total_seconds() == pytest.approx(8 * 3600)
    assert loop.time() == timers
    virtual_time.jump_wall_clock(-60)
    assert (clock.utc() - wall).total_seconds() == pytest.approx(8 * 3600 - 60)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("size", [1, 100, 3_000_000])
async def test_bytes_on_loopback_arrive_before_time_moves(virtual_time: VirtualTime, size: int) -> None:
    """Also a body that no socket buffer holds, in many turns of the loop."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    began = virtual_time.monotonic()
    async with server, asyncio.timeout(0.001):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(3):
            writer.write(b"x" * size)
            sent = asyncio.ensure_future(writer.drain())
            assert await reader.readexactly(size) == b"x" * size
            await sent
        writer.close()
        await writer.wait_closed()
    assert virtual_time.monotonic() == began


async def _to_thread() -> None:
    await asyncio.to_thread(time.sleep, 0.05)


async def _executor() -> None:
    with ThreadPoolExecutor(1) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, time.sleep, 0.05)


async def _child() -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "import time; time.sleep(0.05)")
    assert await child.wait() == 0


async def _thread() -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def work() -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=work).start()
    await done.wait()


async def _condition() -> None:
    loop, done, working = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    assert isinstance(loop, VirtualTimeLoop)
    loop.hold_while("a daemon's work", lambda: not working.is_set())

    def work() -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(done.set)
        working.set()

    threading.Thread(target=work, daemon=True).start()
    await done.wait()


@pytest.mark.parametrize("work", [_to_thread, _executor, _child, _thread, _condition])
async def test_real_work_holds_time_still(
    virtual_time: VirtualTime, work: Callable[[], Awaitable[None]]
) -> None:
    """However slow a disk or a child is, no timeout expires meanwhile."""
    began = virtual_time.monotonic()
    async with asyncio.timeout(0.001):
        await work()
    assert virtual_time.monotonic() == began


async def test_a_job_that_nobody_waits_for_any_more_holds_time_until_it_ends(
    virtual_time: VirtualTime,
) -> None:
    began, ended = virtual_time.monotonic(), threading.Event()
    in_it = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(in_it.set)
        time.sleep(0.05)
        ended.set()

    job = asyncio.ensure_future(asyncio.to_thread(work))
    await in_it.wait()
    job.cancel()
    await asyncio.sleep(1)
    assert ended.is_set()
    assert virtual_time.monotonic() - began == pytest.approx(1)


def test_a_sleep_on_the_real_clock_is_told_of_with_its_place() -> None:
    async def bug(_: VirtualTime) -> None:
        await asyncio.sleep(10)
        time.sleep(600)

    with pytest.raises(BlockedError, match=r"test_virtual_time.py:\d+ kept the loop .*time\.sleep\(600\)"):
        run_virtually(bug, limit_seconds=0.2)


def test_it_is_told_of_in_a_task_that_nobody_awaits_too() -> None:
    async def background() -> None:
        time.sleep(600)

    async def bug(_: VirtualTime) -> None:
        task = asyncio.ensure_future(background())
        await asyncio.sleep(3600)
        task.cancel()

    with pytest.raises(BlockedError):
        run_virtually(bug, limit_seconds=0.2)


def test_a_handler_of_every_exception_does_not_swallow_it() -> None:
    async def bug(_: VirtualTime) -> None:
        try:
            time.sleep(600)
        except Exception:
            return

    with pytest.raises(BlockedError):
        run_virtually(bug, limit_seconds=0.2)


def test_work_that_does_not_end_is_named() -> None:
    over = threading.Event()

    async def bug(_: VirtualTime) -> None:
        try:
            await asyncio.to_thread(over.wait, 60)
        finally:
            over.set()

    with pytest.raises(StillError, match=r"waiting for job .*"):
        run_virtually(bug, limit_seconds=0.2)


def test_a_loop_in_which_nothing_can_happen_ends() -> None:
    async def bug(_: VirtualTime) -> None:
        await asyncio.Event().wait()

    with pytest.raises(StillError, match="no timer"):
        run_virtually(bug, limit_seconds=0.2)


async def test_the_ordinary_loop_of_other_tests_is_not_virtual() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
