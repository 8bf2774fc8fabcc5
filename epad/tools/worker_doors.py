"""Open the door of a worker at the way out, and close it when the worker has ended.

The door's listener lies in the cell's own network, so nobody but the worker and its calls can come in by it. Its rules
are those of `epad/confinement/tool_doors.py`, as of now: a reload changes them at once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from epad.confinement.doors import Doorkeeper
from epad.runtime.side_tasks import Tasks

_BACKLOG = 64


class WorkerDoors:
    """Opens and closes doors of workers."""

    def __init__(self, keeper: Doorkeeper, log: FilteringBoundLogger) -> None:
        self._keeper = keeper
        self._closing = Tasks(log)
        self._newest: dict[str, object] = {}

    async def open(
        self, door: str, listening: socket.socket, ended: Callable[[], None]
    ) -> Callable[[], None]:
        """Have the way out accept at a worker's listener; return `ended`, which closes the door too.

        A worker that has ended after the next one was started closes nothing: the door is the next one's.
        """
        listening.listen(_BACKLOG)
        await self._keeper.open(door, listening)
        mine = self._newest[door] = object()

        def over() -> None:
            ended()
            if self._newest.get(door) is mine:
                del self._newest[door]
                self._closing.start(self._close(door), f"closing of {door}")

        return over

    async def _close(self, door: str) -> None:
        """Close a door, unless the next worker has opened it meanwhile."""
        if door not in self._newest:
            await self._keeper.close(door)
