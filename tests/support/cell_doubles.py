"""Doubles around `Cells`: what makes cells without namespaces, what plans without walls, and what accepts at doors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
from way_out_world import KeptEvents

from epad.confinement.answer import Cell, Reopened
from epad.confinement.authorities import Authorities
from epad.confinement.cell_parts import CellOrder, CellsContext
from epad.confinement.cell_record import CellRecords
from epad.confinement.cells import Cells
from epad.confinement.decoys import Decoys
from epad.confinement.doors import Doorkeeper, DoorKind
from epad.confinement.errors import ConfinementError
from epad.confinement.in_force import PoliciesInForce
from epad.confinement.policy import Ability, Access, FileRule, Policy
from epad.confinement.spawner import Spawner
from runners.cell.plan import CellPlan, Door, Wall
from statemachine.clock import ManualClock


def listening_socket() -> socket.socket:
    """A socket on a port that it has asked for by number, as a door has: so it keeps it when it is shut."""
    with socket.create_server(("127.0.0.1", 0)) as any_port:
        port = any_port.getsockname()[1]
    return socket.create_server(("127.0.0.1", port))


@dataclass
class Keeper:
    """Accepts at doors by holding a copy of each; `gate` keeps a call from ending."""

    doors: dict[str, socket.socket] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def open(self, subsystem: str, listening: socket.socket) -> None:
        if self.gate is not None:
            await self.gate.wait()
        assert subsystem not in self.doors
        self.doors[subsystem] = listening

    async def close(self, subsystem: str) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.closed.append(subsystem)
        if (door := self.doors.pop(subsystem, None)) is not None:
            door.close()


@dataclass
class PlainSpawner:
    """Makes "cells" that are processes without walls, and doors on this machine's own loopback.

    A program that `refuses` names is not started; `missing` are the walls that are said to be.
    """

    missing: dict[str, str] = field(default_factory=dict)
    refuses: str = ""
    made: list[CellPlan] = field(default_factory=list)
    reopened: list[tuple[int, tuple[Door, ...]]] = field(default_factory=list)
    unwatched: str = ""
    watches: list[tuple[int, ...] | None] = field(default_factory=list)
    doors: list[socket.socket] = field(default_factory=list)
    addresses: list[tuple[str, int]] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    pid: int | None = None

    async def spawn(self, plan: CellPlan, stdin: int, stdout: int, stderr: int) -> Cell:
        if self.refuses:
            raise ConfinementError(self.refuses, permanent=True)
        self.made.append(plan)
        process = subprocess.Popen(
            plan.command,
            env=dict(plan.environment),
            cwd=plan.directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        process.returncode = 0
        self.pids.append(process.pid)
        doors, watch = tuple(self._listen(plan.doors)), self._watch(plan.watched)
        return Cell(process.pid, doors, self.missing, (), watch, self.unwatched)

    async def reopen(self, pid: int, doors: Sequence[Door], watched: Sequence[int] | None) -> Reopened:
        if self.refuses:
            raise ConfinementError(self.refuses)
        self.reopened.append((pid, tuple(doors)))
        return Reopened(tuple(self._listen(doors)), self._watch(watched), self.unwatched)

    async def close(self) -> None:
        """Nothing runs beside the cells."""

    def _watch(self, ports: Sequence[int] | None) -> socket.socket | None:
        self.watches.append(None if ports is None else tuple(ports))
        return None if ports is None or self.unwatched else socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def _listen(self, doors: Sequence[Door]) -> list[socket.socket]:
        new = [listening_socket() for _ in doors]
        self.doors += new
        self.addresses += [door.getsockname() for door in new]
        return new


@dataclass
class PlannerDouble:
    """Plans every wall; without a `network` no cell has doors."""

    network: bool = True
    refuses: str = ""
    orders: list[CellOrder] = field(default_factory=list)
    spawner: Spawner | None = None

    def use(self, spawner: Spawner) -> None:
        self.spawner = spawner

    async def has_network(self, subsystem: str) -> bool:
        del subsystem
        return self.network

    async def plan(self, order: CellOrder) -> CellPlan:
        self.orders.append(order)
        if self.refuses:
            raise ConfinementError(self.refuses, permanent=True)
        walls = (Wall.NETWORK, Wall.FILES) if self.network else (Wall.FILES,)
        return CellPlan(
            order.policy.subsystem,
            order.command,
            str(order.directory),
            order.environment,
            walls,
            doors=order.doors,
            watched=order.watched if self.network else None,
        )


@dataclass
class WatcherDouble:
    """Keeps the sockets of cells, and reads none."""

    watched: tuple[int, ...] = (11_434,)
    sockets: dict[str, socket.socket] = field(default_factory=dict)

    def ports(self) -> tuple[int, ...]:
        return self.watched

    def open(self, subsystem: str, seeing: socket.socket) -> None:
        self.close(subsystem)
        self.sockets[subsystem] = seeing

    def close(self, subsystem: str) -> None:
        if (seeing := self.sockets.pop(subsystem, None)) is not None:
            seeing.close()

    def close_all(self) -> None:
        for subsystem in list(self.sockets):
            self.close(subsystem)


def policy(name: str, profile: str = "workspace", workspace: str = "/") -> Policy:
    """A policy of a profile, without files."""
    abilities = (
        frozenset({Ability.MODEL}) if profile in {"workspace", "gateway-only"} else frozenset[Ability]()
    )
    return Policy(name, profile, workspace, workspace, (), abilities=abilities)  # type: ignore[arg-type]  # a test's own words


@dataclass
class CellWorld:
    """Cells with doubles around them; `profiles` are those of subsystems, "workspace" for the others."""

    directory: Path
    profiles: dict[str, str] = field(default_factory=dict)
    workspace: str = "/"
    planner: PlannerDouble = field(default_factory=PlannerDouble)
    spawner: PlainSpawner = field(default_factory=PlainSpawner)
    gateway: Keeper = field(default_factory=Keeper)
    way_out: Keeper = field(default_factory=Keeper)
    watcher: WatcherDouble = field(default_factory=WatcherDouble)
    decoys: Decoys | None = None
    authorities: Authorities | None = None
    intercept: frozenset[str] = frozenset()
    events: KeptEvents = field(default_factory=KeptEvents)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.cells = self.another()

    @property
    def keepers(self) -> Mapping[DoorKind, Doorkeeper]:
        return {DoorKind.GATEWAY: self.gateway, DoorKind.WAY_OUT: self.way_out}

    def another(self) -> Cells:
        """What the next daemon knows; who accepted for the one before is gone."""
        for door in [*self.gateway.doors.values(), *self.way_out.doors.values()]:
            door.close()
        self.gateway, self.way_out = Keeper(), Keeper()
        return Cells(
            CellsContext(
                policies=PoliciesInForce(self.policy, self.directory / "cells"),
                planner=self.planner,
                spawner=self.spawner,
                records=CellRecords(self.directory / "cells"),
                keepers=self.keepers,
                watcher=self.watcher,
                events=self.events,
                clock=self.clock,
                log=structlog.get_logger(),
                decoys=self.decoys,
                authorities=self.authorities,
            )
        )

    def policy(self, name: str) -> Policy:
        """The policy of a subsystem as it is configured now."""
        plain = policy(name, self.profiles.get(name, "workspace"), self.workspace)
        plain = replace(plain, intercept=self.intercept)
        if self.decoys is None:
            return plain
        return replace(plain, decoys=True, files=(FileRule("/home/me", Access.OWN),))

    async def start(self, name: str = "agent", command: tuple[str, ...] = ("sleep", "600")) -> int:
        plan = await self.cells.plan(name, command, {"PATH": os.environ["PATH"]}, self.directory)
        assert plan is not None
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (nothing waits for it)
            return await self.cells.start(plan, nowhere.fileno())

    def refused(self, number: int = 0) -> bool:
        """Whether a door refuses who connects, counted as they were made."""
        try:
            socket.create_connection(self.spawner.addresses[number], 5).close()
        except ConnectionRefusedError:
            return True
        return False

    def passes(self, number: int = 0) -> bool:
        """Whether what connects to a door is accepted there, and its words come through, both ways."""
        with socket.create_connection(self.spawner.addresses[number], 5) as inside:
            outside, _ = self.spawner.doors[number].accept()
            with outside:
                inside.sendall(b"in")
                outside.sendall(b"out")
                return (outside.recv(9), inside.recv(9)) == (b"in", b"out")

    def end(self) -> None:
        """End the processes and the sockets, whatever the test did."""
        for pid in self.spawner.pids:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, 9)
                os.waitpid(pid, 0)
        for door in [
            *self.watcher.sockets.values(),
            *self.spawner.doors,
            *self.gateway.doors.values(),
            *self.way_out.doors.values(),
        ]:
            door.close()


def an_address_of_this_machine() -> str:
    """One that is no loopback, if there is one: the one that packets to the world would leave by."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent, contextlib.suppress(OSError):
        unsent.connect(("192.0.2.1", 9))
        return str(unsent.getsockname()[0])
    return "127.0.0.2"
