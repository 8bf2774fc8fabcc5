"""Start workers in cells: the workspace and the system's programs, no network, no model, no secret.

The policy is that of `profile = "workspace"` with the subsystem's own workspace, whatever its own profile is; a wall
that this machine cannot have is done without and told, since each call is confined by Landlock once more
(`runners/tools/sandbox.py`), which refuses to change files where it is missing.

`-P`, and `/` as the working directory, keep the interpreter from importing what lies in the workspace.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

from msgspec import structs

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.confining import confine_of
from epad.configuration.schema import Config, SubsystemConfig
from epad.confinement.cell_parts import CellOrder, Planner
from epad.confinement.policies import Policies
from epad.confinement.spawner import Spawner
from epad.tools.catalogue import ROOT
from epad.tools.worker import Worker

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


PLACES: Final[Mapping[str, Place]] = {"crypto": Place.NOTHING, "thinking": Place.NOTHING}
"""The place of each category that is not done in the workspace."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker that was started, and the walls that its cell has to do without."""

    worker: Worker
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellStarter:
    """Starts workers. `config` returns the configuration in force."""

    config: Callable[[], Config]
    policies: Policies
    planner: Planner
    spawner: Spawner

    async def start(self, subsystem: str, category: str, ended: Callable[[], None]) -> Started:
        """Start a worker of one category for one subsystem. Raises ConfinementError."""
        in_workspace = PLACES.get(category, Place.WORKSPACE) is Place.WORKSPACE
        root = self.workspace(subsystem) if in_workspace else ""
        command = (sys.executable, "-P", "-m", "runners.tools", category, *(("--root", root) if root else ()))
        policy = self.policies.of(subsystem, _as_worker(subsystem, self.config(), command, root))
        plan = await self.planner.plan(CellOrder(policy, command, _ENVIRONMENT, Path("/"), ()))
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
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        return Started(Worker(made.pid, reader, writer, ended), tuple(made.missing))

    def settings(self, subsystem: str) -> object:
        """Return the settings that a worker is started by, to be compared."""
        root = self.workspace(subsystem)
        return root, _as_worker(subsystem, self.config(), (), root).subsystems[subsystem]

    def workspace(self, subsystem: str) -> str:
        """Return the directory that a subsystem's tools work in; empty where it has none."""
        config = self.config()
        spec = config.subsystems[subsystem]
        if spec.kind != "process" and not (spec.working_directory or confine_of(subsystem, config).workspace):
            return ""
        workspace = self.policies.of(subsystem, config).workspace
        return workspace if Path(workspace).is_dir() else ""


def _as_worker(subsystem: str, config: Config, command: tuple[str, ...], root: str) -> Config:
    """Return the configuration in which a subsystem's process is the worker: no model, no host, no secret, no GPU."""
    spec, confine = config.subsystems[subsystem], confine_of(subsystem, config)
    worker = SubsystemConfig(
        command=command,
        working_directory=root or spec.working_directory,
        gateway=False,
        user=spec.user,
        group=spec.group,
        environment={"HOME": spec.environment["HOME"]} if "HOME" in spec.environment else {},
        confine=ConfineConfig(
            profile="workspace", workspace=root, read=_libraries(), never=confine.never, require="best"
        ),
    )
    return structs.replace(config, subsystems={**config.subsystems, subsystem: worker})


def _libraries() -> tuple[str, ...]:
    """Return the directories that the worker's interpreter and its modules are read from."""
    paths = sysconfig.get_paths()
    return tuple(
        dict.fromkeys((_RUNNERS, *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))))
    )
