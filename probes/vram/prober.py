"""A child process that asks a GPU's driver, and is killed when the driver hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import probes
from probes.probe import ProbeError

START_SECONDS = 10.0
"""For a first answer: Python starts, and a driver without persistence mode initialises its cards."""

REAP_SECONDS = 0.5
"""A killed process that is not gone after this is in uninterruptible sleep (D state), inside the driver."""

MAX_LINE_BYTES = 1 << 20


class Child(Protocol):
    """The part of `asyncio.subprocess.Process` that is used."""

    @property
    def returncode(self) -> int | None: ...

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


Spawn = Callable[[], Awaitable[Child]]


class Prober(Protocol):
    """Asks the driver, and never waits for it longer than its limit."""

    async def ask(self) -> Mapping[str, Any]:
        """Read all GPUs. Raises ProbeError when there was no answer."""
        ...

    async def rest(self) -> None:
        """End the process until the next question."""
        ...

    async def close(self) -> None:
        """End the process for good."""
        ...


def worker(module: str, environment: Mapping[str, str], *arguments: str) -> Spawn:
    """Return the way a real worker is started: in a session of its own, from the place of this very package."""
    here = {"PYTHONPATH": str(Path(probes.__file__).parent.parent)}

    async def spawn() -> Child:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            f"probes.vram.{module}",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**environment, **here},
            start_new_session=True,
            limit=MAX_LINE_BYTES,
        )

    return spawn


class _Line:
    """A running worker, and the line to it: numbered questions, one answer each."""

    def __init__(self, child: Child, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self.child = child
        self.warm = False
        self._stdin = stdin
        self._stdout = stdout
        self._asked = 0

    async def exchange(self) -> dict[str, Any]:
        """Ask, and skip unread answers to a cancelled question. Raises EOFError at its end."""
        self._asked += 1
        self._stdin.write(json.dumps({"id": self._asked}).encode() + b"\n")
        await self._stdin.drain()
        while line := await self._stdout.readline():
            answer = json.loads(line)
            if isinstance(answer, dict) and answer.get("id") == self._asked:
                self.warm = True
                return answer
        raise EOFError


class DriverProber:
    """The worker, kept running; killed and replaced when it hangs, left alone when it cannot be killed."""

    def __init__(
        self, spawn: Spawn, driver: str, *, timeout_seconds: float, start_seconds: float = START_SECONDS
    ) -> None:
        self._spawn = spawn
        self._driver = driver
        self._timeout_seconds = timeout_seconds
        self._start_seconds = max(start_seconds, timeout_seconds)
        self._line: _Line | None = None
        self._stuck: Child | None = None
        self._closed = False
        self._one_at_a_time = asyncio.Lock()

    async def ask(self) -> Mapping[str, Any]:
        async with self._one_at_a_time:
            line = self._line or await self._start()
            limit = self._timeout_seconds if line.warm else self._start_seconds
            try:
                async with asyncio.timeout(limit):
                    return await line.exchange()
            except TimeoutError:
                await self._end()
                message = (
                    f"the {self._driver} driver did not answer within {limit:g} s: its prober was killed"
                )
                raise ProbeError(message) from None
            except (OSError, EOFError):
                raise ProbeError(f"the {self._driver} prober {_ending(await self._ended(line))}") from None
            except ValueError as error:
                await self._end()
                raise ProbeError(f"the {self._driver} prober answered nonsense: {error}") from error

    async def rest(self) -> None:
        async with self._one_at_a_time:
            await self._dismiss()

    async def close(self) -> None:
        self._closed = True
        if self._line is not None and self._one_at_a_time.locked():
            _kill(self._line.child)  # wakes a question that is waiting, and with it the lock
        with contextlib.suppress(ProbeError):
            await self.rest()

    @property
    def _unkillable(self) -> str:
        return (
            f"the {self._driver} prober hangs in the driver and is unkillable (D state): no other is started"
        )

    async def _start(self) -> _Line:
        if self._closed:
            raise ProbeError(f"the {self._driver} prober is closed")
        if self._stuck is not None and self._stuck.returncode is None:
            raise ProbeError(self._unkillable)
        self._stuck = None
        try:
            child = await self._spawn()
        except OSError as error:
            raise ProbeError(f"the {self._driver} prober could not be started: {error}") from error
        if child.stdin is None or child.stdout is None:
            raise ProbeError(f"the {self._driver} prober was started without pipes to it")
        self._line = _Line(child, child.stdin, child.stdout)
        return self._line

    async def _ended(self, line: _Line) -> int | None:
        """Return the exit status of a worker that hung up."""
        # Not by killing it: Popen.kill() polls first, and takes the status away from asyncio (cpython#87744).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_SECONDS):
                await line.child.wait()
        await self._end()
        return line.child.returncode

    async def _dismiss(self) -> None:
        """Let a worker that is idle end by itself, its driver closed in order; kill it if it does not."""
        # SIGKILL of the process that held a monitoring handle has frozen a GPU (NVIDIA/dcgm-exporter#84).
        if self._line is not None and self._line.child.stdin is not None:
            self._line.child.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REAP_SECONDS):
                    await self._line.child.wait()
        await self._end()

    async def _end(self) -> None:
        """Kill the worker if there is one. Raises ProbeError when it cannot be killed."""
        if self._line is None:
            return
        child, self._line = self._line.child, None
        if child.returncode is not None:
            return
        _kill(child)
        try:
            async with asyncio.timeout(REAP_SECONDS):
                await child.wait()
        except TimeoutError:
            self._stuck = child
            raise ProbeError(self._unkillable) from None


def _kill(child: Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()


def _ending(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"ended with signal {-returncode}"
    return f"ended with exit code {returncode}"
