"""Measure the memory and CPU of each subsystem's processes cheaply: 100 of them every ten seconds, in a thread.

A control group with a memory controller is asked itself: three small files. Any other tree is told in one pass over
/proc: a stat file per process of the machine (which has size, CPU and parent), and a status file per member that has
changed. Processes that share pages (forked workers, shared tensors) are counted once, by their proportional share; the
kernel walks page tables for that, so it is asked seldom enough to take no more than its share of a core.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from epad.supervisor.cgroup import Cgroup
from epad.supervisor.identity import ProcessIdentity
from epad.supervisor.stamp import read_stamp, stamp
from probes.memory import Footprint, HostMemory, MemoryReading

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
# A process whose resident pages differ by less than this since it was read in full is not read again.
_SAME_PAGES = (1 << 20) // _PAGE_BYTES
# Below this it is not worth telling apart what the processes of a tree share.
_EXACT_FROM_BYTES = 256 << 20
# Reading proportional shares may take this much of a core.
_EXACT_SHARE = 0.002
# Environment and page tables take a lock that a process in this state may hold for ever.
_UNINTERRUPTIBLE = "D"
_MARK = b"EPAD_SUBSYSTEM="
_KERNEL_FIELDS = frozenset(
    {"anon", "shmem", "kernel_stack", "pagetables", "sec_pagetables", "slab_unreclaimable"}
)


@dataclass(frozen=True, slots=True)
class Workload:
    """Describes one subsystem's processes, as its engine knows them: a root, a control group, or both."""

    name: str
    root: ProcessIdentity | None
    group: Cgroup | None = None


@dataclass(frozen=True, slots=True)
class _Process:
    """Holds the needed fields of one stat file."""

    pid: int
    parent: int
    session: int
    start_ticks: int
    cpu_ticks: int
    pages: int
    state: str
    is_alive: bool


@dataclass(slots=True)
class _Cpu:
    """A sum that never falls, over processes that come and go and groups that are made anew."""

    base: float = 0.0
    last: float = 0.0
    at: float | None = None

    def add(self, seconds: float, now: float) -> tuple[float, float | None]:
        """Take in a reading; return the sum, and the cores in use since the last reading."""
        before, gone = self.base + self.last, max(0.0, self.last - seconds)
        self.base, self.last = self.base + gone, seconds
        since, self.at = (None if self.at is None else now - self.at), now
        total = self.base + seconds
        return total, (total - before) / since if since else None


@dataclass(slots=True)
class _Share:
    """Holds the proportional share of a tree's summed memory, and when that may be read again."""

    ratio: float = 1.0
    due: float = float("-inf")
    processes: frozenset[int] = field(default_factory=frozenset)


