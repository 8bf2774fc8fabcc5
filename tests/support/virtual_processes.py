"""Processes that live in virtual time: a supervisor's engine without the kernel.

A process is what its command says: `("lives", "45", "1")` ends by itself after 45 virtual seconds with exit code 1,
`("lives", "45,300", "1")` after 45 and 300 in turn, `("lives-once", "45", "1")` only the first time; with several lives
each of them once. A frozen one ages no more. Nothing is forked, so a crash loop of a day
takes as long as its bookkeeping.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from epad.supervisor.engine import UNSEEN, Child, ExitStatus, Launch
from epad.supervisor.errors import ProcessGoneError
from epad.supervisor.identity import ProcessIdentity

FIRST_PID = 5_000_000
"""Above what the kernel gives out, so that none of these is ever a real process's."""


@dataclass(eq=False)
class VirtualProcess:
    """One process, and its whole tree."""

    identity: ProcessIdentity
    code: int
    seconds: float
    exited: asyncio.Future[ExitStatus]
    frozen: bool = False
    timer: asyncio.TimerHandle | None = None
    since: float = 0.0
    before: float = 0.0
    group: None = None

    @property
    def lived(self) -> float:
        """How long it has run, the time in which it was frozen left out."""
        going = self.timer is not None and not self.exited.done()
        return self.before + (self.exited.get_loop().time() - self.since if going else 0.0)

    def run(self) -> None:
        loop = asyncio.get_running_loop()
        self.since = loop.time()
        self.timer = loop.call_later(self.seconds, self.end, f"exit {self.code}", self.code)

    def stand_still(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            ran = asyncio.get_running_loop().time() - self.since
            self.seconds, self.before = self.seconds - ran, self.before + ran

    def end(self, text: str, code: int | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.exited.done():
            self.exited.set_result(ExitStatus(text, code == 0, code))

    # What epad.supervisor.process_tree.Tree asks.

    async def members(self) -> frozenset[ProcessIdentity]:
        return frozenset() if self.exited.done() else frozenset({self.identity})

    def let_die(self, members: Collection[ProcessIdentity]) -> None:
        """Nothing waits for a signal here."""

    def kill(self, members: Collection[ProcessIdentity]) -> None:
        self.end("killed by SIGKILL", None)

    async def freeze(self) -> bool:
        self.frozen = True
        self.stand_still()
        return True

    async def thaw(self) -> None:
        if self.frozen:
            self.frozen = False
            self.run()

    def is_frozen(self) -> bool:
        return self.frozen

    def is_loose(self) -> bool:
        return False

    def was_out_of_memory(self) -> bool:
        return False

    def forget(self) -> None:
        """Nothing is left."""


@dataclass
class VirtualEngine:
    """Implements `epad.supervisor.engine.Engine`.

    `spawned` counts the starts; `environments` and `processes` are the last ones.
    """

    boot_id: str = "virtual"
    name: str = "virtual"
    spawned: dict[str, int] = field(default_factory=dict)
    environments: dict[str, Mapping[str, str]] = field(default_factory=dict)
    processes: dict[str, VirtualProcess] = field(default_factory=dict)
    _pids: itertools.count[int] = field(default_factory=lambda: itertools.count(FIRST_PID))

    def now(self) -> float:
        """The time that the processes live in."""
        return next(iter(self.processes.values())).exited.get_loop().time() if self.processes else 0.0

    def describe(self) -> str:
        return "processes that are played"

    async def prepare(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to close."""

    async def spawn(self, launch: Launch) -> Child:
        manner, seconds, code = launch.command
        name, lives = Path(launch.log_file).stem, seconds.split(",")
        start = self.spawned.get(name, 0)
        self.spawned[name] = start + 1
        self.environments[name] = launch.environment
        seconds = lives[start % len(lives)]
        if manner == "lives-once" and start >= len(lives):
            seconds = "1e9"
        identity = ProcessIdentity(next(self._pids), 1, self.boot_id)
        exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        process = VirtualProcess(identity, int(code), float(seconds), exited)
        process.run()
        self.processes[name] = process
        return Child(identity, launch.marks, process, exited, -1)

    async def adopt(self, identity: ProcessIdentity, marks: Mapping[str, str]) -> Child:
        raise ProcessGoneError(f"pid {identity.pid}: no process outlives its test")

    async def last_exit(self, marks: Mapping[str, str], /) -> ExitStatus:
        return UNSEEN

    async def bearing(self, marks: Mapping[str, str]) -> frozenset[ProcessIdentity]:
        return frozenset()

    async def find(self, marks: Mapping[str, str]) -> ProcessIdentity | None:
        return None

    async def members(self, child: Child) -> frozenset[ProcessIdentity]:
        return await child.tree.members()

    async def freeze(self, child: Child) -> bool:
        return await child.tree.freeze()

    async def thaw(self, child: Child) -> None:
        await child.tree.thaw()

    async def stop(self, child: Child, grace_seconds: float) -> frozenset[ProcessIdentity]:
        child.tree.kill(())
        return frozenset()

    async def clear(self, marks: Mapping[str, str], grace_seconds: float) -> frozenset[ProcessIdentity]:
        return frozenset()

    def signal(self, child: Child, number: signal.Signals, /) -> None:
        """Nothing here obeys a signal."""

    async def isolate(self, child: Child, /, *, cut: bool) -> str:
        return ""

    def is_stopped(self, child: Child) -> bool:
        return child.tree.is_frozen()

    def is_loose(self, child: Child) -> bool:
        return False

    def release(self, child: Child) -> None:
        """Nothing is held."""

    def strays(self, kept: Collection[int]) -> frozenset[ProcessIdentity]:
        """Nobody escapes."""
        return frozenset()

    def sweep(self) -> None:
        """No orphans."""
