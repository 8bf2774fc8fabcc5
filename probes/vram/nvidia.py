"""The VRAM of NVIDIA GPUs, by way of a child process that is killed when the driver hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import probes
from probes.probe import ProbeError
from probes.vram import NAME, GpuFailure, GpuProcess, GpuReading, VramThresholds, judge, lost
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity

START_SECONDS = 10.0
"""For a first answer: Python starts, and a driver without persistence mode initialises its cards."""

REAP_SECONDS = 0.5
"""A killed process that is not gone after this is in uninterruptible sleep (D state), inside the driver."""

ABSENT_RETRY_SECONDS = 600.0
"""How often a machine without a driver is asked whether it has one now."""

MAX_LINE_BYTES = 1 << 20

_NOT_SUPPORTED = 3
_DRIVER_NOT_LOADED = 9
_LIBRARY_NOT_FOUND = 12
_GPU_IS_LOST = 15
_RESET_REQUIRED = 16

_ABSENT: Mapping[int, str] = {
    _LIBRARY_NOT_FOUND: "no NVIDIA driver here (libnvidia-ml.so.1 not found): VRAM is not watched",
    _DRIVER_NOT_LOADED: "no NVIDIA driver here (its kernel module is not loaded): VRAM is not watched",
}
_GONE = frozenset({_GPU_IS_LOST, _RESET_REQUIRED})


class Child(Protocol):
    """What is used of `asyncio.subprocess.Process`."""

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


def worker(environment: Mapping[str, str]) -> Spawn:
    """How the real worker is started: in a session of its own, from where this very package lies."""
    here = {"PYTHONPATH": str(Path(probes.__file__).parent.parent)}

    async def spawn() -> Child:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "probes.vram.nvml_worker",
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
        """Ask, and skip what a question that was cancelled has left unread. Raises EOFError at its end."""
        self._asked += 1
        self._stdin.write(json.dumps({"id": self._asked}).encode() + b"\n")
        await self._stdin.drain()
        while line := await self._stdout.readline():
            answer = json.loads(line)
            if isinstance(answer, dict) and answer.get("id") == self._asked:
                self.warm = True
                return answer
        raise EOFError


class NvmlProber:
    """The worker, kept running; killed and replaced when it hangs, left alone when it cannot be killed."""

    def __init__(self, spawn: Spawn, *, timeout_seconds: float, start_seconds: float = START_SECONDS) -> None:
        self._spawn = spawn
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
                message = f"the NVIDIA driver did not answer within {limit:g} s: its prober was killed"
                raise ProbeError(message) from None
            except (OSError, EOFError):
                raise ProbeError(f"the NVML prober {_ending(await self._ended(line))}") from None
            except ValueError as error:
                await self._end()
                raise ProbeError(f"the NVML prober answered nonsense: {error}") from error

    async def rest(self) -> None:
        async with self._one_at_a_time:
            await self._end()

    async def close(self) -> None:
        self._closed = True
        if self._line is not None:
            _kill(self._line.child)  # wakes a question that is waiting, and with it the lock
        with contextlib.suppress(ProbeError):
            await self.rest()

    async def _start(self) -> _Line:
        if self._closed:
            raise ProbeError("the NVML prober is closed")
        if self._stuck is not None and self._stuck.returncode is None:
            raise ProbeError(_UNKILLABLE)
        self._stuck = None
        try:
            child = await self._spawn()
        except OSError as error:
            raise ProbeError(f"the NVML prober could not be started: {error}") from error
        if child.stdin is None or child.stdout is None:
            raise ProbeError("the NVML prober was started without pipes to it")
        self._line = _Line(child, child.stdin, child.stdout)
        return self._line

    async def _ended(self, line: _Line) -> int | None:
        """How a worker that hung up has ended."""
        # Not by killing it: Popen.kill() polls first, and takes the status away from asyncio (cpython#87744).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_SECONDS):
                await line.child.wait()
        await self._end()
        return line.child.returncode

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
            raise ProbeError(_UNKILLABLE) from None


_UNKILLABLE = "the NVML prober hangs in the driver and is unkillable (D state): no other is started"


def _kill(child: Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()


def _ending(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"ended with signal {-returncode}"
    return f"ended with exit code {returncode}"


class NvidiaVram:
    """Watches the memory of every NVIDIA GPU here; where there is no driver, says so once and is silent."""

    def __init__(
        self,
        thresholds: VramThresholds,
        *,
        prober: Prober,
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self._thresholds = thresholds
        self._prober = prober
        self._clock = clock
        self._tell = tell
        self._noticed = ""
        self._readings: dict[int, GpuReading] = {}
        self._silent_until: float | None = None

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._thresholds.interval_seconds

    @property
    def notice(self) -> str:
        """Why nothing is watched here; empty while something is."""
        return self._noticed if self._silent_until is not None else ""

    def readings(self) -> tuple[GpuReading, ...]:
        """The last reading of each GPU, by index, whatever its age: `at` says when it was true."""
        return tuple(self._readings[index] for index in sorted(self._readings))

    def fresh_readings(self) -> tuple[GpuReading, ...]:
        """Those that are true now: no older than a sample that may have been slow, and the next."""
        limit = 2 * self._thresholds.interval_seconds + self._thresholds.timeout_seconds
        now = self._clock.monotonic()
        return tuple(reading for reading in self.readings() if reading.age_seconds(now) <= limit)

    async def sample(self) -> Sequence[Finding]:
        if self._silent_until is not None and self._clock.monotonic() < self._silent_until:
            return []
        answer = await self._prober.ask()
        now = self._clock.monotonic()
        if "code" in answer:
            return await self._no_driver(int(answer["code"]), str(answer["message"]), now)
        gpus = answer["gpus"]
        if not gpus:
            return await self._nothing_to_watch("an NVIDIA driver is here, but no GPU: VRAM is not watched")
        self._silent_until = None
        readings = [_reading(gpu, now) for gpu in gpus if "code" not in gpu and gpu["total_bytes"] > 0]
        self._readings |= {reading.index: reading for reading in readings}
        failures = [GpuFailure(gpu["index"], gpu["code"], gpu["message"]) for gpu in gpus if "code" in gpu]
        return self._conclude(readings, failures, now)

    async def close(self) -> None:
        """End the worker."""
        await self._prober.close()

    async def _no_driver(self, code: int, message: str, now: float) -> Sequence[Finding]:
        if code in _GONE:
            return [lost([GpuFailure(0, code, message)], now)]
        if code not in _ABSENT:
            raise ProbeError(f"NVML could not be used: {message} (code {code})")
        return await self._nothing_to_watch(_ABSENT[code])

    async def _nothing_to_watch(self, why: str) -> Sequence[Finding]:
        if self._readings:
            raise ProbeError(f"GPU {min(self._readings)} was here before; now: {why}")
        self._say_once(why)
        self._silent_until = self._clock.monotonic() + ABSENT_RETRY_SECONDS
        await self._prober.rest()
        return []

    def _conclude(
        self, readings: Sequence[GpuReading], failures: Sequence[GpuFailure], now: float
    ) -> Sequence[Finding]:
        gone = [failure for failure in failures if failure.code in _GONE]
        if gone:
            return [lost(gone, now)]
        findings = [judge(readings, self._thresholds, now)] if readings else []
        unread = [failure for failure in failures if failure.code != _NOT_SUPPORTED]
        if unread and not any(finding.severity >= Severity.WARNING for finding in findings):
            first = unread[0]
            raise ProbeError(f"GPU {first.index} could not be read: {first.message} (code {first.code})")
        if not findings:
            self._say_once("no GPU here tells how much memory it has: VRAM is not watched")
        return findings

    def _say_once(self, message: str) -> None:
        if message != self._noticed:
            self._noticed = message
            self._tell(message)


def _reading(gpu: Mapping[str, Any], at: float) -> GpuReading:
    processes = gpu["processes"]
    return GpuReading(
        index=gpu["index"],
        uuid=gpu["uuid"],
        name=gpu["name"],
        total_bytes=gpu["total_bytes"],
        used_bytes=gpu["used_bytes"],
        reserved_bytes=gpu["reserved_bytes"],
        processes=None if processes is None else tuple(GpuProcess(pid, used) for pid, used in processes),
        at=at,
    )
