"""Going with the children alive: the daemon begins again in its own process, or systemd starts the next one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import msgspec

from epad.supervisor.bus import SYSTEM_BUS, find_bus
from epad.supervisor.errors import SupervisorError

FORMAT = 1
"""Of everything in the state directory; one more whenever an older epad could not go on with it."""

_FORMAT_FILE = "format.json"
_INVOKED_BY_SYSTEMD = "INVOCATION_ID"


class Downgrade(Exception):  # noqa: N818  it is what a person did, and the message says what to do
    """The state directory was written by a newer epad, whose words this one does not know."""


class _Format(msgspec.Struct, frozen=True):
    format: int
    version: str


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
    from epad.supervisor.manager import Manager  # noqa: PLC0415  it loads a D-Bus library

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
    """The name of the service that a process is in; empty if it is in none."""
    name = cgroup.strip().rpartition("\n")[2].rpartition("/")[2]
    return name if name.endswith(".service") else ""


def claim(state: Path, version: str) -> None:
    """Note which epad writes into a state directory. Raises Downgrade where a newer one did, OSError."""
    path = state / _FORMAT_FILE
    try:
        before = msgspec.json.decode(path.read_bytes(), type=_Format)
    except FileNotFoundError:
        before = None
    except msgspec.DecodeError as error:
        raise Downgrade(f"{path}: {error}; restore it from a checkpoint, or remove it") from error
    if before is not None and before.format > FORMAT:
        raise Downgrade(
            f"{state} was written by epad {before.version}, in format {before.format}; this is epad {version}, which "
            f"knows {FORMAT}: install that one again, or start on another state with --state"
        )
    now = _Format(FORMAT, version)
    if now != before:
        path.write_bytes(msgspec.json.encode(now) + b"\n")
