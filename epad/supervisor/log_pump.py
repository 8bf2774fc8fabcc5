"""Run the log pump for the daemon: keep one running, give it the limits, and log its reports."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from structlog.typing import FilteringBoundLogger

from epad.configuration.directories import Directories
from epad.configuration.schema import Config, LogConfig
from epad.runtime.timers import sleep_to_beat
from epad.supervisor.child_logs import TEND_SECONDS
from epad.supervisor.footprints import Workload
from epad.supervisor.launch import inherited
from epad.supervisor.log_keeper import LogKeeper
from epad.supervisor.log_pipes import LogPipes
from statemachine.tool_targets import category_target

if TYPE_CHECKING:
    from epad.supervisor.child_logs import Limits

# It says every TEND_SECONDS that it is alive: one that was stopped, or is stuck, is replaced.
SILENT_SECONDS = 20.0
# It starts within a tenth of this; one that cannot run at all is not tried more often.
RESTART_SECONDS = 1.0
# What is in the pipes when the last child has ended is written in milliseconds, by a pump that runs.
_DRAIN_SECONDS = 5.0
_END_SECONDS = 1.0
_HOME = Path(__file__).parents[2]


def log_configs(config: Config) -> dict[str, Limits]:
    """Return how the log of each subsystem that has one is kept, and of each foreign server that is a child."""
    servers = config.tools.servers.items() if config.tools.enabled else ()
    children = {category_target(name): LogConfig() for name, server in servers if server.command}
    return {
        **children,
        **{name: spec.log for name, spec in config.subsystems.items() if spec.kind == "process"},
    }


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
        self._pipes = LogPipes(directories, self._log)
        self._directories = directories
        self._workloads = workloads
        self._limits: dict[str, Limits] = {}
        self._orders: dict[str, dict[str, Any]] = {}
        self._stdin: asyncio.WriteTransport | None = None
        self._process: subprocess.Popen[bytes] | None = None
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

    def output(self, name: str) -> Path:
        """Return the path of a subsystem's output: its pipe, made again if it was deleted; else its log itself."""
        if name in self._limits and not self._pipes.has(name):
            self.tell()
        return self._directories.log_pipe(name) if self._pipes.has(name) else self._directories.log(name)

    def tell(self) -> None:
        """Make the missing pipes, and give the pump the changes."""
        changed = self._pipes.have(self._limits.keys())
        changed = self._pipes.look_for_lost(self._workloads()) or changed
        orders = {
            name: {"max_bytes": limits.max_bytes, "keep": limits.keep, "pipes": self._pipes.of(name)}
            for name, limits in self._limits.items()
        }
        if changed or orders != self._orders:
            self._orders = orders
            self._send()

    @property
    def pids(self) -> frozenset[int]:
        """Return the pump's process, if there is one."""
        return frozenset() if self._process is None else frozenset({self._process.pid})

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
        """Let the pump end, since the children have ended: their last output is in their logs then."""
        self._is_finishing = True
        if self._stdin is not None:
            self._stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), _DRAIN_SECONDS)
        self._pipes.close()

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
        self._process = process
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
            self._process = None
            self._idle.set()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            (sys.executable, "-P", "-S", "-m", "epad.supervisor.pump", str(self._directories.logs)),
            env={**inherited(os.environ), "PYTHONPATH": str(_HOME)},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # ours may be a pipe, and somebody wait for its end
            start_new_session=True,
        )

    async def _hear(self, process: subprocess.Popen[bytes]) -> str:
        """Give it the limits, and log its reports, until it ends; return why it is to be replaced."""
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
        """Log a report of the pump. Raises ValueError for one that it never makes."""
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
