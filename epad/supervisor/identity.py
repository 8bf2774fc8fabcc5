"""Identify a process by its pid, start time and boot, so that a signal can never hit a stranger."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from epad.runtime import oom_protection
from epad.supervisor.errors import ProcessGoneError
from epad.supervisor.stamp import bears, read_stamp

# States of /proc/PID/stat: a zombie or dead process runs nothing; a stopped or traced one is not running now.
_DEAD = frozenset("ZXx")
_STOPPED = frozenset("Tt")
# Reading the environment takes the memory map's lock, which a process in this state may hold for ever.
_UNINTERRUPTIBLE = "D"
_MAX_ENVIRONMENT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Identifies one process for all time: a pid is used again, a pid with its start time and boot is not."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Holds the needed fields of /proc/PID/stat."""

    pid: int
    state: str
    parent: int
    session: int
    threads: int
    start_ticks: int

    @property
    def is_alive(self) -> bool:
        """A process whose first thread alone has ended shows as a zombie, and runs on."""
        return self.state not in _DEAD or self.threads > 1

    @property
    def is_stopped(self) -> bool:
        return self.state in _STOPPED


@dataclass(frozen=True, slots=True)
class Kin:
    """Describes the common marks of one subsystem's processes.

    They are: the root and its session; those whose environment bears the marks, or whose limits bear the stamp of
    the marks; those `known` from before; and all descendants of these.
    """

    root: ProcessIdentity | None
    marks: Mapping[str, str]
    known: Collection[ProcessIdentity] = ()


def parse_stat(text: str) -> ProcessStat | None:
    """Read one /proc/PID/stat line; None if it is not one.

    The name stands in parentheses and may hold spaces, parentheses and line breaks: only the last one closes.
    """
    opening, closing = text.find("("), text.rfind(")")
    fields = text[closing + 1 :].split()
    try:
        return ProcessStat(
            pid=int(text[:opening]),
            state=fields[0],
            parent=int(fields[1]),
            session=int(fields[3]),
            threads=int(fields[17]),
            start_ticks=int(fields[19]),
        )
    except (ValueError, IndexError):
        return None


