"""Going with the children alive: the daemon begins again in its own process, or systemd starts the next one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

from epad.supervisor.errors import SupervisorError
from epad.supervisor.systemd_bus import SYSTEM_BUS, find_bus

_INVOKED_BY_SYSTEMD = "INVOCATION_ID"


def begin_again() -> NoReturn:
    """Become the program that is installed now, with the same process number and arguments. Raises OSError."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


async def is_restarted(environment: Mapping[str, str], cgroup: str) -> bool:
    """Say whether systemd ends this daemon only to start it again; False where nobody can tell.

    `cgroup` is the text of /proc/self/cgroup, whose last part is the unit's name.
    """
    unit = unit_of(cgroup)
    if not environment.get(_INVOKED_BY_SYSTEMD) or not unit:
        return False
    from epad.supervisor.systemd_manager import Manager  # noqa: PLC0415  it loads a D-Bus library

    bus = find_bus(environment, os.getuid()) if "/user@" in cgroup else SYSTEM_BUS
    if bus is None:
        return False
    manager = Manager(bus)
    try:
        return await manager.job_type(unit) == "restart"
    except SupervisorError:
        return False
    finally:
        manager.close()


def unit_of(cgroup: str) -> str:
    """Return the name of the service that a process is in; empty if it is in none."""
    name = cgroup.strip().rpartition("\n")[2].rpartition("/")[2]
    return name if name.endswith(".service") else ""
