"""Define the makers of cells: the zygote, or units of systemd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from epad.confinement.answer import Cell, Reopened
from runners.cell.plan import CellPlan, Door


class Spawner(Protocol):
    """Makes cells out of plans; `epad/confinement/zygote.py` is one, `epad/supervisor/unit_spawner.py` another."""

    async def spawn(self, plan: CellPlan, stdin: int, stdout: int, stderr: int) -> Cell:
        """Make a cell and start its program. Raises ConfinementError."""
        ...

    async def reopen(self, pid: int, doors: Sequence[Door], watched: Sequence[int] | None) -> Reopened:
        """Listen at these addresses inside the living cell of a process, and watch. Raises ConfinementError."""
        ...

    async def close(self) -> None: ...

    @property
    def pid(self) -> int | None:
        """Return the process that makes cells; None if there is none."""
        ...
