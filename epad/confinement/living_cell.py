"""Hold a cell that stands, with the sockets of its doors, and have the kernel refuse who connects to them."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from pathlib import Path

from epad.confinement.cell_record import CellRecord
from epad.confinement.doors import DoorKind


@dataclass(slots=True)
class LivingCell:
    """Holds a cell that stands. `accepted` are the doors that somebody accepts at."""

    record: CellRecord
    pid: int
    doors: dict[DoorKind, socket.socket] = field(default_factory=dict)
    accepted: set[DoorKind] = field(default_factory=set)
    trouble: str = ""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def listed(self) -> str:
        """Name its doors."""
        return " and ".join(f"door to the {kind}" for kind in self.doors)

    def refuse_all(self) -> None:
        """Have the kernel refuse who connects, and reset who waits to be accepted.

        Once, and no more: shut down again, a socket that does not listen breaks every connection that it accepts later.
        """
        for listening in self.doors.values():
            if listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listening.shutdown(socket.SHUT_RDWR)

    def close_doors(self) -> None:
        """Close its listeners."""
        for listening in self.doors.values():
            listening.close()


def has_own_network(pid: int) -> bool:
    """Tell if a process is in another network namespace than the daemon."""
    try:
        return not Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net")
    except OSError:
        return False
