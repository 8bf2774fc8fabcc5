"""Commands that flood, fork, hide and end: each has one status, and leaves nothing and nobody else hit."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS
from supervisor_world import until

from epad.runtime.clock import boot_id
from epad.supervisor.health_command import MAX_COMPLAINT_BYTES, run
from epad.supervisor.identity import ProcessTable

ENVIRONMENT = {"PATH": os.environ["PATH"]}
TABLE = ProcessTable(boot_id())


async def sh(script: str) -> tuple[int, bytes]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await run(("sh", "-c", script), ENVIRONMENT)


async def test_of_a_flood_the_beginning_is_kept() -> None:
    """All of it is read, or the command would stand still; none of the rest is held in memory."""
    status, said = await sh("echo first >&2; yes flood | head -c 1000000 >&2; exit 3")
    assert status == 3
    assert said.startswith(b"first\nflood\n")
    assert len(said) == MAX_COMPLAINT_BYTES


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("kill -9 $$", -9), ("exec 2>&-; exit 4", 4)])
async def test_a_status_is_the_first_processs(script: str, status: int) -> None:
    """A signal's number is below 0; one that closes its complaint is waited for all the same."""
    assert await sh(script) == (status, b"")


async def test_what_it_leaves_behind_is_killed() -> None:
    """It holds the pipe open, and is not waited for."""
    status, said = await sh("sleep 600 & echo $! >&2")
    assert status == 0
    await until(lambda: (stat := TABLE.stat(int(said))) is None or not stat.is_alive)


@pytest.mark.parametrize("script", ["exit 0", "sleep 600"], ids=["ended", "cancelled"])
async def test_a_group_is_killed_before_its_number_can_be_anothers(
    monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """While its first process, dead or alive, has not been reaped."""
    killed = []
    kill = os.killpg

    def look(group: int, number: int) -> None:
        killed.append(TABLE.stat(group))
        kill(group, number)

    monkeypatch.setattr(os, "killpg", look)
    asking = asyncio.create_task(run(("sh", "-c", script), ENVIRONMENT))
    if script != "exit 0":
        await asyncio.sleep(0)
        asking.cancel()
    await asyncio.wait({asking}, timeout=PATIENCE_SECONDS)
    assert [stat is not None for stat in killed] == [True]
    assert asking.cancelled() == (script != "exit 0")


async def test_without_a_descriptor_left_it_is_ended_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files: an error of the check's, and no command that runs on unseen."""
    seen = []

    def refuse(pid: int) -> int:
        seen.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        await sh("sleep 600")
    assert TABLE.stat(seen[0]) is None


def test_no_descriptor_is_left_open() -> None:
    """Neither by one that ends, nor by one that is not there, nor by one that floods until it is killed."""

    async def some() -> int:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for script in ("exit 1", "yes flood >&2"):
            asking = asyncio.create_task(sh(script))
            await asyncio.wait({asking}, timeout=0.2)
            asking.cancel()
            await asyncio.wait({asking})
        with pytest.raises(FileNotFoundError):
            await run(("/nowhere/at-all",), ENVIRONMENT)
        return len(list(Path("/proc/self/fd").iterdir())) - before

    assert asyncio.run(some()) == 0
