"""Read the packet sockets of cells, which see attempts to connect past the doors; never more than there is time for.

A program inside can try as often as it likes. The socket's buffer is small, and of each cell so many packets are read
at once; then that cell waits. The kernel drops the rest and counts it, and that number is on record.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from epad.confinement.attempts import read_packet
from epad.confinement.direct_record import DirectRecord

READ_AT_ONCE: Final = 32
PAUSE_SECONDS: Final = 0.25
_PACKET_BYTES: Final = 512
_SOL_PACKET: Final = 263
_STATISTICS: Final = 6


@dataclass(slots=True)
class _Watched:
    """Holds one cell's socket, and the call that goes on reading it after a pause."""

    seeing: socket.socket
    later: asyncio.TimerHandle | None = None


class DirectWatch:
    """Implements `epad.confinement.cells.Watcher`."""

    def __init__(self, record: DirectRecord) -> None:
        self._record = record
        self._watched: dict[str, _Watched] = {}

    def ports(self) -> tuple[int, ...]:
        """Return the ports of model servers, for the filter of the next socket."""
        return self._record.ports()

    def open(self, subsystem: str, seeing: socket.socket) -> None:
        """Read a cell's socket, which belongs to this from now on, in place of one that it had."""
        self.close(subsystem)
        seeing.setblocking(False)
        self._watched[subsystem] = _Watched(seeing)
        self._go_on(subsystem)

    def close(self, subsystem: str) -> None:
        """Read what is left of a cell's attempts, and close its socket."""
        watched = self._watched.pop(subsystem, None)
        if watched is None:
            return
        self._take(subsystem, watched.seeing)
        if watched.later is not None:
            watched.later.cancel()
        loop = asyncio.get_running_loop()
        loop.remove_reader(watched.seeing)
        # In a thread: the kernel waits until no processor looks at a packet socket any more, 7 to 24 ms.
        loop.run_in_executor(None, watched.seeing.close)

    def _go_on(self, subsystem: str) -> None:
        watched = self._watched[subsystem]
        watched.later = None
        asyncio.get_running_loop().add_reader(watched.seeing, self._read, subsystem)

    def _read(self, subsystem: str) -> None:
        watched = self._watched[subsystem]
        if self._take(subsystem, watched.seeing) < READ_AT_ONCE:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(watched.seeing)
        watched.later = loop.call_later(PAUSE_SECONDS, self._go_on, subsystem)

    def _take(self, subsystem: str, seeing: socket.socket) -> int:
        """Take as many packets as are read at once, and return how many these were."""
        count = 0
        with suppress(OSError):  # no more, or no network any more
            while count < READ_AT_ONCE:
                packet = seeing.recv(_PACKET_BYTES)
                count += 1
                if (attempt := read_packet(packet)) is not None:
                    self._record.take(subsystem, attempt)
        if dropped := _dropped(seeing):
            self._record.unread(subsystem, dropped)
        return count


def _dropped(seeing: socket.socket) -> int:
    """Return how many packets the kernel has dropped since this was last asked."""
    try:
        _, dropped = struct.unpack("II", seeing.getsockopt(_SOL_PACKET, _STATISTICS, 8))
    except OSError:
        return 0
    return int(dropped)
