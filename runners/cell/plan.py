"""Define the plan of a cell, the order that one is made by, and its form as JSON.

This is the one type that the daemon and the cell's programs share: `epad/confinement` imports this file, and nothing
else below `runners/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

EXIT_NO_CELL: Final = 125
"""The exit status of a start that a missing wall has ended."""


class Wall(StrEnum):
    """Names each wall, as people read it where one is missing."""

    NETWORK = "network"
    """A network namespace: loopback of its own, and no other interface."""
    FILES = "files"
    """A mount namespace with a file tree of its own."""
    PROCESSES = "processes"
    """A pid namespace: processes outside have no number inside."""
    PROC = "proc"
    """A /proc that shows the cell's processes only."""
    IPC = "ipc"
    """System V and POSIX message queues and shared memory of its own."""
    HOSTNAME = "hostname"
    """A UTS namespace."""
    CGROUPS = "cgroups"
    """A cgroup namespace: paths of control groups begin at its own."""
    LANDLOCK = "landlock"
    """Rules of files by path, and no ptrace of processes outside (ABI 1)."""
    LANDLOCK_REFER = "landlock-refer"
    """Files are not moved or linked from one writable root to another (ABI 2)."""
    LANDLOCK_TRUNCATE = "landlock-truncate"
    """Files that may only be read cannot be cut (ABI 3)."""
    LANDLOCK_TCP = "landlock-tcp"
    """TCP ports to connect to, and none to listen on (ABI 4)."""
    LANDLOCK_IOCTL = "landlock-ioctl"
    """No ioctl on devices that are not named (ABI 5)."""
    LANDLOCK_SCOPE = "landlock-scope"
    """No abstract sockets of, and no signals to, processes outside (ABI 6)."""
    SYSCALLS = "syscalls"
    """A filter of system calls (seccomp)."""
    PRIVILEGES = "privileges"
    """No capabilities, and no new ones from set-user-ID programs."""
    LIMITS = "limits"
    """Limits of resources."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Describes the files of a cell by absolute paths; the order in which they are named does not matter.

    A path that does not exist on the machine is left out, but for `empty` and `protect`.
    """

    base: Literal["empty", "host"] = "empty"
    """The host's tree with all rights of the user, or one that has only what is named here."""
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    """Read only, inside a root that may be written. Where one does not exist yet, an empty placeholder is made, so that
    none can be created: a directory if its name ends in `/`. Not made where its parent does not exist."""
    hide: tuple[str, ...] = ()
    """Covered by an empty directory or file, inside a root that may be read."""
    empty: tuple[str, ...] = ()
    """Directories of the cell's own that begin empty, may be written and end with it."""
    texts: tuple[tuple[str, str], ...] = ()
    """Files that are there from the start, by their paths: each inside a directory of `empty`, whose owner it has."""
    devices: tuple[str, ...] = ()
    """Devices beside /dev/null and its like."""
    host_proc: bool = False
    """Shows the machine's /proc, which cannot be written, instead of one of the cell's own."""


@dataclass(frozen=True, slots=True)
class Syscalls:
    """Describes the system calls that a profile may choose about; the rest of the filter is always the same."""

    unix_sockets: bool = True
    """Sockets of AF_UNIX. Pairs can always be made, and datagrams sent, by which a program says that it is ready."""
    datagrams: bool = True
    """UDP."""
    memory_files: Literal["sealed", "any"] = "sealed"
    """Files of memory_create that can never be executed, or of any kind: CUDA makes such without a flag."""


@dataclass(frozen=True, slots=True)
class Door:
    """Names an address that is listened on inside the cell, by whoever it is handed to outside."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class CellPlan:
    """Orders one cell, and the program that runs in it."""

    name: str
    command: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    walls: tuple[Wall, ...]
    required: Literal["all", "best"] = "all"
    """Whether a wall that cannot be had ends the start, or is reported as missing."""
    tree: Tree = field(default_factory=Tree)
    syscalls: Syscalls = field(default_factory=Syscalls)
    doors: tuple[Door, ...] = ()
    watched: tuple[int, ...] | None = None
    """Ports of model servers, attempts to connect to which are seen, as are those to other hosts; None: none is."""
    ports: tuple[int, ...] = ()
    """TCP ports that may be connected to where Landlock alone holds the network."""
    gpu: bool = False
    """Lets threads be named through /proc, which CUDA does when it starts."""
    limits: tuple[tuple[str, int], ...] = ()
    """Pairs of a limit's name, as `NPROC`, and its value, soft and hard."""
    user_namespace: bool = True
    """Whether the namespaces are made within a user namespace, as who is not root must."""
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    """Whom a root daemon's child becomes: before the user namespace if there is one, else once the walls stand."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """Variables that the first process shows in its own environment, where the supervisor looks for them."""
    group: str = ""
    """The `cgroup.procs` file of the control group to join; empty: none."""

    def to_json(self) -> bytes:
        """Return the plan as one JSON object."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> CellPlan:
        """Read a plan back. Raises KeyError, TypeError or ValueError for anything else."""
        fields: dict[str, Any] = {name: _frozen(value) for name, value in json.loads(text).items()}
        fields["walls"] = tuple(Wall(name) for name in fields["walls"])
        fields["tree"] = Tree(**{name: _frozen(value) for name, value in fields["tree"].items()})
        fields["syscalls"] = Syscalls(**fields["syscalls"])
        fields["doors"] = tuple(Door(**door) for door in fields["doors"])
        return cls(**fields)


def _frozen(value: Any) -> Any:
    """Return JSON's lists as tuples."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
