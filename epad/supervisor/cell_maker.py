"""Define the seam between an engine and the cells of confined subsystems; `epad/confinement/cells.py` implements it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from epad.confinement.spawner import Spawner
from runners.cell.plan import CellPlan


class CellMaker(Protocol):
    """Makes cells, finds them again, and keeps the doors that lead out of them."""

    async def plan(
        self, subsystem: str, command: tuple[str, ...], environment: Mapping[str, str], directory: Path
    ) -> CellPlan | None:
        """Plan the walls around one start of a subsystem; None if it has none. Raises ConfinementError."""
        ...

    async def start(self, plan: CellPlan, output: int) -> int:
        """Make a cell, print into `output`, and return the pid of its first process. Raises ConfinementError."""
        ...

    async def adopt(self, subsystem: str, pid: int) -> None:
        """Know the cell that an earlier daemon has made around this process, if it has, and make its doors anew."""
        ...

    async def ended(self, subsystem: str) -> None:
        """Close the doors of a cell that is no more, and forget it."""
        ...

    def use(self, spawner: Spawner) -> None:
        """Have cells made by this from now on."""
        ...

    def has(self, subsystem: str) -> bool:
        """Tell if a subsystem's process is in a cell."""
        ...

    def has_own_network(self, subsystem: str) -> bool:
        """Tell if nothing but its doors leads out of a subsystem's cell."""
        ...


class NoCells:
    """For a supervisor that confines nothing."""

    async def plan(
        self, subsystem: str, command: tuple[str, ...], environment: Mapping[str, str], directory: Path
    ) -> CellPlan | None:
        del subsystem, command, environment, directory
        return None

    async def start(self, plan: CellPlan, output: int) -> int:
        raise NotImplementedError(f"{plan.name}: there are no cells here, so nothing was planned")

    async def adopt(self, subsystem: str, pid: int) -> None:
        """Find no cell."""

    async def ended(self, subsystem: str) -> None:
        """Have nothing to close."""

    def use(self, spawner: Spawner) -> None:
        """Make none by it."""

    def has(self, subsystem: str) -> bool:
        del subsystem
        return False

    def has_own_network(self, subsystem: str) -> bool:
        del subsystem
        return False
