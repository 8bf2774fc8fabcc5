"""Control groups, version 2: everything a workload has forked, whatever it has done since, in one directory."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from epad.supervisor.errors import SupervisorError

# systemd's word, since v251, that the subtree below is somebody else's to manage; the first is readable by all.
_DELEGATION_MARKS = ("user.delegate", "trusted.delegate")
_PASSED_ON = ("memory", "pids")


class NoCgroupError(SupervisorError):
    """There is no control group here that is ours to divide."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Operates on one directory of the version 2 hierarchy. A directory that is gone reads as empty."""

    path: Path

    def leaf(self, name: str) -> Cgroup:
        return Cgroup(self.path / name)

    def create(self) -> None:
        """Make the group and its missing parents. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)

    def pids(self) -> frozenset[int]:
        """Return every process here and below, without the dead that wait to be reaped."""
        found: set[int] = set()
        for directory, _, _ in os.walk(self.path):
            with suppress(OSError):
                procs = Path(directory, "cgroup.procs").read_text()
                found.update(int(pid) for pid in procs.split())
        return frozenset(found)

    @property
    def is_there(self) -> bool:
        return self.path.is_dir()

    @property
    def is_populated(self) -> bool:
        return self._event("populated")

    @property
    def is_frozen(self) -> bool:
        """Tell if every process stands still; False while some of them have yet to."""
        return self._event("frozen")

    @property
    def is_to_freeze(self) -> bool:
        return self._read("cgroup.freeze").strip() == "1"

    @property
    def oom_kills(self) -> int:
        """Return how many of its processes the kernel has killed for memory; 0 if memory is not controlled here."""
        for line in self._read("memory.events").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdecimal():
                return int(count)
        return 0

    def memory_bytes(self, fields: Collection[str]) -> int | None:
        """Return the sum of these fields of memory.stat and the swap; None without a memory controller."""
        text = self._read("memory.stat")
        if not text:
            return None
        pairs = (line.partition(" ") for line in text.splitlines())
        swapped = self._read("memory.swap.current").strip()
        return sum(int(size) for name, _, size in pairs if name in fields) + (int(swapped) if swapped else 0)

    def cpu_seconds(self) -> float:
        """Return how long its processes, the ended ones too, have run."""
        name, _, microseconds = self._read("cpu.stat").partition("\n")[0].partition(" ")
        return int(microseconds) / 1e6 if name == "usage_usec" else 0.0

    def processes(self) -> int:
        """Return its number of tasks, threads included, since that is the cheapest count."""
        count = self._read("pids.current").strip()
        return int(count) if count else 0

    def memory_limit(self) -> int:
        """Return the maximum that the kernel holds it below, in bytes; 0 where there is none."""
        most = self._read("memory.max").strip()
        return int(most) if most.isdecimal() else 0

    def pass_on(self) -> None:
        """Let the groups directly below control memory and tasks of their own, where the kernel allows it.

        It does not where there is no such controller, or where processes are in here themselves, but for the root.
        """
        for controller in _PASSED_ON:
            with suppress(OSError):
                self._write("cgroup.subtree_control", f"+{controller}")

    def limit_memory(self, max_bytes: int, high_bytes: int) -> bool:
        """Have the kernel hold it below these, 0 for none; False where there is no memory controller."""
        try:
            self._write("memory.high", str(high_bytes or "max"))
            self._write("memory.max", str(max_bytes or "max"))
        except OSError:
            return False
        return True

    def freeze(self) -> None:
        """Ask that everything stand still, and whatever is forked from now on. Raises OSError."""
        self._write("cgroup.freeze", "1")

    def thaw(self) -> None:
        """Let everything run. Raises OSError."""
        self._write("cgroup.freeze", "0")

    def kill(self) -> None:
        """SIGKILL to everything at once, frozen or not: no fork escapes. Raises OSError before Linux 5.14."""
        self._write("cgroup.kill", "1")

    def remove(self) -> None:
        """Delete it and all below, if nothing lives there."""
        for directory, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()

    def _event(self, name: str) -> bool:
        return f"{name} 1" in self._read("cgroup.events").splitlines()

    def _read(self, name: str) -> str:
        try:
            with open(f"{self.path}/{name}", encoding="ascii") as file:  # noqa: PTH123 (every child's, every few seconds)
                return file.read()
        except OSError:
            return ""

    def _write(self, name: str, value: str) -> None:
        (self.path / name).write_text(value)


def mount_point(proc: Path = Path("/proc")) -> Path | None:
    """Find where the version 2 hierarchy is mounted: beside version 1 it is not at /sys/fs/cgroup."""
    for line in (proc / "self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            return Path(before.split(" ")[4])
    return None


def cgroup_of(pid: int | str, proc: Path = Path("/proc")) -> Cgroup | None:
    """Say where a process is; None if it is gone, or there is no version 2 hierarchy."""
    with suppress(OSError):
        root = mount_point(proc)
        for line in (proc / str(pid) / "cgroup").read_text().splitlines():
            if root is not None and line.startswith("0::"):
                return Cgroup(root / line.removeprefix("0::").lstrip("/"))
    return None


def delegated(managed: bool, proc: Path = Path("/proc")) -> Cgroup:
    """Return our own control group, if it is ours to divide. Raises NoCgroupError with the reason.

    If systemd manages the hierarchy, write access is not enough: it may move or empty an undelegated group at any time,
    and marks a delegated one by an attribute of the directory.
    """
    own = cgroup_of("self", proc)
    if own is None:
        raise NoCgroupError("no cgroup v2 is mounted")
    if not os.access(own.path, os.W_OK | os.X_OK) or not os.access(own.path / "cgroup.procs", os.W_OK):
        raise NoCgroupError(f"{own.path} is not writable")
    if managed and not _is_delegated(own.path):
        raise NoCgroupError(f"systemd has not delegated {own.path}: Delegate=yes in the unit does")
    return own


def _is_delegated(path: Path) -> bool:
    for name in _DELEGATION_MARKS:
        with suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False
