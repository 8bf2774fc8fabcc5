"""What is to be run, looked at before it is started: the program, its directory, its log."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from epad.supervisor.engine import Launch
from epad.supervisor.errors import SpawnError


def find_program(launch: Launch) -> str:
    """Return the program's path as exec would find it. Raises SpawnError: trying again cannot help."""
    if not launch.directory.is_dir():
        raise SpawnError(f"directory {launch.directory}: No such file or directory", permanent=True)
    name = launch.command[0]
    if any("\0" in word for word in (*launch.command, *launch.environment.values())):
        raise SpawnError(f"{name}: embedded null byte", permanent=True)
    place = str(launch.directory / name) if "/" in name else name
    found = shutil.which(place, path=launch.environment.get("PATH", os.defpath))
    if found is not None:
        return found if "/" not in name else place
    if "/" in name and Path(place).exists():
        raise SpawnError(f"command {name!r} is not executable", permanent=True)
    raise SpawnError(f"command {name!r} is not found", permanent=True)


def log_path(path: Path) -> Path:
    """Return a log file that can be appended to: this one, else none at all. A log is no reason not to run."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(open_log(path))
        return path
    return Path(os.devnull)


def open_log(path: Path) -> int:
    """Open a log file to append to. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
