"""The daemon's side of the log pump: makes the pipes, keeps one pump running, tells what it reports."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from epad.beat import sleep_to_beat
from epad.directories import Directories
from epad.supervisor.child_logs import TEND_SECONDS, Limits, LogKeeper
from epad.supervisor.footprints import Workload
from epad.supervisor.launch import inherited
from epad.supervisor.program import make_pipe

# It says every TEND_SECONDS that it is alive: one that was stopped, or is stuck, is replaced.
SILENT_SECONDS = 20.0
# It starts within a tenth of this; one that cannot run at all is not tried more often.
RESTART_SECONDS = 1.0
# What is in the pipes when the last child has ended is written in milliseconds, by a pump that runs.
_DRAIN_SECONDS = 5.0
_END_SECONDS = 1.0
_OUTPUTS = (1, 2)
_HOME = Path(__file__).parents[2]


class LogPump:
    """Keeps a pump at work. `workloads` tells the processes there are, for pipes that have lost their names."""

    def __init__(
        self,
        directories: Directories,
        workloads: Callable[[], Sequence[Workload]],
        limits: Mapping[str, Limits],
    ) -> None:
        self._log: FilteringBoundLogger = structlog.get_logger("epad.supervisor")
        self.files = LogKeeper(directories.log, self._log)
        self._directories = directories
        self._workloads = workloads
        self._limits: dict[str, Limits] = {}
        self._orders: dict[str, dict[str, Any]] = {}
        self._stdin: asyncio.WriteTransport | None = None
        self._held: dict[str, int] = {}
        self._pipeless: frozenset[str] = frozenset()
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_finishing = False
        self.configure(limits)

    def configure(self, limits: Mapping[str, Limits]) -> None:
        """Keep the output of these within their limits from now on. Their pipes are there when this returns."""
        self._limits = dict(limits)
        self.files.configure(limits)
        self.tell()
        if limits:
            self._wanted.set()

    def tell(self) -> None:
        """Make the pipes that are missing, and let the pump know what has changed."""
        pipeless = frozenset(name for name in self._limits if not self._hold_pipe(name))
        for name in self._held.keys() - self._limits.keys():
            os.close(self._held.pop(name))
        for name in sorted(pipeless - self._pipeless):
            self._log.warning(
                "child_log.no_pipe",
                subsystem=name,
                pipe=str(self._directories.log_pipe(name)),
                effect="it writes its log itself, which is cut every two seconds only",
            )
        self._pipeless = pipeless
        lost = self._lost_pipes()
        orders = {
            name: {
                "max_bytes": limits.max_bytes,
                "keep": limits.keep,
                "pipes": [str(self._directories.log_pipe(name)), *lost.get(name, ())],
            }
            for name, limits in self._limits.items()
        }
        if orders != self._orders:
            self._orders = orders
            self._send()

    def _hold_pipe(self, name: str) -> bool:
        """Have a subsystem's pipe open: what it prints with its last breath waits there for a pump that starts late."""
        path, held = self._directories.log_pipe(name), self._held.get(name)
        with suppress(OSError):
            if not make_pipe(path):
                return False
            if held is not None and os.path.samestat(path.lstat(), os.fstat(held)):
                return True
            # To read alone: while only we have it open, the pump finds its end.
            self._held[name] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            if held is not None:
                os.close(held)
            return True
        return False

    async def run(self) -> None:
        """Keep a pump running until cancelled, or until `finish`. It outlives us while children hold its pipes."""
        await self._wanted.wait()
        loop = asyncio.get_running_loop()
        looking = asyncio.create_task(self._look(), name="log pipes")
        try:
            while not self._is_finishing:
                next_at = loop.time() + RESTART_SECONDS
                await self._run_one()
                if not self._is_finishing:
                    await asyncio.sleep(next_at - loop.time())
        finally:
            looking.cancel()

    async def finish(self) -> None:
        """Let the pump end, now that the children have: what they have printed last is in their logs then."""
        self._is_finishing = True
        if self._stdin is not None:
            self._stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), _DRAIN_SECONDS)
        for pipe in self._held.values():
            os.close(pipe)
        self._held.clear()

    async def _look(self) -> None:
        while True:
            await sleep_to_beat(TEND_SECONDS)
            self.tell()

    async def _run_one(self) -> None:
        """Start a pump, and hear it until it ends."""
        try:
            process = self._spawn()
        except OSError as error:
            self._log.error("log_pump.not_started", error=error.strerror)
            return
        self._idle.clear()
        try:
            why = await self._hear(process)
            if not self._is_finishing:
                process.kill()
                self._log.warning("log_pump.ended", pid=process.pid, reason=why, effect="another is started")
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, _END_SECONDS)
        finally:
            if process.poll() is None:
                process.returncode = 0  # it is to outlive us: else its object would complain
            self._idle.set()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            (sys.executable, "-P", "-m", "epad.supervisor.pump", str(self._directories.logs)),
            env={**inherited(os.environ), "PYTHONPATH": str(_HOME)},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # ours may be a pipe, and somebody wait for its end
            start_new_session=True,
        )

    async def _hear(self, process: subprocess.Popen[bytes]) -> str:
        """Let it know what to keep, and tell what it reports, until it ends; return why it is to be replaced."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        heard, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
        self._stdin, _ = await loop.connect_write_pipe(asyncio.Protocol, process.stdin)
        try:
            self._send()
            if self._is_finishing:
                self._stdin.close()
            while line := await asyncio.wait_for(reader.readline(), SILENT_SECONDS):
                self._tell_of(json.loads(line))
        except TimeoutError:
            return f"it said nothing for {SILENT_SECONDS:g} s"
        except ValueError as error:
            return f"it said what it never says: {error}"
        finally:
            self._stdin.close()
            self._stdin = None
            heard.close()
        return "it has ended"

    def _tell_of(self, report: object) -> None:
        """Log what the pump has reported. Raises ValueError for what it never reports."""
        match report:
            case {"event": str(event), **fields}:
                self._log.warning(event, **{str(name): value for name, value in fields.items()})
            case {}:  # it is alive
                pass
            case _:
                raise ValueError(repr(report)[:80])

    def _send(self) -> None:
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(json.dumps({"logs": self._orders}).encode() + b"\n")

    def _lost_pipes(self) -> dict[str, list[str]]:
        """Find the pipes that children print into and that were deleted: a new pump would not find them by name."""
        lost: dict[str, list[str]] = {}
        for workload in self._workloads():
            if workload.root is None or workload.name not in self._limits:
                continue
            # By its end: what is before it is as another mount namespace has it.
            deleted = f"{self._directories.logs.name}/{workload.name}.pipe (deleted)"
            for number in _OUTPUTS:
                path = Path(f"/proc/{workload.root.pid}/fd/{number}")
                with suppress(OSError):
                    if str(path.readlink()).endswith(deleted):
                        lost.setdefault(workload.name, []).append(str(path))
        return lost