class ProcessTable:
    """The processes of this machine, read from /proc each time it is asked."""

    def __init__(self, boot_id: str, proc: Path = Path("/proc")) -> None:
        self._boot_id = boot_id
        self._proc = str(proc)
        self._stamps: dict[tuple[int, int], int] = {}

    def forgo_oom_protection(self, pid: int) -> None:
        """Let the kernel take this process when memory runs out, though the daemon itself is protected."""
        oom_protection.forgo(pid, Path(self._proc))

    def stat(self, pid: int) -> ProcessStat | None:
        """Look at one process; None if there is none."""
        try:
            with open(f"{self._proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (a walk reads hundreds: Path costs as much as the read)
                stat = parse_stat(file.read())
        except OSError:
            return None
        return stat if stat is not None and stat.pid == pid else None

    def identity(self, pid: int) -> ProcessIdentity | None:
        """Say who has this pid now; None if nobody."""
        stat = self.stat(pid)
        return None if stat is None else self.identify(stat)

    def current(self, identity: ProcessIdentity) -> ProcessStat | None:
        """Look at this very process; None if it is gone, even if its pid is in use."""
        if identity.boot_id != self._boot_id:
            return None
        stat = self.stat(identity.pid)
        return stat if stat is not None and stat.start_ticks == identity.start_ticks else None

    def is_alive(self, identity: ProcessIdentity) -> bool:
        stat = self.current(identity)
        return stat is not None and stat.is_alive

    def is_stopped(self, identity: ProcessIdentity) -> bool:
        """Say whether it is alive but held by SIGSTOP or a tracer."""
        stat = self.current(identity)
        return stat is not None and stat.is_stopped

    def open(self, identity: ProcessIdentity) -> int:
        """Open a pidfd that is certain to be this process's. Raises ProcessGoneError, OSError."""
        if identity.boot_id != self._boot_id:
            raise ProcessGoneError(f"pid {identity.pid} was seen before the last boot")
        try:
            descriptor = os.pidfd_open(identity.pid)
        except ProcessLookupError as error:
            raise ProcessGoneError(f"pid {identity.pid} has ended") from error
        # From here on the descriptor cannot change its process; now see whether it is the right one.
        if self.current(identity) is None:
            os.close(descriptor)
            raise ProcessGoneError(f"pid {identity.pid} belongs to another process now")
        return descriptor

    def signal(self, identity: ProcessIdentity, number: signal.Signals) -> bool:
        """Signal this very process; False if it is gone or not ours to signal."""
        try:
            descriptor = self.open(identity)
        except (ProcessGoneError, OSError):
            return False
        try:
            signal.pidfd_send_signal(descriptor, number)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def snapshot(self) -> dict[int, ProcessStat]:
        """Look at every process, by pid."""
        stats = (self.stat(pid) for pid in self._pids())
        return {stat.pid: stat for stat in stats if stat is not None}

    def tree(self, root: ProcessIdentity | None, marks: Mapping[str, str]) -> frozenset[ProcessIdentity]:
        """Find every living process of a subsystem, whatever session or parent it has moved to."""
        return self.trees([Kin(root, marks)])[0]

    def trees(self, kins: Sequence[Kin]) -> list[frozenset[ProcessIdentity]]:
        """Find those of several subsystems in one walk. The calling process is never among them."""
        stats = self.snapshot()
        asked = frozenset(variable for kin in kins for variable in _variables(kin.marks))
        borne = {pid: self.variables(stat) & asked for pid, stat in stats.items()}
        stamps = self._look_for_stamps(stats) if asked else {}
        children: dict[int, list[int]] = {}
        for stat in stats.values():
            children.setdefault(stat.parent, []).append(stat.pid)
        return [
            frozenset(
                self.identify(stats[pid])
                for pid in _with_descendants(stats, children, self._seeds(kin, stats, borne, stamps))
                if stats[pid].is_alive
            )
            for kin in kins
        ]

    def _look_for_stamps(self, stats: Mapping[int, ProcessStat]) -> Mapping[int, int]:
        """Read the stamp of every process, once in its life: it is born with it."""
        known, keys = self._stamps, [(stat.pid, stat.start_ticks) for stat in stats.values()]
        self._stamps = {key: known[key] if key in known else self.stamp(key[0]) for key in keys}
        return {pid: found for (pid, _), found in self._stamps.items() if found}

    def stamp(self, pid: int) -> int:
        """Read the stamp of a process; 0 if it has none."""
        try:
            with open(f"{self._proc}/{pid}/limits", encoding="ascii") as file:  # noqa: PTH123 (as in stat)
                return read_stamp(file.read())
        except OSError:
            return 0

    def _seeds(
        self,
        kin: Kin,
        stats: Mapping[int, ProcessStat],
        borne: Mapping[int, frozenset[bytes]],
        stamps: Mapping[int, int],
    ) -> set[int]:
        """List those that are told by themselves, and not by whom they descend from."""
        marks = _variables(kin.marks)
        seeds = {pid for pid, variables in borne.items() if marks <= variables} if marks else set()
        seeds |= {pid for pid, found in stamps.items() if bears(found, kin.marks)}
        seeds |= {i.pid for i in kin.known if self._is(stats.get(i.pid), i)}
        if kin.root is not None:
            seeds |= _session(stats, kin.root, seeds)
        return seeds - {os.getpid(), 1}

    def find_root(self, marks: Mapping[str, str]) -> ProcessIdentity | None:
        """Find the process that a spawn of these marks began with: a session's leader, the oldest of them."""
        stats, wanted = self.snapshot(), _variables(marks)
        marked = {pid for pid in stats if wanted and wanted <= self.variables(stats[pid])} - {os.getpid()}
        leaders = [
            stats[pid]
            for pid in marked
            if stats[pid].session == pid and stats[pid].parent not in marked and stats[pid].is_alive
        ]
        first = min(leaders, key=lambda stat: stat.start_ticks, default=None)
        return None if first is None else self.identify(first)

    def orphans(self, expected: Collection[int]) -> Iterator[ProcessStat]:
        """Yield our own dead children outside our session, without the `expected`: the subreaper's share."""
        return (stat for stat in self._elsewhere(expected) if stat.state == "Z")

    def strays(self, expected: Collection[int]) -> Iterator[ProcessStat]:
        """Find our own living children outside our session, but the `expected`: they have come to us as orphans."""
        return (stat for stat in self._elsewhere(expected) if stat.is_alive)

    def _elsewhere(self, expected: Collection[int]) -> Iterator[ProcessStat]:
        own_session = os.getsid(0)
        for pid in self._own_children().difference(expected):
            stat = self.stat(pid)
            if stat is not None and stat.session != own_session:
                yield stat

    def first_child(self, parent: ProcessIdentity) -> ProcessIdentity | None:
        """Find the oldest living child of a process; None if it has none."""
        stats = [stat for stat in self.snapshot().values() if stat.parent == parent.pid and stat.is_alive]
        oldest = min(stats, key=lambda stat: (stat.start_ticks, stat.pid), default=None)
        return None if oldest is None else self.identify(oldest)

    def _own_children(self) -> set[int]:
        children: set[int] = set()
        found = False
        for file in Path(self._proc, "self/task").glob("*/children"):
            with suppress(OSError):
                children.update(int(pid) for pid in file.read_text().split())
                found = True
        if found:
            return children
        # A kernel without CONFIG_PROC_CHILDREN.
        return {stat.pid for stat in self.snapshot().values() if stat.parent == os.getpid()}

    def _pids(self) -> list[int]:
        return [int(name) for name in os.listdir(self._proc) if name.isdecimal()]  # noqa: PTH208 (names, not paths)

    def identify(self, stat: ProcessStat) -> ProcessIdentity:
        return ProcessIdentity(stat.pid, stat.start_ticks, self._boot_id)

    def _is(self, stat: ProcessStat | None, identity: ProcessIdentity) -> bool:
        return (
            stat is not None
            and stat.start_ticks == identity.start_ticks
            and identity.boot_id == self._boot_id
        )

    def variables(self, stat: ProcessStat) -> frozenset[bytes]:
        """Read the variables a process was started with; none where that cannot be done, or not without waiting."""
        if not stat.is_alive or stat.state == _UNINTERRUPTIBLE:
            return frozenset()
        try:
            with open(f"{self._proc}/{stat.pid}/environ", "rb") as file:  # noqa: PTH123 (as in stat)
                return frozenset(file.read(_MAX_ENVIRONMENT_BYTES).split(b"\0"))
        except OSError:
            return frozenset()


def _variables(marks: Mapping[str, str]) -> frozenset[bytes]:
    return frozenset(os.fsencode(f"{name}={value}") for name, value in marks.items())


def _session(stats: Mapping[int, ProcessStat], leader: ProcessIdentity, certain: Collection[int]) -> set[int]:
    """List a leader's session, if its number is certainly still its own.

    The number is not given to another process while the leader, dead but unreaped too, or any member has it.
    """
    first = stats.get(leader.pid)
    if first is not None and first.start_ticks != leader.start_ticks:
        return set()
    if first is None and not any(stats[pid].session == leader.pid for pid in certain):
        return set()
    members = {stat.pid for stat in stats.values() if stat.session == leader.pid}
    return members | ({leader.pid} if first is not None else set())


def _with_descendants(
    stats: Mapping[int, ProcessStat], children: Mapping[int, list[int]], seeds: set[int]
) -> set[int]:
    found: set[int] = set()
    waiting = list(seeds)
    while waiting:
        pid = waiting.pop()
        if pid in found or pid == os.getpid():
            continue
        found.add(pid)
        # No child is older than its parent: one that is has a parent whose pid was used again mid-walk.
        waiting.extend(
            child for child in children.get(pid, ()) if stats[child].start_ticks >= stats[pid].start_ticks
        )
    return found
