"""The whole daemon in virtual time: `epad.daemon.process.Daemon` itself, with its house, on a loop that jumps.

What is replaced: the clock, the processes (`virtual_processes`), and the probes of this machine's own hardware and
disk, whose state is no part of what is tried. State lies on a RAM disk, where a commit costs little.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import structlog
from virtual_processes import VirtualEngine
from virtual_time import VirtualTime

import epad.daemon.composition
import epad.daemon.process
import epad.probing.build
from epad.configuration.directories import Directories
from epad.configuration.load import load
from epad.daemon.composition import compose
from epad.daemon.lifecycle import Composition
from epad.daemon.parts import Given
from epad.ledger.writer import Writer
from epad.probing.build import Watchers
from epad.supervisor.intent import Settings
from epad.supervisor.log_pump import LogPump
from epad.supervisor.supervisor import Surroundings
from statemachine.containment import Hold
from statemachine.phase import Phase

if TYPE_CHECKING:
    from virtual_memory import VirtualMemory  # what it reads by is not in every former version

MACHINES_OWN = frozenset({"vram", "host", "ledger_integrity", "datastore", "memory"})
"""Probes that read this machine: a busy disk here says nothing of what is played."""

BASE = """
[daemon]
state_directory = "{state}"
runtime_directory = "{state}/run"
engine = "plain"
tick_seconds = {tick}
[gateway]
listen = "127.0.0.1:0"
[metrics]
listen = ""
[web]
listen = ""
[schedule]
nightly_verify = ""
checkpoint = ""
restore_drill = ""
[lifeboat]
ballast_bytes = 0
[probes.host]
lag_seconds = 20.0
"""

SELDOM_SECONDS = 10.0
SELDOM = """
[probes.cascade]
interval_seconds = 10.0
settle_seconds = 30.0
[probes.liveness]
interval_seconds = 5.0
"""
SELDOM_TIMES = (
    ("epad.gateway.http.pool", "_LONGEST_SWEEP_SECONDS", 10.0),
    ("epad.gateway.http.server", "_LONGEST_SWEEP_SECONDS", 10.0),
    ("epad.gateway.upstream", "_LOOK_EVERY_SECONDS", 60.0),
    ("epad.gateway.looking", "LOOK_EVERY_SECONDS", 60.0),
)
"""Times of the gateway's own, where this version of it has them."""


@dataclass
class VirtualDaemon:
    """A running daemon, and how to look at it."""

    house: Composition
    engine: VirtualEngine
    directories: Directories
    clock: VirtualTime

    @property
    def url(self) -> str:
        return str(self.house.daemon_status.gateway_url)

    @property
    def phase(self) -> Phase:
        return self.house.decider.phase

    def key(self, name: str) -> str:
        """A process has its key in its environment, a client in a file."""
        if name in self.engine.environments:
            return self.engine.environments[name]["EPAD_GATEWAY_KEY"]
        return (self.directories.keys / f"{name}.key").read_text().strip()

    def headers(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key(name)}"}

    def notify(self, name: str, text: str) -> None:
        """Say something as this process would, by sd_notify."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
            speaker.sendto(text.encode(), self.engine.environments[name]["NOTIFY_SOCKET"])

    async def restart(self, name: str) -> None:
        """Start a process anew, as `epactl restart` does."""
        await self.house._surfaces.operations.restart(name, "by hand", "a test")

    def hold_of(self, name: str) -> Hold:
        return self.house.controller.hold_of(name)


@asynccontextmanager
async def virtual_daemon(
    clock: VirtualTime,
    toml: str,
    *,
    tick_seconds: float = 1.0,
    seldom: bool = False,
    environment: Mapping[str, str] | None = None,
    memory: VirtualMemory | None = None,
) -> AsyncIterator[VirtualDaemon]:
    """Run the daemon with this configuration on top of `BASE`.

    `seldom` makes what looks every second or two look a few times a minute, so that a day costs a third: for what
    takes hours anyway. `memory` is what the processes take, where that is part of what is played.
    """
    tick_seconds = SELDOM_SECONDS if seldom else tick_seconds
    toml = f"{toml}\n{SELDOM}" if seldom else toml
    ram = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="epad-", dir=ram if ram.is_dir() else None))
    file = root / "epad.toml"
    file.write_text(BASE.format(state=root / "s", tick=tick_seconds) + toml)
    houses: list[Composition] = []
    engine = VirtualEngine()
    calls = _LedgerCalls(houses)
    clock.loop.hold_while("the ledger", calls.waiting)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        for target, name, new in (
            (epad.daemon.process, "compose", _remembering(houses)),
            (epad.daemon.composition, "choose", lambda *_: engine),
            (Watchers, "all", _without_machine(Watchers.all, {"memory"} if memory is not None else set())),
            (LogPump, "run", _rests),
            (Writer, "_enqueue", calls.counting(Writer._enqueue)),
        ):
            stack.enter_context(mock.patch.object(target, name, new))
        if memory is not None:
            memory.engine = engine
            if hasattr(epad.probing.build, "FootprintReader"):
                stack.enter_context(
                    mock.patch.object(epad.probing.build, "FootprintReader", return_value=memory)
                )
        if seldom:
            slow = partial(Surroundings, settings=Settings(watch_seconds=SELDOM_SECONDS))
            stack.enter_context(mock.patch.object(epad.daemon.composition, "Surroundings", slow))
            for module, name, seconds in SELDOM_TIMES:
                if hasattr(sys.modules.get(module), name):
                    stack.enter_context(mock.patch.object(sys.modules[module], name, seconds))
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        stack.callback(structlog.reset_defaults)
        config = load(file)
        directories = epad.daemon.process._prepare(config, None)
        daemon = epad.daemon.process.Daemon(config, lambda: load(file), directories, environment or {})
        running = asyncio.ensure_future(daemon.run())
        try:
            while not (houses and houses[0].daemon_status.gateway_url and houses[0].supervisor.snapshots()):
                if running.done():
                    raise RuntimeError(f"the daemon ended with {running.result()}")
                await asyncio.sleep(0.01)
            await asyncio.sleep(1.0)
            yield VirtualDaemon(houses[0], engine, directories, clock)
        finally:
            daemon._stop.set()
            await running


def _remembering(houses: list[Composition]) -> Callable[[Given], Composition]:
    def remembered(given: Given) -> Composition:
        houses.append(compose(given))
        return houses[-1]

    return remembered


def _without_machine(every: Any, played: set[str]) -> Any:
    left_out = MACHINES_OWN - played
    return lambda watchers: [probe for probe in every(watchers) if probe.name not in left_out]


async def _rests(*_: Any) -> None:
    """In place of what looks after the children's logs: a thread every two seconds, for files that nobody writes."""
    await asyncio.Event().wait()


class _LedgerCalls:
    """What the ledger's own thread has been asked for and has not answered."""

    def __init__(self, houses: list[Composition]) -> None:
        self._houses = houses
        self._calls = 0

    def waiting(self) -> bool:
        return self._calls > 0 or any(house._stores.ledger._writer.handed_over > 0 for house in self._houses)

    def counting(self, enqueue: Any) -> Any:
        async def counted(writer: Writer, call: Any) -> Any:
            self._calls += 1
            try:
                return await enqueue(writer, call)
            finally:
                self._calls -= 1

        return counted
