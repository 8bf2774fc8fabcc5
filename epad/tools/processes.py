"""Name the process that each subsystem has now, which is looked at in /proc once for each of its starts.

A session is asked for several times a call, and reading /proc takes as long as the rest of the gate.
"""

from __future__ import annotations

from collections.abc import Callable

from epad.supervisor.identity import ProcessIdentity
from probes.subsystems import SubsystemSnapshot


class Processes:
    """Names processes. `snapshot` returns a subsystem as of now, `identity` reads a process; None: there is none."""

    def __init__(
        self,
        snapshot: Callable[[str], SubsystemSnapshot | None],
        identity: Callable[[int], ProcessIdentity | None],
    ) -> None:
        self._snapshot = snapshot
        self._identity = identity
        self._known: dict[str, tuple[int, int, str]] = {}

    def name(self, subsystem: str) -> str:
        """Return the name of a subsystem's process, which no other process has; empty without one."""
        now = self._snapshot(subsystem)
        if now is None or now.pid is None:
            self._known.pop(subsystem, None)
            return ""
        known = self._known.get(subsystem)
        if known is not None and known[:2] == (now.pid, now.restarts):
            return known[2]
        identity = self._identity(now.pid)
        if identity is None:
            return ""
        self._known[subsystem] = now.pid, now.restarts, str(identity)
        return str(identity)
