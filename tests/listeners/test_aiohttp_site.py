"""Listeners of aiohttp's: counted, with a deadline for the silent, and quiet when descriptors run out."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from patience import PATIENCE_SECONDS
from structlog.testing import capture_logs

from epad.listeners import accepting, aiohttp_site
from epad.listeners.aiohttp_site import Site
from epad.runtime.descriptors import hand_down

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(
    most: int = 16, hold: asyncio.Event | None = None
) -> AsyncIterator[tuple[Site, tuple[str, int]]]:
    async def answer(_: web.Request) -> web.Response:
        if hold is not None:
            await hold.wait()
        return web.Response(text="here")

    app = web.Application()
    app.add_routes([web.get("/", answer)])
    one = Site(app, "test", most, 0.1)
    try:
        yield one, await one.listen("127.0.0.1:0")
    finally:
        await one.stop()


async def ask(place: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*place)
    writer.write(GET)
    answer = await reader.read(12)
    writer.close()
    return answer


async def test_many_that_say_nothing_keep_nobody_out() -> None:
    """There are never more than may be, and whoever asks is answered."""
    async with serving() as (one, place):
        silent = [await asyncio.open_connection(*place) for _ in range(100)]
        assert await ask(place) == b"HTTP/1.1 200"
        assert len(one._crowd) <= 16
        for _, writer in silent:
            writer.close()


async def test_those_who_are_answered_are_not_sent_away_for_others() -> None:
    """When all are, the next is closed at once, and the log says so once."""
    hold = asyncio.Event()
    async with serving(2, hold) as (one, place):
        asking = [asyncio.create_task(ask(place)) for _ in range(2)]
        while sum(guest.busy for guest in one._crowd._guests) < 2:
            await asyncio.sleep(0.01)
        with capture_logs() as logs:
            for _ in range(5):
                assert await ask(place) == b""
        assert [log["event"] for log in logs] == ["listener.full"]
        hold.set()
        assert await asyncio.gather(*asking) == [b"HTTP/1.1 200"] * 2


@pytest.mark.parametrize("said", [b"", b"GET / HT"])
async def test_the_silent_have_a_deadline(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    """So has one that stops within its head; asyncio and aiohttp would wait for both for ever."""
    for name in ("SILENT_SECONDS", "IDLE_SECONDS", "_SWEEP_SECONDS"):
        monkeypatch.setattr(aiohttp_site, name, 0.05)
    async with serving() as (_, place):
        reader, writer = await asyncio.open_connection(*place)
        writer.write(said)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await reader.read() == b""
        writer.close()


async def test_no_descriptor_is_told_once_and_the_idle_give_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing accept says so once a minute, whatever it fails by, and goes on."""
    monkeypatch.setattr(accepting, "_NO_DESCRIPTORS_SECONDS", 0.001)
    async with serving() as (one, place):
        idle = await asyncio.open_connection(*place)
        while not len(one._crowd):
            await asyncio.sleep(0.01)
        failures = 50

        async def refuse(self: accepting.Accepting) -> socket.socket:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(self)

        accept = accepting.Accepting._accept
        monkeypatch.setattr(accepting.Accepting, "_accept", refuse)
        with capture_logs() as logs:
            assert await ask(place) == b"HTTP/1.1 200"  # the one that waited in the original accept
            assert await ask(place) == b"HTTP/1.1 200"
        assert failures < 0
        assert [log["event"] for log in logs] == ["listener.not_accepted"]
        assert await idle[0].read() == b""
        idle[1].close()


def test_a_child_has_the_limits_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit is raised for the daemon alone: select() breaks above 1,024 descriptors."""
    code = (
        "import resource, subprocess, sys\n"
        "from epad.runtime import descriptors\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "raised = descriptors.raise_limit()\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "descriptors.hand_down(child.pid)\n"
        "print(raised, resource.getrlimit(resource.RLIMIT_NOFILE)[0],\n"
        "      resource.prlimit(child.pid, resource.RLIMIT_NOFILE)[0])\n"
        "child.kill()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    raised, own, childs = map(int, done.stdout.split())
    assert raised == own > 100
    assert childs == 100
    hand_down(2**22)  # one that is gone already
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
