"""Say whose process is at the other end of a connection, by what the kernel says and nothing that the process says.

The kernel noted the process when it connected (SO_PEERCRED). Its number may have been given to another since, so it is
held by a descriptor (pidfd) that means this very process, and has to live still when all else has been read:

| the process | by | is |
|---|---|---|
| lives, in a subsystem's control group or descended from its first process | /proc, once | that subsystem |
| has ended | its pidfd can be read | refused |
| has ended, and another has its number | the pidfd is the former one's (SO_PEERPIDFD, Linux 6.5) | refused |
| the same, on an older kernel | the other began after the connection was accepted | refused |
| is another user's than the subsystem's | the uid that the kernel noted | refused |
| is in no subsystem, or in one that is held | | refused |

A mark in its environment counts for nothing here, though the supervisor finds lost processes by it: anyone can write
one. Without a control group it is descent that counts, so a process whose parents have all ended is refused.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from epad.supervisor.cgroup import Cgroup, cgroup_of
from epad.supervisor.footprints import Workload
from epad.supervisor.identity import ProcessTable

SO_PEERPIDFD: Final = 77
"""Not in Python's `socket` before 3.15; the same number on every machine but PA-RISC and SPARC."""
_CREDENTIALS: Final = struct.Struct("3i")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MOST_ANCESTORS: Final = 64

PeerPidfd = Callable[[socket.socket], int]


@dataclass(frozen=True, slots=True)
class Attested:
    """Names the subsystem of a process; an empty `name` with the reason, for its program to read."""

    name: str = ""
    why: str = ""
    pid: int = 0
    uid: int = -1


def peer_pidfd(connection: socket.socket) -> int:
    """Return a pidfd of the process that made a connection. Raises OSError where the kernel has no such thing."""
    return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, 4), "little")


class Attestor:
    """Knows the processes of subsystems. `uid_of` returns the uid that a subsystem's processes have; None: any.

    `refusal` returns why a subsystem gets no identity now; empty if it may.
    """

    def __init__(
        self,
        table: ProcessTable,
        workloads: Callable[[], Iterable[Workload]],
        uid_of: Callable[[str], int | None],
        refusal: Callable[[str], str],
        pidfd: PeerPidfd = peer_pidfd,
        proc: Path = Path("/proc"),
    ) -> None:
        self._table = table
        self._workloads = workloads
        self._uid_of = uid_of
        self._refusal = refusal
        self._pidfd = pidfd
        self._proc = proc

    def attest(self, connection: socket.socket, accepted_at: float) -> Attested:
        """Say whose a connection is. `accepted_at` is in seconds since boot, as CLOCK_BOOTTIME counts."""
        pid, uid, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if pid <= 0:
            return Attested(why="its process cannot be seen from here", uid=uid)
        try:
            descriptor = self._opened(connection, pid)
        except OSError:
            return Attested(why=f"process {pid} has ended", pid=pid, uid=uid)
        try:
            name, why = self._judged(pid, uid, descriptor, accepted_at)
        finally:
            os.close(descriptor)
        return Attested("" if why else name, why, pid, uid)

    def _opened(self, connection: socket.socket, pid: int) -> int:
        """Return a pidfd: of the one that connected, or on an older kernel of the one that has its number now."""
        with contextlib.suppress(OSError):
            return self._pidfd(connection)
        return os.pidfd_open(pid)

    def _judged(self, pid: int, uid: int, descriptor: int, accepted_at: float) -> tuple[str, str]:
        """Return the subsystem of a process, and why it gets nothing; empty if it does."""
        before = self._table.stat(pid)
        if before is None or _has_ended(descriptor):
            return "", f"process {pid} has ended"
        if before.start_ticks > accepted_at * _TICKS:
            return "", f"process {pid} began after its connection: its number was reused"
        name = self._owner(pid)
        after = self._table.stat(pid)
        if after is None or after.start_ticks != before.start_ticks or _has_ended(descriptor):
            return "", f"process {pid} has ended"
        if not name:
            return "", f"process {pid} belongs to no subsystem of epad"
        expected = self._uid_of(name)
        if expected is not None and uid != expected:
            return name, f"process {pid} is of uid {uid}, and {name} is of uid {expected}"
        return name, self._refusal(name)

    def _owner(self, pid: int) -> str:
        """Return the subsystem of a process; empty where it is in none."""
        workloads = list(self._workloads())
        group = cgroup_of(pid, self._proc)
        for workload in workloads:
            if workload.group is not None and group is not None and _is_in(group, workload.group):
                return workload.name
        roots = {one.root.pid: one for one in workloads if one.root is not None and one.group is None}
        return self._by_descent(pid, roots)

    def _by_descent(self, pid: int, roots: dict[int, Workload]) -> str:
        """Follow its parents, and the leaders of their sessions, which no process can choose."""
        for _ in range(_MOST_ANCESTORS):
            stat = self._table.stat(pid)
            if stat is None or pid <= 1:
                return ""
            for number in (stat.pid, stat.session):
                found = roots.get(number)
                if found is not None and found.root is not None and self._table.is_alive(found.root):
                    return found.name
            pid = stat.parent
        return ""


def _is_in(group: Cgroup, above: Cgroup) -> bool:
    return group.path == above.path or above.path in group.path.parents


def _has_ended(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
