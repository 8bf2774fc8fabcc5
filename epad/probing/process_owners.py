"""Find the owner of a process that a driver names by its pid."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from epad.supervisor.identity import ProcessTable
from probes.subsystems import Snapshots

# Nothing that a person runs is nested deeper; a loop in a torn reading of /proc ends here.
MAX_ANCESTORS = 64


class ProcessOwners:
    """Finds the owner of a process: by an ancestor or session that epad started, its unit's cgroup, or its mark.

    `tag` is in the names of our own units and cgroups; `units` gives the subsystem of each that is systemd's.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        table: ProcessTable,
        state: Path,
        proc: Path = Path("/proc"),
        tag: str = "epad",
        units: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._snapshots = snapshots
        self._table = table
        self._state_mark = os.fsencode(f"EPAD_STATE={state}")
        self._proc = proc
        self._tag = tag
        self._units = units

    def owner_of(self, pid: int) -> str | None:
        """The subsystem's name; None for a stranger, and for one that is gone or not ours to look at."""
        roots = {snapshot.pid: snapshot.name for snapshot in self._snapshots() if snapshot.pid is not None}
        names = {snapshot.name for snapshot in self._snapshots()}
        return self._by_ancestor(pid, roots) or self._by_cgroup(pid, names) or self._by_mark(pid, names)

    def _by_ancestor(self, pid: int, roots: Mapping[int, str]) -> str | None:
        for _ in range(MAX_ANCESTORS):
            stat = self._table.stat(pid)
            if stat is None:
                return None
            if stat.pid in roots or stat.session in roots:
                return roots.get(stat.pid) or roots[stat.session]
            if stat.parent in {0, 1, os.getpid()}:
                return None
            pid = stat.parent
        return None

    def _by_cgroup(self, pid: int, names: set[str]) -> str | None:
        with suppress(OSError):
            for line in (self._proc / str(pid) / "cgroup").read_text().splitlines():
                for above, group in pairwise(line.split("/")):
                    if (name := self._of_group(above, group)) in names:
                        return name
        return None

    def _of_group(self, above: str, group: str) -> str | None:
        if above == f"{self._tag}.children":
            return group
        own = group.removeprefix(f"{self._tag}-")
        return own.removesuffix(".service") if own != group else self._units().get(group)

    def _by_mark(self, pid: int, names: set[str]) -> str | None:
        """By its environment, last: reading that waits for a lock which a process in D state may hold for ever."""
        stat = self._table.stat(pid)
        if stat is None or stat.state == "D":
            return None
        with suppress(OSError):
            variables = (self._proc / str(pid) / "environ").read_bytes().split(b"\0")
            if self._state_mark in variables:
                found = (v.partition(b"=")[2] for v in variables if v.startswith(b"EPAD_SUBSYSTEM="))
                name = os.fsdecode(next(found, b""))
                return name if name in names else None
        return None