class FootprintReader:
    """Reads them all; keeps the files open that make the next reading cheap."""

    def __init__(self, state: str, proc: str = "/proc", clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._state_mark = os.fsencode(f"EPAD_STATE={state}")
        self._proc = proc
        self._clock = clock
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._strays: dict[tuple[int, int], str] = {}
        self._cpu: dict[str, _Cpu] = {}
        self._shares: dict[str, _Share] = {}
        self._uncontrolled: set[Path] = set()

    def read(self, workloads: Sequence[Workload]) -> MemoryReading:
        """Look at all of them once. One that has ended meanwhile counts as nothing."""
        footprints: dict[str, Footprint] = {}
        walked: list[Workload] = []
        for workload in workloads:
            found = self._of_group(workload.name, workload.group) if workload.group else None
            if found is not None:
                footprints[workload.name] = found
            else:
                walked.append(workload)
        if walked:
            footprints |= self._of_processes(walked)
        names = {workload.name for workload in workloads}
        self._shares = {name: share for name, share in self._shares.items() if name in names}
        return MemoryReading(footprints, self.host())

    def host(self) -> HostMemory | None:
        """Return the machine's memory; None where /proc does not tell."""
        fields = _kilobytes(self._text("meminfo"), ("MemTotal", "MemAvailable"))
        if len(fields) < 2:
            return None
        return HostMemory(fields["MemTotal"], fields["MemAvailable"])

    # By control group.

    def _of_group(self, name: str, group: Cgroup) -> Footprint | None:
        """Ask a control group; None where it has no memory controller, as all beside it have none."""
        if group.path.parent in self._uncontrolled:
            return None
        memory = group.memory_bytes(_KERNEL_FIELDS)
        if memory is None:
            if group.is_there:
                self._uncontrolled.add(group.path.parent)
            return None
        total, cores = self._add_cpu(name, group.cpu_seconds())
        return Footprint(memory, total, group.processes(), cores, kernel_max_bytes=group.memory_limit())

    def _add_cpu(self, name: str, seconds: float) -> tuple[float, float | None]:
        return self._cpu.setdefault(name, _Cpu()).add(seconds, self._clock())

    # By walking /proc.

    def _of_processes(self, workloads: Sequence[Workload]) -> dict[str, Footprint]:
        table = {process.pid: process for process in self._table()}
        members = self._members(table, workloads)
        living = {(process.pid, process.start_ticks) for process in table.values()}
        self._sizes = {key: value for key, value in self._sizes.items() if key in living}
        self._strays = {key: value for key, value in self._strays.items() if key in living}
        found = {}
        for workload in workloads:
            of_it = members.get(workload.name, [])
            if not of_it:
                continue
            cpu = sum(process.cpu_ticks for process in of_it) / _TICKS
            memory = self._memory(workload.name, of_it)
            total, cores = self._add_cpu(workload.name, cpu)
            found[workload.name] = Footprint(memory, total, len(of_it), cores)
        return found

    def _members(
        self, table: Mapping[int, _Process], workloads: Sequence[Workload]
    ) -> dict[str, list[_Process]]:
        """Sort processes to subsystems: by descent, by session, by control group; strays by their mark."""
        owners: dict[int, str] = {}
        for workload in workloads:
            root = workload.root
            if root is not None and _is(table.get(root.pid), root):
                owners[root.pid] = workload.name
            elif workload.group is not None:
                owners |= dict.fromkeys(workload.group.pids() & table.keys(), workload.name)
        sessions = dict(owners)
        names = {workload.name for workload in workloads}
        members: dict[str, list[_Process]] = {}
        for process in table.values():
            owner = self._owner(process, table, owners, sessions, names)
            if owner and process.is_alive:
                members.setdefault(owner, []).append(process)
        return members

    def _owner(
        self,
        process: _Process,
        table: Mapping[int, _Process],
        owners: dict[int, str],
        sessions: Mapping[int, str],
        names: set[str],
    ) -> str:
        """Return the owner of a process; empty for a stranger's. Findings on the way up are remembered in `owners`."""
        way: list[int] = []
        owner = ""
        at: _Process | None = process
        while at is not None:
            if at.pid in owners:
                owner = owners[at.pid]
                break
            way.append(at.pid)
            if at.session in sessions:
                owner = sessions[at.session]
                break
            if at.parent in {0, 1, os.getpid()} or at.parent in way:
                owner = self._stray(at, names)
                break
            at = table.get(at.parent)
        owners |= dict.fromkeys(way, owner)
        return owner

    def _stray(self, process: _Process, names: set[str]) -> str:
        """Tell one that has left its parents by the mark in its environment or by its stamp, once in its life."""
        key = (process.pid, process.start_ticks)
        if process.state == _UNINTERRUPTIBLE and key not in self._strays:
            return ""
        if (known := self._strays.get(key)) is None:
            known = ""
            with suppress(OSError):
                with open(f"{self._proc}/{process.pid}/environ", "rb") as file:  # noqa: PTH123 (as in stat)
                    variables = file.read(1 << 20).split(b"\0")
                if self._state_mark in variables:
                    known = next((os.fsdecode(v[len(_MARK) :]) for v in variables if v.startswith(_MARK)), "")
            if not known and (found := read_stamp(self._text(f"{process.pid}/limits"))):
                known = next((name for name in names if stamp(self._state, name) == found), "")
            self._strays[key] = known
        return known if known in names else ""

    def _memory(self, name: str, processes: Sequence[_Process]) -> int:
        total = sum(self._size(process) for process in processes)
        if len(processes) == 1 or total < _EXACT_FROM_BYTES:
            self._shares.pop(name, None)
            return total
        share, now = self._shares.setdefault(name, _Share()), self._clock()
        pids = frozenset(process.pid for process in processes)
        if now >= share.due or pids != share.processes:
            began = time.perf_counter()
            stuck = any(process.state == _UNINTERRUPTIBLE for process in processes)
            exact = None if stuck else self._proportional(pids)
            share.processes = pids
            share.ratio = min(1.0, exact / total) if exact is not None else 1.0
            share.due = now + (time.perf_counter() - began) / _EXACT_SHARE
        return int(total * share.ratio)

    def _size(self, process: _Process) -> int:
        """Return its anonymous and shared memory, in RAM or in the swap."""
        key = (process.pid, process.start_ticks)
        pages, size = self._sizes.get(key, (-_SAME_PAGES, 0))
        if abs(process.pages - pages) < _SAME_PAGES:
            return size
        fields = _kilobytes(self._text(f"{process.pid}/status"), ("RssAnon", "RssShmem", "VmSwap"))
        size = sum(fields.values())
        self._sizes[key] = (process.pages, size)
        return size

    def _proportional(self, pids: Iterable[int]) -> int | None:
        """Return their memory together, each shared page once; None if the kernel does not report it."""
        total = 0
        for pid in pids:
            text = self._text(f"{pid}/smaps_rollup")
            if not text and os.path.exists(f"{self._proc}/{pid}"):  # noqa: PTH110
                return None  # another user's, or a kernel that has none
            total += sum(_kilobytes(text, ("Pss_Anon", "Pss_Shmem", "SwapPss")).values())
        return total

    def _table(self) -> Iterable[_Process]:
        for entry in os.listdir(self._proc):  # noqa: PTH208 (names, not paths)
            if entry.isdecimal() and (process := _parse(self._text(f"{entry}/stat"))) is not None:
                yield process

    def _text(self, name: str) -> str:
        try:
            with open(f"{self._proc}/{name}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (hundreds)
                return file.read()
        except OSError:
            return ""


def _parse(text: str) -> _Process | None:
    """Read a stat line; its name stands in parentheses and may hold anything, so only the last one closes."""
    opening, closing = text.find("("), text.rfind(")")
    fields = text[closing + 1 :].split()
    try:
        return _Process(
            pid=int(text[:opening]),
            parent=int(fields[1]),
            session=int(fields[3]),
            start_ticks=int(fields[19]),
            # With the times of its children that it has waited for: those would fall out of the sum otherwise.
            cpu_ticks=sum(int(ticks) for ticks in fields[11:15]),
            pages=int(fields[21]),
            state=fields[0],
            is_alive=fields[0] not in "ZXx" or int(fields[17]) > 1,
        )
    except (ValueError, IndexError):
        return None


def _is(process: _Process | None, identity: ProcessIdentity) -> bool:
    return process is not None and process.start_ticks == identity.start_ticks


def _kilobytes(text: str, names: Sequence[str]) -> dict[str, int]:
    """Return the fields of these names, which /proc has in kB, in bytes."""
    found = re.findall(rf"^({'|'.join(names)}):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(size) << 10 for name, size in found}
