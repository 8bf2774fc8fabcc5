"""Build a process's launch: its environment, its directory, its log, and the marks that it is ours."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from epad.configuration.directories import Directories
from epad.configuration.schema import SubsystemConfig
from epad.configuration.sizes import size_bytes
from epad.runtime.environment_marks import INSTANCE_MARK, STATE_MARK, SUBSYSTEM_MARK
from epad.supervisor.engine import Launch
from epad.supervisor.intent import Room

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
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|DSN", re.IGNORECASE)


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the daemon's environment that children may inherit."""
    return {name: value for name, value in environment.items() if _passes(name)}


def _passes(name: str) -> bool:
    if name in INHERITED_NAMES or name.startswith(INHERITED_PREFIXES):
        return True
    return bool(SWITCHES.search(name)) and not _SECRET.search(name)


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
    """Build the launch. Later variables win: inherited, `extra`, the configured ones, and epad's own."""
    own_marks = marks(room.directories, name)
    environment = {
        **inherited(room.environ),
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
    )
