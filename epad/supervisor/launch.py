"""Build a process's launch: its environment, its directory, its log, and the marks that it is ours."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from epad.configuration.directories import Directories
from epad.configuration.schema import SubsystemConfig
from epad.configuration.sizes import size_bytes
from epad.confinement.errors import ConfinementError
from epad.confinement.user import User, find_user
from epad.runtime.environment_marks import INSTANCE_MARK, STATE_MARK, SUBSYSTEM_MARK
from epad.supervisor.engine import Launch
from epad.supervisor.errors import SpawnError
from epad.supervisor.intent import Room
from runners.cell.plan import CellPlan

# What children inherit of the daemon's environment. A list of what may pass, not of what may not: the daemon's
# may hold upstream keys and systemd's own variables. `subsystems.NAME.environment` adds anything else.
INHERITED_NAMES = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "PATH",
        "PYTHONPATH",
        "SHELL",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
    }
)
INHERITED_PREFIXES = ("CUDA_", "HF_HOME", "HIP_", "HSA_", "LC_", "NVIDIA_", "ROCR_", "XDG_")
# By these words a person switches off what calls home: HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE, DO_NOT_TRACK, NO_PROXY,
# VLLM_NO_USAGE_STATS, HF_HUB_DISABLE_TELEMETRY, ANONYMIZED_TELEMETRY, GRADIO_ANALYTICS_ENABLED, WANDB_MODE and more.
SWITCHES = re.compile(
    r"(?:^|_)(?:OFFLINE|DO_NOT_TRACK|NO_PROXY|USAGE_STATS|USAGE_REPORTING|TELEMETRY|ANALYTICS|TRACKING|TRACING|"
    r"ERROR_REPORTING|CRASH_REPORTS?|WANDB_MODE|WANDB_DISABLED|NO_CLOUD|NO_INDEX)(?:_|$)",
    re.IGNORECASE,
)
_ACCESS_LIST = "system.posix_acl_access"
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|DSN", re.IGNORECASE)


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the daemon's environment that children may inherit."""
    return {name: value for name, value in environment.items() if _passes(name)}


def _passes(name: str) -> bool:
    if name in INHERITED_NAMES or name.startswith(INHERITED_PREFIXES):
        return True
    return bool(SWITCHES.search(name)) and not _SECRET.search(name)


def _of_another(environment: Mapping[str, str], user: User) -> dict[str, str]:
    """Return what another user's process inherits: not the directories that are the daemon's user's own."""
    kept = {name: value for name, value in inherited(environment).items() if not name.startswith("XDG_")}
    return {**kept, **user.variables()}


def named(environment: Mapping[str, str], patterns: Sequence[str]) -> dict[str, str]:
    """Return the daemon's variables that `pass_env` names; a pattern may have asterisks."""
    return {
        name: value
        for name, value in environment.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def marks(directories: Directories, subsystem: str) -> dict[str, str]:
    """Return the variables by which a process, wherever it has moved to, is known to be this subsystem's."""
    return {STATE_MARK: str(directories.state), SUBSYSTEM_MARK: subsystem}


def user_of(spec: SubsystemConfig) -> User | None:
    """Return the other user whom a subsystem runs as; None if it runs as the daemon. Raises SpawnError."""
    try:
        user = find_user(spec.user)
    except ConfinementError as error:
        raise SpawnError(str(error), permanent=True, key="user") from error
    return None if user is None or user.uid == os.geteuid() else user


def closed_to(path: Path, user: User) -> Path | None:
    """Return the topmost directory of a path that a user may not enter; None if the way is open.

    An access list is not read: a directory that has one counts as open, and the kernel decides.
    """
    for directory in (*reversed(path.parents), path):
        status = directory.stat()
        if status.st_uid == user.uid:
            bit = stat.S_IXUSR
        elif status.st_gid in {user.gid, *user.groups}:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not status.st_mode & bit and _ACCESS_LIST not in os.listxattr(directory):
            return directory
    return None


def let_in(room: Room, name: str, spec: SubsystemConfig, what: Launch, cell: CellPlan | None) -> None:
    """Let another user, whom a subsystem runs as, reach what it is started with. Raises SpawnError, OSError.

    A cell shows its user the subsystem's own directory. Without one epad's state stays closed to the user: only names
    below the runtime directory's `notify` are opened.
    """
    if cell is not None:
        if cell.uid is not None:
            give(room.directories, name, cell.uid, cell.gid)
        return
    if what.user is None:
        return
    if what.directory.is_dir() and (closed := closed_to(what.directory, what.user)) is not None:
        text = f"{what.user} cannot enter {closed}, on the way to {what.directory}; open it, or name another"
        raise SpawnError(text, permanent=True, key="working_directory")
    give(room.directories, name, what.user.uid, what.user.gid)
    socket = room.directories.notify_socket(name)
    if socket.exists():
        socket.parent.parent.chmod(0o711)
    if spec.notifies and (closed := closed_to(socket.parent, what.user)) is not None:
        text = (
            f"{what.user} cannot enter {closed}, on the way to its notify socket, and notifies is true; "
            "set daemon.runtime_directory to one outside of it, such as /run/epad"
        )
        raise SpawnError(text, permanent=True, key="user")


def give(directories: Directories, subsystem: str, uid: int, gid: int | None) -> None:
    """Give a subsystem's work and notify socket to another user, whom a root daemon has it run as. Raises OSError.

    The socket's directory stays the daemon's: a link that its user put there would be followed by root.
    """
    socket = directories.notify_socket(subsystem)
    for path in (directories.work(subsystem), socket):
        if path.exists():
            os.chown(path, uid, -1 if gid is None else gid, follow_symlinks=False)
    if socket.exists():
        socket.parent.chmod(0o711)  # to reach the socket by its name


def launch(name: str, spec: SubsystemConfig, room: Room, extra: Mapping[str, str], instance: str) -> Launch:
    """Build the launch. Later variables win: inherited, the user's, `extra`, the configured ones, and epad's own.

    Raises SpawnError for a user whom there is not.
    """
    own_marks = marks(room.directories, name)
    user = user_of(spec)
    environment = {
        **(inherited(room.environ) if user is None else _of_another(room.environ, user)),
        **named(room.environ, spec.pass_env),
        "PYTHONUNBUFFERED": "1",
        **extra,
        **spec.environment,
        **own_marks,
        INSTANCE_MARK: instance,
        "NOTIFY_SOCKET": str(room.directories.notify_socket(name)),
        "WATCHDOG_USEC": str(round(room.settings.watchdog_seconds * 1e6)),
    }
    directory = Path(spec.working_directory) if spec.working_directory else room.directories.work(name)
    return Launch(
        spec.command,
        environment,
        directory,
        room.output(name),
        own_marks,
        memory_max_bytes=size_bytes(spec.memory_max),
        memory_high_bytes=size_bytes(spec.memory_high),
        user=user,
    )
