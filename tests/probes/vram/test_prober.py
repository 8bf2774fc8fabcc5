"""A child that asks a driver, against children that misbehave."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from probes.probe import ProbeError
from probes.vram.prober import Child, DriverProber, Spawn


def script(source: str) -> Spawn:
    """A worker that is another program."""

    async def spawn() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", source, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )

    return spawn


ECHO = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "gpus": []}), flush=True)
"""


async def test_a_worker_that_dies_is_named_by_how_it_died() -> None:
    """A crash of the driver's library is the worker's, not the daemon's."""
    prober = DriverProber(script("import os; os.abort()"), "NVIDIA", timeout_seconds=10)
    with pytest.raises(ProbeError, match="ended with signal 6"):
        await prober.ask()
    await prober.close()


async def test_nonsense_is_an_error_and_the_next_question_gets_a_new_worker() -> None:
    """What is not JSON is not read on."""
    programs = [script("input(); print('Xid 79!', flush=True); input()"), script(ECHO)]

    async def spawn() -> Any:
        return await programs.pop(0)()

    prober = DriverProber(spawn, "NVIDIA", timeout_seconds=10)
    with pytest.raises(ProbeError, match="nonsense"):
        await prober.ask()
    assert (await prober.ask())["gpus"] == []
    await prober.close()


async def test_a_program_that_cannot_be_started_is_unknown() -> None:
    """The error says why."""

    async def spawn() -> Any:
        raise FileNotFoundError("no such file")

    with pytest.raises(ProbeError, match="could not be started: no such file"):
        await DriverProber(spawn, "NVIDIA", timeout_seconds=1).ask()


async def test_a_cancelled_question_does_not_answer_the_next() -> None:
    """Answers carry the number of their question."""
    slow = "import sys, time, json\nfor line in sys.stdin:\n    n = json.loads(line)['id']\n"
    slow += "    time.sleep(0.5 if n == 1 else 0)\n    print(json.dumps({'id': n}), flush=True)"
    prober = DriverProber(script(slow), "NVIDIA", timeout_seconds=10)
    first = asyncio.create_task(prober.ask())
    while prober._line is None:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await prober.ask())["id"] == 2
    await prober.close()


async def test_closing_wakes_a_waiting_question_and_no_worker_starts_again() -> None:
    """An orderly stop does not wait for a hung driver."""
    prober = DriverProber(script("input(); input()"), "NVIDIA", timeout_seconds=60)
    waiting = asyncio.create_task(prober.ask())
    while prober._line is None:
        await asyncio.sleep(0.01)
    await prober.close()
    with pytest.raises(ProbeError):
        await waiting
    with pytest.raises(ProbeError, match="closed"):
        await prober.ask()


class Unkillable:
    """A child in D state: it does not answer, and a kill does nothing until the driver lets it go."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.kills = 0
        self.released = asyncio.Event()

    @property
    def returncode(self) -> int | None:
        return -9 if self.released.is_set() else None

    @property
    def stdin(self) -> asyncio.StreamWriter | None:
        return self._child.stdin

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        return self._child.stdout

    def kill(self) -> None:
        self.kills += 1

    async def wait(self) -> int:
        await self.released.wait()
        return -9


async def test_an_unkillable_worker_is_left_alone_and_no_other_is_started() -> None:
    """One process stuck in the driver is enough; once it is gone, the next sample works."""
    spawned: list[Unkillable] = []

    async def spawn() -> Any:
        if spawned:
            return await script(ECHO)()
        spawned.append(Unkillable(await script("input(); input()")()))
        return spawned[0]

    prober = DriverProber(spawn, "NVIDIA", timeout_seconds=0.1, start_seconds=0.1)
    for _ in range(3):
        with pytest.raises(ProbeError, match=r"unkillable \(D state\)"):
            await prober.ask()
    assert spawned[0].kills == 1
    spawned[0].released.set()
    prober._start_seconds = 10
    assert (await prober.ask())["gpus"] == []
    await prober.close()
    spawned[0]._child.kill()
    await spawned[0]._child.wait()
