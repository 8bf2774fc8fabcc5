"""Start workers in cells: the workspace and the system's programs, no model, no secret, no network of their own.

The policy is that of `profile = "workspace"` with the subsystem's own workspace, whatever its own profile is; a wall
that this machine cannot have is done without and told, since each call is confined by Landlock once more
(`runners/tools/sandbox.py`), which refuses to change files where it is missing.

`-P`, and `/` as the working directory, keep the interpreter from importing what lies in the workspace.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final

from msgspec import structs

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.confining import confine_of
from epad.configuration.schema import Config, SubsystemConfig
from epad.confinement.cell_parts import CellOrder, Planner
from epad.confinement.doors import ADDRESSES, DoorKind
from epad.confinement.policies import Policies
from epad.confinement.policy import Access, FileRule
from epad.confinement.spawner import Spawner
from epad.confinement.tool_doors import tool_door
from epad.tools import engine_cell, host_cell
from epad.tools.catalogue import ROOT
from epad.tools.worker import Worker, connect
from epad.tools.worker_doors import WorkerDoors
from runners.cell.plan import Door

SEARXNG: Final = "EPAD_SEARXNG"
"""The variable that tells a worker the address of the operator's SearXNG; empty: there is none."""
_RUNNERS: Final = str(ROOT / "runners")
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
}


class Place(Enum):
    """Names the surroundings in which a category's tools are done."""

    WORKSPACE = "the subsystem's workspace, no network"
    NOTHING = "no file but the libraries, no network"
    NETWORK = "no file but the libraries, a door to the way out"
    WORKSPACE_AND_NETWORK = "the subsystem's workspace, a door to the way out"
    HOST = "the host's /proc, the workspace, both to be read alone, no network"
    ENGINE = "the container engine's socket, the workspace to be read alone, no network"

    @property
    def has_workspace(self) -> bool:
        return self in {Place.WORKSPACE, Place.WORKSPACE_AND_NETWORK} or self.reads_alone

    @property
    def reads_alone(self) -> bool:
        """Tell if nothing is written there."""
        return self in {Place.HOST, Place.ENGINE}

    @property
    def has_network(self) -> bool:
        return self in {Place.NETWORK, Place.WORKSPACE_AND_NETWORK}


