"""Derive the plan of a cell from a policy, the program to run in it, and this machine's abilities. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from epad.confinement.errors import ConfinementError
from epad.confinement.places import placeholder
from epad.confinement.policy import Access, Policy, access_at, is_below
from runners.cell.plan import CellPlan, Door, Syscalls, Tree, Wall

MOST_PROCESSES: Final = 4_096
"""Processes and threads of a cell with its own user namespace; without, the kernel would count all of the user's."""

_NO_CORE: Final = 1
"""A limit of 1 keeps the kernel from starting the core handler of the host; 0 would not (core(5))."""

_MADE_BY_THE_CELL: Final = ("/dev", "/dev/shm", "/proc")  # noqa: S108 (named, not used)
_GPU_DEVICES: Final = (
    *(f"/dev/nvidia{number}" for number in range(16)),
    *("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"),
    *("/dev/nvidia-caps", "/dev/kfd", "/dev/dri"),
)

COVERED_BY: Final[Mapping[Wall, frozenset[Wall]]] = {
    Wall.LANDLOCK_REFER: frozenset({Wall.FILES}),
    Wall.LANDLOCK_TRUNCATE: frozenset({Wall.FILES}),
    Wall.LANDLOCK_TCP: frozenset({Wall.NETWORK}),
    Wall.LANDLOCK_IOCTL: frozenset({Wall.FILES, Wall.SYSCALLS}),
    Wall.LANDLOCK_SCOPE: frozenset({Wall.NETWORK, Wall.PROCESSES}),
    Wall.CGROUPS: frozenset({Wall.FILES}),
    Wall.HOSTNAME: frozenset({Wall.SYSCALLS}),
}
"""Walls that are not missed where these others stand: by its ABI 2 of Landlock, Debian 12 loses nothing."""


class MissingWallsError(ConfinementError):
    """A cell cannot be had as it is required."""

    def __init__(self, subsystem: str, missing: Mapping[Wall, str]) -> None:
        super().__init__(
            f"walls that cannot be had: {in_words(missing)}",
            'run `epactl doctor` for the way to have them, or set require = "best" in its table `confine`',
            where=f"subsystems.{subsystem}",
            permanent=True,
        )
        self.missing = dict(missing)


def in_words(missing: Mapping[Wall, str]) -> str:
    """Name missing walls, those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for wall, reason in missing.items():
        by_reason.setdefault(reason, []).append(wall)
    return "; ".join(f"{', '.join(walls)} ({reason})" for reason, walls in by_reason.items())


@dataclass(frozen=True, slots=True)
class Abilities:
    """Tells which walls this machine cannot put up, each with the reason, as a trial has shown."""

    missing: Mapping[Wall, str] = field(default_factory=dict)
    user_namespace: bool = True
    """Whether the namespaces are made within a user namespace, as who is not root must."""

    def have(self, wall: Wall) -> bool:
        return wall not in self.missing

    def lacking(self) -> dict[Wall, str]:
        """Return the missing walls that no other covers."""
        return {wall: reason for wall, reason in self.missing.items() if not self._is_covered(wall)}

    def _is_covered(self, wall: Wall) -> bool:
        covering = COVERED_BY.get(wall, frozenset())
        return bool(covering) and all(map(self.have, covering))


@dataclass(frozen=True, slots=True)
class Program:
    """Describes the program of a cell, as its supervisor starts it."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    marks: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    """The `cgroup.procs` file to join; empty: none."""
    limits: tuple[tuple[str, int], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    """Files in the cell's own directories, by their paths."""
    shown: tuple[str, ...] = ()
    """Directories of epad's that are read inside whatever the policy says: that of its notify socket."""
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    """Whom it runs as, where the daemon is root."""


def plan_of(
    policy: Policy,
    program: Program,
    abilities: Abilities,
    doors: tuple[Door, ...] = (),
    ports: tuple[int, ...] = (),
    watched: tuple[int, ...] | None = None,
) -> CellPlan:
    """Return the plan of a policy's cell. Raises MissingWallsError if it requires walls that are missing.

    `doors` are listened on inside. `ports` are those of the host that may be reached instead where the machine has no
    network of its own for a cell, and Landlock holds the rest. `watched` are ports of model servers, attempts to
    connect to which are seen where it has one.
    """
    lacking = abilities.lacking()
    if policy.require_all and lacking:
        raise MissingWallsError(policy.subsystem, lacking)
    has_network = abilities.have(Wall.NETWORK)
    own_user = abilities.user_namespace and has_network
    return CellPlan(
        name=policy.subsystem,
        command=program.command,
        directory=policy.directory,
        environment=program.environment,
        walls=tuple(_walls(abilities)),
        required="all" if policy.require_all else "best",
        tree=replace(tree_of(policy, program.shown), texts=program.texts),
        syscalls=Syscalls(
            # Landlock does not see them. A server that may do without walls listens by one.
            unix_sockets=has_network or (policy.profile == "gateway-only" and not policy.require_all),
            datagrams=has_network,
            memory_files="any" if policy.gpu else "sealed",
        ),
        doors=doors,
        watched=watched if has_network else None,
        ports=ports,
        gpu=policy.gpu,
        limits=(("CORE", _NO_CORE), *((("NPROC", MOST_PROCESSES),) if own_user else ()), *program.limits),
        user_namespace=abilities.user_namespace,
        uid=program.uid,
        gid=program.gid,
        groups=program.groups,
        marks=program.marks,
        group=program.group,
    )


def _walls(abilities: Abilities) -> Iterator[Wall]:
    """Yield the walls to put up: without those that others cover here."""
    missed = abilities.lacking()
    for wall in Wall:
        if wall is Wall.LANDLOCK_TCP and abilities.have(Wall.NETWORK):
            continue  # in a network of its own a cell may listen where it likes
        if abilities.have(wall) or wall in missed:
            yield wall


def tree_of(policy: Policy, shown: tuple[str, ...] = ()) -> Tree:
    """Return a policy's files as a tree: which roots are read, written, protected, hidden, or the cell's own.

    Directories that are `shown` are read too. A socket is shown by its directory: another daemon binds another one.
    """
    is_host = access_at(policy, "/") is Access.WRITE
    written = _outermost(policy, Access.WRITE)
    return Tree(
        base="host" if is_host else "empty",
        read=(*(path for path in policy.paths(Access.READ) if not _is_inside(path, written)), *shown),
        write=tuple(path for path in policy.paths(Access.WRITE) if path != "/"),
        protect=tuple(placeholder(path) for path in policy.paths(Access.READ) if _is_inside(path, written)),
        hide=tuple(path for path in policy.paths(Access.NONE) if _is_seen(policy, path)),
        empty=tuple(path for path in policy.paths(Access.OWN) if path not in _MADE_BY_THE_CELL),
        devices=_GPU_DEVICES if policy.gpu else (),
    )


def _outermost(policy: Policy, access: Access) -> tuple[str, ...]:
    return tuple(path for path in policy.paths(access) if path != "/")


def _is_inside(path: str, roots: tuple[str, ...]) -> bool:
    return any(path != root and is_below(path, root) for root in roots)


def _is_seen(policy: Policy, path: str) -> bool:
    """Tell if a path would be seen but for its own rule: by that of a directory above it."""
    above = [rule for rule in policy.files if rule.path != path and is_below(path, rule.path)]
    return bool(above) and max(above, key=lambda rule: len(rule.path)).access is not Access.NONE
