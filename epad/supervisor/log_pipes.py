"""The named pipes that children print into: there before a child is, and found again when their names are lost."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from epad.configuration.directories import Directories
from epad.supervisor.footprints import Workload
from epad.supervisor.program import make_pipe

# So many looks after a pipe was made anew a child of before may still be adopted that prints into the old one.
LOOKS_FOR_LOST = 60
_OUTPUTS = (1, 2)


@dataclass(slots=True)
class _Held:
    """A pipe that is open here, and which one it is."""

    descriptor: int
    device: int
    inode: int
    looks: int = LOOKS_FOR_LOST


class LogPipes:
    """Holds one pipe a subsystem. Each is kept open, so that the last output before an end waits there for a pump."""

    def __init__(self, directories: Directories, log: FilteringBoundLogger) -> None:
        self._directories = directories
        self._log = log
        self._held: dict[str, _Held] = {}
        self._pipeless: frozenset[str] = frozenset()
        self._lost: dict[str, list[str]] = {}

    def have(self, names: Collection[str]) -> bool:
        """Make the pipes of these that are missing, and let go of all others; True if any is new."""
        before = {name: held.inode for name, held in self._held.items()}
        pipeless = frozenset(name for name in names if not self._hold(name))
        for name in self._held.keys() - set(names):
            os.close(self._held.pop(name).descriptor)
        for name in sorted(pipeless - self._pipeless):
            self._log.warning(
                "child_log.no_pipe",
                subsystem=name,
                pipe=str(self._directories.log_pipe(name)),
                effect="it writes its log itself, which is cut every two seconds only",
            )
        self._pipeless = pipeless
        return before != {name: held.inode for name, held in self._held.items()}

    def has(self, name: str) -> bool:
        """Say whether the pipe of this name is there, and the one that is read."""
        held = self._held.get(name)
        with suppress(OSError):
            there = os.lstat(self._directories.log_pipe(name))
            return held is not None and (there.st_dev, there.st_ino) == (held.device, held.inode)
        return False

    def of(self, name: str) -> list[str]:
        """Name the pipes of a subsystem: its own, and those that its processes have still open without a name."""
        return [str(self._directories.log_pipe(name)), *self._lost.get(name, ())]

    def look_for_lost(self, workloads: Iterable[Workload]) -> bool:
        """Find the pipes that children print into and that were deleted; True if others than before.

        A new pump would not find them by name. A child is asked only for a while after its pipe was made anew, and as
        long as it has such a one: its number may be another process's later.
        """
        before, self._lost = self._lost, {}
        for workload in workloads:
            held = self._held.get(workload.name)
            if held is None or workload.root is None or not (held.looks or workload.name in before):
                continue
            held.looks = max(0, held.looks - 1)
            if found := self._without_a_name(workload.name, workload.root.pid):
                self._lost[workload.name] = found
        return before != self._lost

    def close(self) -> None:
        """Let go of them all."""
        self.have(())

    def _hold(self, name: str) -> bool:
        if self.has(name):
            return True
        path, held = self._directories.log_pipe(name), self._held.get(name)
        with suppress(OSError):
            if not make_pipe(path):
                return False
            # To read alone: while only we have it open, the pump finds its end.
            pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            status = os.fstat(pipe)
            if not stat.S_ISFIFO(status.st_mode):  # it was replaced just now
                os.close(pipe)
                return False
            self._held[name] = _Held(pipe, status.st_dev, status.st_ino)
            if held is not None:
                os.close(held.descriptor)
            return True
        return False

    def _without_a_name(self, name: str, pid: int) -> list[str]:
        # By its end: what is before it is as another mount namespace has it.
        deleted = f"{self._directories.logs.name}/{name}.pipe (deleted)"
        found = []
        for number in _OUTPUTS:
            path = f"/proc/{pid}/fd/{number}"
            with suppress(OSError):
                if os.readlink(path).endswith(deleted):  # noqa: PTH115 (a string, of every child)
                    found.append(path)
        return found
