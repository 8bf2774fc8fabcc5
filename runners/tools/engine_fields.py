"""Hold the fields that tools send to the engine: a field that is not here cannot be sent.

Where one value alone is safe it is the type's only one: no network, no rights, no other namespaces. There is no field
for devices, for sockets, for paths of the host but the workspace, or for the environment.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from runners.tools.signature import ToolError

MIB: Final = 1 << 20
MOST_MEMORY: Final = 4096
MOST_CPUS: Final = 4.0
LABEL_TURN: Final = "epad.turn"
LABEL_SUBSYSTEM: Final = "epad.subsystem"
LABEL_ENDS: Final = "epad.ends"
"""When a container is an orphan, in seconds of the epoch: its call has ended by then, whatever happened."""

Argv = Annotated[list[Annotated[str, Meta(max_length=8192)]], Meta(min_length=1, max_length=200)]


class _Fields(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Refuses fields that it does not name."""


class FilesLimit(_Fields, frozen=True, rename="pascal"):
    """Bounds the open files of each process."""

    name: Literal["nofile"] = "nofile"
    soft: Literal[1024] = 1024
    hard: Literal[4096] = 4096


class ProcessesLimit(_Fields, frozen=True, rename="pascal"):
    """Keeps engines from raising this limit, which a confined one may not. `pids_limit` bounds the container's own."""

    name: Literal["nproc"] = "nproc"
    soft: Literal[32768] = 32768
    hard: Literal[32768] = 32768


class LogSettings(_Fields, frozen=True, rename={"size": "max-size", "files": "max-file"}):
    """Bounds the file of a container's output."""

    size: Literal["8m"] = "8m"
    files: Literal["1"] = "1"


class LogConfig(_Fields, frozen=True, rename="pascal"):
    """Has the output kept by the engine, so that it can be read."""

    type: Literal["json-file"] = "json-file"
    config: LogSettings = LogSettings()


class Mount(_Fields, frozen=True, rename="pascal"):
    """Shows the workspace, to be read alone."""

    source: Annotated[str, Meta(pattern="^/")]
    type: Literal["bind"] = "bind"
    target: Literal["/workspace"] = "/workspace"
    read_only: Literal[True] = True


class HostConfig(_Fields, frozen=True, rename="pascal"):
    """Confines a container on its host."""

    memory: Annotated[int, Meta(ge=4 * MIB, le=MOST_MEMORY * MIB)]
    memory_swap: Annotated[int, Meta(ge=4 * MIB, le=MOST_MEMORY * MIB)]
    nano_cpus: Annotated[int, Meta(ge=1, le=int(MOST_CPUS * 1e9))]
    mounts: Annotated[list[Mount], Meta(max_length=1)] = []
    network_mode: Literal["none"] = "none"
    ipc_mode: Literal["private"] = "private"
    privileged: Literal[False] = False
    cap_drop: tuple[Literal["ALL"]] = ("ALL",)
    security_opt: tuple[Literal["no-new-privileges"]] = ("no-new-privileges",)
    pids_limit: Literal[256] = 256
    ulimits: tuple[FilesLimit, ProcessesLimit] = (FilesLimit(), ProcessesLimit())
    log_config: LogConfig = LogConfig()


class Create(_Fields, frozen=True, rename="pascal"):
    """Orders a container."""

    image: str
    cmd: Argv
    labels: dict[str, str]
    host_config: HostConfig
    working_dir: Literal["", "/workspace"] = ""
    network_disabled: Literal[True] = True
    open_stdin: Literal[False] = False
    tty: Literal[False] = False


class ExecCreate(_Fields, frozen=True, rename="pascal"):
    """Orders a program in a running container."""

    cmd: Argv
    attach_stdout: Literal[True] = True
    attach_stderr: Literal[True] = True
    attach_stdin: Literal[False] = False
    tty: Literal[False] = False
    privileged: Literal[False] = False


class ExecStart(_Fields, frozen=True, rename="pascal"):
    """Starts it."""

    detach: Literal[False] = False
    tty: Literal[False] = False


def host_config(memory: int, cpus: float, workspace: str) -> HostConfig:
    """Return the confinement of a container; `memory` in MiB, `workspace` a path or empty. Raises ToolError."""
    if not (4 <= memory <= MOST_MEMORY and 0 < cpus <= MOST_CPUS):
        raise ToolError(
            "memory or cpus are out of bounds", f"4 to {MOST_MEMORY} MiB, up to {MOST_CPUS:g} cpus"
        )
    size = memory * MIB
    mounts = [Mount(source=workspace)] if workspace else []
    return HostConfig(memory=size, memory_swap=size, nano_cpus=max(1, int(cpus * 1e9)), mounts=mounts)
