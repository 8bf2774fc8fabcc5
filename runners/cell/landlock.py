"""Confine a process by Landlock: its files by path, its TCP ports, and the processes it may reach.

Each ABI of the kernel brought more; a wall of a newer one than the kernel has is missing by its name, and the older
ones hold without it. ABI 7 added nothing that holds: it logs refusals for the audit subsystem.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from runners.cell import kernel
from runners.cell.plan import CellPlan, Wall

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_MAKE_CHARACTER: Final = 1 << 6
_MAKE_BLOCK: Final = 1 << 11
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL: Final = 1 << 15
_FIRST_ABI: Final = (1 << 13) - 1
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
READ: Final = _READ_FILE | _READ_DIR
"""The right to read files and list directories, and not to execute them."""
EXECUTE: Final = _EXECUTE
WRITE_FILE: Final = _WRITE_FILE
IOCTL: Final = _IOCTL
_NEVER: Final = _MAKE_CHARACTER | _MAKE_BLOCK
NEVER: Final = _NEVER

_BIND_TCP: Final = 1
_CONNECT_TCP: Final = 2
_SCOPE_ABSTRACT: Final = 1
_SCOPE_SIGNALS: Final = 2

_RULE_PATH: Final = 1
_RULE_PORT: Final = 2
_ASK_VERSION: Final = 1

ABI: Final = {
    Wall.LANDLOCK: 1,
    Wall.LANDLOCK_REFER: 2,
    Wall.LANDLOCK_TRUNCATE: 3,
    Wall.LANDLOCK_TCP: 4,
    Wall.LANDLOCK_IOCTL: 5,
    Wall.LANDLOCK_SCOPE: 6,
}
"""The version of Landlock that each of its walls needs."""

_FILE_RIGHT: Final = {
    Wall.LANDLOCK: _FIRST_ABI,
    Wall.LANDLOCK_REFER: _REFER,
    Wall.LANDLOCK_TRUNCATE: _TRUNCATE,
    Wall.LANDLOCK_IOCTL: _IOCTL,
}
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
_TERMINALS: Final = ("/dev/ptmx", "/dev/pts")


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Holds the rights that are refused unless a rule allows them: of files, of ports, and reach beyond the domain."""

    files: int
    network: int
    scopes: int


def version() -> int:
    """Return the version of Landlock in this kernel; raises OSError where it has none, or it is switched off."""
    return kernel.syscall("landlock_create_ruleset", None, 0, _ASK_VERSION)


def ruleset(walls: Collection[Wall]) -> Ruleset:
    """Return the rights that these walls refuse."""
    files = sum(right for wall, right in _FILE_RIGHT.items() if wall in walls)
    network = _BIND_TCP | _CONNECT_TCP if Wall.LANDLOCK_TCP in walls else 0
    scopes = _SCOPE_ABSTRACT | _SCOPE_SIGNALS if Wall.LANDLOCK_SCOPE in walls else 0
    return Ruleset(files, network, scopes)


def rules(plan: CellPlan, refused: int, *, own_tree: bool) -> Iterator[tuple[str, int]]:
    """Yield each path of a plan, and the rights that are given back below it.

    `own_tree` tells if the plan's tree is built: without, its empty directories are the host's.
    """
    tree, everything = plan.tree, refused & ~_NEVER
    if tree.base == "host":
        yield "/", everything
        return
    if own_tree:
        # Nothing is in the tree but by the plan, so its directories may be listed.
        yield "/", _READ_DIR & refused
        yield from ((path, everything) for path in (*tree.write, *tree.empty, "/dev/shm"))  # noqa: S108 (the cell's)
        yield from ((path, _READ & refused) for path in (*tree.read, "/dev"))
        yield from ((path, everything) for path in _TERMINALS)
    else:
        # The host's /tmp, /dev/shm and terminals are others' too, and so are not given.
        yield from ((path, everything) for path in tree.write)
        yield from ((path, _READ & refused) for root in tree.read for path in around(root, tree.hide))
    yield "/proc", _READ & refused
    device = (_READ_FILE | _WRITE_FILE | _READ_DIR | _TRUNCATE | _IOCTL) & refused
    yield from ((path, device) for path in (*_DEVICES, *tree.devices))
    if plan.gpu:
        yield "/proc", (_READ_FILE | _WRITE_FILE | _READ_DIR | _TRUNCATE) & refused


def around(root: str, hidden: Collection[str]) -> Iterator[str]:
    """Yield the paths that make up a root without these below it: the paths that exist now, since rules only allow."""
    below = [path for path in hidden if path == root or path.startswith(f"{root.rstrip('/')}/")]
    if not below:
        yield root
    elif root not in below:
        for name in os.listdir(root):
            yield from around(f"{root.rstrip('/')}/{name}", below)


def confine(plan: CellPlan, attempt: Callable[[Wall, Callable[[], None]], bool], *, own_tree: bool) -> None:
    """Put up the walls of Landlock that the plan wants and the kernel has. Raises OSError."""
    walls = {wall for wall in ABI if wall in plan.walls and attempt(wall, partial(_need, wall))}
    if Wall.LANDLOCK in walls:
        wanted = ruleset(walls)
        paths = rules(plan, wanted.files, own_tree=own_tree)
        attempt(Wall.LANDLOCK, lambda: restrict(wanted, paths, plan.ports))


def _need(wall: Wall) -> None:
    found = version()
    if found < ABI[wall]:
        raise OSError(95, f"this kernel has Landlock's ABI {found}, and {wall} needs {ABI[wall]}")


def restrict(wanted: Ruleset, paths: Iterable[tuple[str, int]], ports: Iterable[int] = ()) -> None:
    """Refuse these rights to this process for ever, but for each path's rights and these ports. Raises OSError."""
    attributes = (ctypes.c_uint64 * 3)(wanted.files, wanted.network, wanted.scopes)
    # A kernel takes a longer structure than its own only if the rest is zero.
    descriptor = kernel.syscall("landlock_create_ruleset", attributes, ctypes.sizeof(attributes), 0)
    for path, rights in paths:
        _allow_path(descriptor, path, rights & wanted.files)
    if wanted.network:
        _allow_ports(descriptor, ports)
    kernel.no_new_privileges()
    kernel.syscall("landlock_restrict_self", descriptor, 0)
    os.close(descriptor)


def _allow_path(descriptor: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is not there, and what is made later is allowed by its parent or not at all
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        if rights:
            rule = (ctypes.c_uint32 * 3)(rights, 0, place)
            kernel.syscall("landlock_add_rule", descriptor, _RULE_PATH, rule, 0)
    finally:
        os.close(place)


def _allow_ports(descriptor: int, ports: Iterable[int]) -> None:
    for port in ports:
        rule = (ctypes.c_uint64 * 2)(_CONNECT_TCP, port)
        kernel.syscall("landlock_add_rule", descriptor, _RULE_PORT, rule, 0)
