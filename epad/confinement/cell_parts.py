"""Define the order of a cell, and the parts that cells are made and kept by."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from epad.confinement.authorities import Authorities
from epad.confinement.cell_record import CellRecords
from epad.confinement.decoys import Decoys
from epad.confinement.doors import Doorkeeper, DoorKind
from epad.confinement.in_force import PoliciesInForce
from epad.confinement.policy import Policy
from epad.confinement.spawner import Spawner
from epad.storage.event_log import EventLog
from runners.cell.plan import CellPlan, Door
from statemachine.clock import Clock


@dataclass(frozen=True, slots=True)
class CellOrder:
    """Describes one start of a confined subsystem. `doors` are empty where the machine gives no network of its own.

    `watched` are ports of model servers. `shown` are directories of epad's that are read inside whatever the policy
    says: that of its notify socket. `texts` are files in the cell's own directories, by their paths.
    """

    policy: Policy
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    doors: tuple[Door, ...]
    watched: tuple[int, ...] | None = None
    shown: tuple[str, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()


class Planner(Protocol):
    """Knows which walls this machine has."""

    async def has_network(self, subsystem: str) -> bool:
        """Tell if a subsystem's cell here has a network of its own, and so doors. Raises ConfinementError."""
        ...

    async def plan(self, order: CellOrder) -> CellPlan:
        """Plan the walls. Raises ConfinementError for those that are required and cannot be had."""
        ...

    def use(self, spawner: Spawner) -> None:
        """Find out by this which walls there are."""
        ...


class Watcher(Protocol):
    """Reads the attempts of cells to connect past their doors; `epad/confinement/direct_watch.py` does."""

    def ports(self) -> tuple[int, ...]:
        """Return the ports of model servers, of which attempts are seen too."""
        ...

    def open(self, subsystem: str, seeing: socket.socket) -> None:
        """Read by this socket from now on, which belongs to who reads."""
        ...

    def close(self, subsystem: str) -> None:
        """Read no more of a cell, if it was read."""
        ...


@dataclass(frozen=True, slots=True)
class CellsContext:
    """Gives cells their parts. `policies` returns a subsystem's policy as of now.

    `identity` is the directory of the Workload API's socket; None where there is none.
    """

    policies: PoliciesInForce
    planner: Planner
    spawner: Spawner
    records: CellRecords
    keepers: Mapping[DoorKind, Doorkeeper]
    watcher: Watcher
    events: EventLog
    clock: Clock
    log: FilteringBoundLogger
    decoys: Decoys | None = None
    authorities: Authorities | None = None
    identity: Path | None = None
