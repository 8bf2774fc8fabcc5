"""Confine the process of one call: its files by Landlock, its resources by limits, its system calls by seccomp.

A pure tool gets no file at all. A reading tool gets the workspace without the right to write, a writing one with it.
A tool of the network may connect to one port, the way out's, and to no other; it has read its libraries before.
Nobody may execute a file but the programs that a category names (git), so a hook, a filter or a planted script has
no shell that would run it. All of these stand inside the cell that the worker may be started in.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final

from runners.cell import kernel, landlock, seccomp
from runners.cell.plan import Syscalls, Wall
from runners.tools.signature import Risk

_SIGKILL: Final = 9
_MIB: Final = 1 << 20
_LIBRARIES: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/opt", "/nix/store", "/gnu/store")
_LOADERS: Final = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
_READS_FILES: Final = frozenset({"R1", "R2", "N1"})
_WRITES_FILES: Final = frozenset({"W0", "W1", "W2", "X1", "X2"})
USES_NETWORK: Final = frozenset({"N1", "N2", "X1"})
NEEDS_LANDLOCK: Final = frozenset({"W1", "W2", "N1", "N2", "X1", "X2"})
"""Without Landlock these are refused, unless the worker was started with --unsandboxed."""


@dataclass(frozen=True, slots=True)
class Need:
    """Tells what one call may reach."""

    risk: Risk
    root: int
    undo: int = -1
    programs: tuple[str, ...] = ()
    seconds: float = 5
    ports: tuple[int, ...] = ()
    reads: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


def missing_walls() -> list[str]:
    """Return the walls that this kernel lacks, by their names."""
    try:
        version = landlock.version()
    except OSError:
        version = 0
    return [str(wall) for wall, needed in landlock.ABI.items() if version < needed]


def prepare() -> None:
    """Do once, before the first fork, what each call's process would do anew."""
    with suppress(OSError):
        _ruleset()


def filter_system_calls(*, unix_sockets: bool = False) -> bool:
    """Put this process and its children under the filter: no sockets but pairs. Returns if it stands."""
    try:
        seccomp.install(Syscalls(unix_sockets=unix_sockets, datagrams=False))
    except OSError:
        return False
    return True


def die_with_parent(parent: int) -> None:
    """End this process when its parent does, also if that happened before this call."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit(need: Need) -> None:
    """Limit processor time, memory, files and processes."""
    pure = need.risk == "P"
    seconds = int(need.seconds) + 1
    _limit(resource.RLIMIT_CPU, min(seconds, 5) if pure else seconds)
    _limit(resource.RLIMIT_AS, (256 if pure else 1024) * _MIB)
    _limit(resource.RLIMIT_FSIZE, 256 * _MIB)
    _limit(resource.RLIMIT_NOFILE, 256)
    _limit(resource.RLIMIT_CORE, 0)
    if not need.programs:
        _limit(resource.RLIMIT_NPROC, 0)


def _limit(name: int, value: int) -> None:
    _, hard = resource.getrlimit(name)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(name, (value, value))


def confine(need: Need) -> None:
    """Close all files and TCP ports but those that the call needs, and signals to others. Raises OSError."""
    wanted = _ruleset()
    landlock.restrict(wanted, _rules(need, wanted.files), need.ports)


@cache
def _ruleset() -> landlock.Ruleset:
    """Return the walls that this kernel has. Raises OSError."""
    version = landlock.version()
    return landlock.ruleset(
        [wall for wall, needed in landlock.ABI.items() if version >= needed and wall in Wall]
    )


def _rules(need: Need, everything: int) -> Iterator[tuple[str, int]]:
    write = everything & ~landlock.EXECUTE & ~landlock.NEVER
    if need.root >= 0 and need.risk in _READS_FILES:
        yield f"/proc/self/fd/{need.root}", landlock.READ
    if need.root >= 0 and need.risk in _WRITES_FILES:
        yield f"/proc/self/fd/{need.root}", write
        if need.undo >= 0:
            yield f"/proc/self/fd/{need.undo}", write
    yield from ((path, landlock.READ) for path in need.reads)
    yield from ((path, landlock.READ | landlock.WRITE_FILE | landlock.IOCTL) for path in need.devices)
    if need.programs:
        yield "/dev/null", landlock.READ | landlock.WRITE_FILE
        yield "/dev/urandom", landlock.READ
        yield from ((path, landlock.READ) for path in _LIBRARIES)
        yield from ((path, landlock.READ | landlock.EXECUTE) for path in (*_LOADERS, *need.programs))


def forget_descriptors(keep: set[int]) -> None:
    """Close every descriptor that is not in `keep`, by ranges: a system call for each gap between two of them."""
    first = 0
    for kept in sorted(each for each in keep if each >= 0):
        if first < kept:  # an empty range would be read as one without an end
            os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