PLACES: Final[Mapping[str, Place]] = {
    "api": Place.WORKSPACE_AND_NETWORK,
    "browser": Place.NETWORK,
    "crypto": Place.NOTHING,
    "docker": Place.ENGINE,
    "http": Place.NETWORK,
    "monitor": Place.NETWORK,
    "prompt": Place.NOTHING,
    "system": Place.HOST,
    "thinking": Place.NOTHING,
    "websearch": Place.NETWORK,
}
"""The place of each category that is not done in the workspace."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker that was started, and the walls that its cell has to do without."""

    worker: Worker
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellStarter:
    """Starts workers. `config` returns the configuration in force.

    A worker with a door reaches the hosts of `[tools.web]` by it, through the way out, and nothing else. A machine that
    gives its cell no network of its own gives it no door either, and its tools refuse.
    """

    config: Callable[[], Config]
    policies: Policies
    planner: Planner
    spawner: Spawner
    doors: WorkerDoors
    undo: Callable[[str], str] = lambda _: ""
    """Returns the directory of a subsystem's before-images, made; empty where none are kept. Raises OSError."""
    _paths: dict[str, tuple[Config, str]] = field(default_factory=dict)
    _settings: dict[str, tuple[Config, str, object]] = field(default_factory=dict)
    # Both by subsystem, of the configuration that they were made from: every call asks.

    async def start(self, subsystem: str, category: str, ended: Callable[[], None]) -> Started:
        """Start a worker of one category for one subsystem. Raises ConfinementError."""
        place = PLACES.get(category, Place.WORKSPACE)
        root = self.workspace(subsystem) if place.has_workspace else ""
        doors = await self._doors(subsystem) if place.has_network else ()
        undo = self.undo(subsystem) if root else ""
        command = (sys.executable, "-P", "-m", "runners.tools", category, *_options(root, undo, doors))
        worker = _as_worker(subsystem, self.config(), command, root, place)
        policy = self.policies.of(subsystem, worker)
        if undo:
            files = (*policy.files, FileRule(undo, Access.WRITE))
            policy = replace(policy, files=tuple(sorted(files, key=lambda rule: rule.path)))
        environment = {**_ENVIRONMENT, SEARXNG: self.config().tools.web.searxng}
        plan = await self.planner.plan(CellOrder(policy, command, environment, Path("/"), doors))
        if place is Place.HOST:
            plan = host_cell.showing_host(plan, self.policies.environ)
        if place is Place.ENGINE:
            plan = engine_cell.showing_engine(plan, self.config().tools.docker.socket, subsystem)
        # A name that is not there yet would get a placeholder in the workspace. Here the worker refuses to make it.
        protect = tuple(filter(os.path.exists, plan.tree.protect))
        plan = replace(plan, name=f"tools-{category}", tree=replace(plan.tree, protect=protect))
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                made = await self.spawner.spawn(plan, theirs.fileno(), theirs.fileno(), 2)
        except BaseException:
            ours.close()
            raise
        if made.doors:
            ended = await self.doors.open(tool_door(subsystem, category), made.doors[0], ended)
        return Started(await connect(made.pid, ours, ended), tuple(made.missing))

    def settings(self, subsystem: str) -> object:
        """Return the settings that a worker is started by, to be compared."""
        root, config = self.workspace(subsystem), self.config()
        known = self._settings.get(subsystem)
        if known is not None and known[0] is config and known[1] == root:
            return known[2]
        worker = _as_worker(subsystem, config, (), root).subsystems[subsystem]
        settings = root, config.tools.web.searxng, config.tools.docker.socket, worker
        self._settings[subsystem] = config, root, settings
        return settings

    async def _doors(self, subsystem: str) -> tuple[Door, ...]:
        """Return the door of a worker with network; none where this machine gives its cell no network of its own."""
        if not await self.planner.has_network(subsystem):
            return ()
        return (Door(*ADDRESSES[DoorKind.WAY_OUT]),)

    def workspace(self, subsystem: str) -> str:
        """Return the directory that a subsystem's tools work in; empty where it has none."""
        config, known = self.config(), self._paths.get(subsystem)
        if known is None or known[0] is not config:
            known = self._paths[subsystem] = config, self._path(subsystem, config)
        return known[1] if os.path.isdir(known[1]) else ""  # noqa: PTH112  # Path takes ten times as long

    def _path(self, subsystem: str, config: Config) -> str:
        spec = config.subsystems[subsystem]
        if spec.kind != "process" and not (spec.working_directory or confine_of(subsystem, config).workspace):
            return ""
        return self.policies.of(subsystem, config).workspace


def _options(root: str, undo: str, doors: tuple[Door, ...]) -> Iterator[str]:
    """Yield the options that tell a worker its surroundings."""
    if root:
        yield from ("--root", root)
    if undo:
        yield from ("--undo", undo)
    for door in doors:
        yield from ("--way-out", f"{door.host}:{door.port}")


def _as_worker(
    subsystem: str, config: Config, command: tuple[str, ...], root: str, place: Place = Place.WORKSPACE
) -> Config:
    """Return the configuration in which a subsystem's process is the worker: no model, no host, no secret."""
    spec, confine = config.subsystems[subsystem], confine_of(subsystem, config)
    is_host = place is Place.HOST
    worker = SubsystemConfig(
        command=command,
        working_directory=root or spec.working_directory,
        gateway=False,
        user=spec.user,
        group=spec.group,
        environment={"HOME": spec.environment["HOME"]} if "HOME" in spec.environment else {},
        confine=ConfineConfig(
            profile="sealed" if place.reads_alone else "workspace",
            workspace=root,
            read=(*_libraries(), *(host_cell.READ if is_host else ())),
            never=confine.never,
            gpu=is_host,
            require="best",
        ),
    )
    return structs.replace(config, subsystems={**config.subsystems, subsystem: worker})


@cache
def _libraries() -> tuple[str, ...]:
    """Return the directories that the worker's interpreter and its modules are read from."""
    paths = sysconfig.get_paths()
    return tuple(
        dict.fromkeys((_RUNNERS, *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))))
    )
