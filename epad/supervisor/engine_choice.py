"""Choose the engine that holds this daemon's processes: the strongest that this machine has, or the configured one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from epad.configuration.directories import Directories, resolve
from epad.configuration.schema import DaemonConfig
from epad.runtime.clock import boot_id
from epad.supervisor.cell_maker import CellMaker
from epad.supervisor.cgroup import Cgroup, NoCgroupError, delegated
from epad.supervisor.engine import SLICE, Engine
from epad.supervisor.errors import SupervisorError
from epad.supervisor.identity import ProcessTable
from epad.supervisor.plain_engine import PlainEngine
from epad.supervisor.systemd_bus import find_bus

SERVICE_TAG = "epad"
CHILDREN = ".children"


def choose(
    wanted: str,
    table: ProcessTable,
    directories: Directories,
    environment: Mapping[str, str],
    cells: CellMaker | None = None,
) -> Engine:
    """Make the engine. Raises SupervisorError where systemd is asked for and does not obey us."""
    tag = unit_tag(directories, environment)
    plain = _plain(table, tag, cells)
    if wanted == "plain":
        return plain
    bus = find_bus(environment, os.geteuid())
    if bus is not None:
        # The D-Bus library costs 4 MiB, and is loaded only where there is a bus.
        from epad.supervisor.systemd_engine import SystemdEngine  # noqa: PLC0415
        from epad.supervisor.systemd_manager import Manager  # noqa: PLC0415

        return SystemdEngine(table, Manager(bus), plain, tag, directories.runtime / "units", cells)
    if wanted == "systemd":
        raise SupervisorError(
            f'daemon.engine = "systemd": uid {os.geteuid()} has no service manager to reach (no bus in '
            f'/run/user/{os.geteuid()}): run `loginctl enable-linger` for it, or set it to "auto" or "plain"'
        )
    return plain


def would_use(config: DaemonConfig, environment: Mapping[str, str]) -> str:
    """Say which engine a daemon started here and now would hold its processes with."""
    try:
        directories = resolve(config, environment)
        engine = choose(config.engine, ProcessTable(boot_id()), directories, environment)
    except SupervisorError as error:
        return f"none: {error}"
    return f"{engine.name}: {engine.describe()}"


def unit_tag(directories: Directories, environment: Mapping[str, str]) -> str:
    """Return our name among units and cgroups: `epad` for the installed service, else by the state directory."""
    if environment.get("STATE_DIRECTORY", "").split(":")[0] == str(directories.state):
        return SERVICE_TAG
    return state_tag(directories.state)


def state_tag(state: Path) -> str:
    """Return our name for anything but the installed service."""
    return f"{SERVICE_TAG}-{hashlib.sha256(os.fsencode(state)).hexdigest()[:8]}"


def is_own_group(path: Path, tag: str) -> bool:
    """Say of a control group, by its name, whether it was made for a child of this tag, or for all of them."""
    unit = path.parent.name == SLICE and path.name.startswith(f"{tag}-") and path.suffix == ".service"
    return unit or path.name == f"{tag}{CHILDREN}"


def _plain(table: ProcessTable, tag: str, cells: CellMaker | None) -> PlainEngine:
    try:
        own = delegated(managed=Path("/run/systemd/system").is_dir())
    except (NoCgroupError, OSError) as error:
        return PlainEngine(table, why_no_cgroup=str(error), cells=cells)
    return PlainEngine(table, Cgroup(own.path / f"{tag}{CHILDREN}"), cells=cells)
