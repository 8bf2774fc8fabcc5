"""What the supervisor's tests share: a world of its own, programs of a few lines, and patience."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from patience import PATIENCE_SECONDS

from epad.configuration.directories import Directories
from epad.configuration.schema import RestartConfig, SubsystemConfig
from epad.runtime.clock import SystemClock, boot_id
from epad.storage.database import Database
from epad.supervisor.cell_maker import CellMaker, NoCells
from epad.supervisor.cgroup import delegated
from epad.supervisor.engine import Child
from epad.supervisor.health import HealthChecker
from epad.supervisor.identity import ProcessTable
from epad.supervisor.intent import Settings
from epad.supervisor.plain_engine import PlainEngine
from epad.supervisor.process_subsystem import ProcessSubsystem
from epad.supervisor.records import PROCESS_SCHEMA
from epad.supervisor.supervisor import Supervisor, Surroundings
from probes.subsystems import SubsystemExited, SubsystemSnapshot

# Long enough for a loaded two-core machine; nothing is asserted of how long anything takes.
SLEEP = "import time; time.sleep(600)"
READY = """
import os, socket
def tell(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try: s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
    except OSError: pass  # no daemon listens: the work goes on
    s.close()
"""


def program(source: str, **settings: Any) -> SubsystemConfig:
    """A subsystem that is a few lines of Python, impatient in every respect."""
    fields: dict[str, Any] = {
        "command": (sys.executable, "-S", "-c", source),
        "notifies": False,
        "stop_seconds": 5.0,
        "restart": RestartConfig(backoff_seconds=0.01, backoff_max_seconds=0.05),
    }
    return SubsystemConfig(**{**fields, **settings})


async def until(true: Callable[[], bool]) -> None:
    """Wait for something to become true; TimeoutError if it does not."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0.01)


class World:
    """A state directory and its database, for one supervisor after another."""

    def __init__(self, root: Path, trees: str = "walked") -> None:
        self.trees = trees
        self.directories = Directories(root / "state", root / "run")
        self.directories.create()
        self.boot_id = boot_id()
        self.table = ProcessTable(self.boot_id)
        self.engine = self.make_engine()
        self.database = Database(self.directories.state_database, PROCESS_SCHEMA)
        self.exits: list[SubsystemExited] = []
        self.remembered: list[tuple[str, Sequence[float]]] = []
        self.marks = {"EPAD_STATE": str(self.directories.state)}
        self.checker = HealthChecker(self.infer, {"PATH": os.environ["PATH"]})
        self.tokens: dict[str, str] = {}
        self.cells: CellMaker = NoCells()

    def make_engine(self) -> PlainEngine:
        """The plain engine, with a cgroup a child or without."""
        if self.trees == "walked":
            return PlainEngine(self.table)
        own = delegated(managed=Path("/run/systemd/system").is_dir())
        return PlainEngine(self.table, own.leaf(f"test-{self.directories.state.parent.name}"))

    def exited(self, event: SubsystemExited) -> None:
        self.exits.append(event)

    async def environment(self, name: str) -> dict[str, str]:
        return {"EPAD_GATEWAY_KEY": f"key-of-{name}"}

    async def infer(self, model: str) -> str:
        return self.tokens.get(model, f"no upstream serves {model}")

    def supervisor(self, specs: dict[str, SubsystemConfig], settings: Settings | None = None) -> Supervisor:
        return Supervisor(
            specs,
            Surroundings(
                database=self.database,
                directories=self.directories,
                environment=self.environment,
                engine=self.engine,
                clock=SystemClock(),
                observer=self,
                log=structlog.get_logger(),
                boot_id=self.boot_id,
                checker=self.checker,
                remember=lambda name, failed_at: self.remembered.append((name, failed_at)),
                settings=settings or Settings(watch_seconds=0.05, watchdog_seconds=5.0),
                cells=self.cells,
            ),
        )

    def living(self) -> set[int]:
        """Every process that was started here, by supervisor or child, and still runs."""
        return {identity.pid for identity in self.table.tree(None, self.marks)}

    def read(self, name: str) -> str:
        path = self.directories.log(name)
        return path.read_text() if path.exists() else ""

    def pid(self, name: str) -> int:
        """The pid that a program wrote into its working directory."""
        return int((self.directories.work("it") / name).read_text())

    def wrote(self, name: str) -> bool:
        path = self.directories.work("it") / name
        return path.exists() and path.read_text().strip() != ""


def child_of(supervisor: Supervisor, name: str = "it") -> Child:
    """What a subsystem's process is to its engine."""
    subsystem = supervisor._processes[name]
    assert isinstance(subsystem, ProcessSubsystem)
    child = subsystem._process.child
    assert child is not None
    return child


def snapshot(supervisor: Supervisor, name: str = "it") -> SubsystemSnapshot:
    return next(s for s in supervisor.snapshots() if s.name == name)
