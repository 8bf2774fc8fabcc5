"""Define what makes cells: the zygote, or units of systemd."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

from epad.confinement.answer import Cell
from runners.cell.plan import CellPlan, Door


class Spawner(Protocol):
    """Makes cells out of plans; `epad/confinement/zygote.py` is one, `epad/supervisor/unit_spawner.py` another."""

    async def spawn(self, plan: CellPlan, stdin: int, stdout: int, stderr: int) -> Cell:
        """Make a cell and start its program. Raises ConfinementError."""
        ...

    async def reopen(self, pid: int, doors: Sequence[Door]) -> Sequence[socket.socket]:
        """Listen at these addresses inside the living cell of a process. Raises ConfinementError."""
        ...

    async def close(self) -> None: ...

    @property
    def pid(self) -> int | None:
        """Return the process that makes cells; None if there is none."""
        ...
