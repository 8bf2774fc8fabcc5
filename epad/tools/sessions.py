"""Keep the sessions of subsystems: one for each start of an agent's process, with a tier that never changes.

A session is named after its process, so a later daemon that adopts the process knows it by the same name. A client has
no process here: its session lasts as long as this run of the daemon. Labels of taint only grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from epad.gate.tiers import Tier
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import Taint

_LABELS: Final = {
    ToolRisk.READS_NETWORK: Taint.UNTRUSTED,
    ToolRisk.READS_HOST: Taint.PRIVATE,
    ToolRisk.USES_SECRET: Taint.PRIVATE,
}


@dataclass(slots=True)
class Session:
    """Holds a session's name, its tier, and what it has read. `noted` once the ledger has its beginning."""

    name: str
    subsystem: str
    tier: Tier
    taint: Taint = Taint.NONE
    noted: bool = False
    scope: str = ""
    """Names what its idempotency keys belong to: the session; empty for a client's, which outlast this run."""

    def read(self, risk: ToolRisk) -> None:
        """Note that a tool of this risk has given its result to the session."""
        self.taint |= _LABELS.get(risk, Taint.NONE)


class Sessions:
    """Finds a subsystem's session. `process` names its process now, empty without one; `tier` is the configured one."""

    def __init__(self, process: Callable[[str], str], tier: Callable[[str], Tier], run: str) -> None:
        self._process = process
        self._tier = tier
        self._run = run
        self._sessions: dict[str, Session] = {}

    def of(self, subsystem: str) -> Session:
        """Return the session of a subsystem as of now; a process that was started anew has another one."""
        process = self._process(subsystem)
        name = _name(subsystem, process or self._run)
        session = self._sessions.get(subsystem)
        if session is None or session.name != name:
            session = self._sessions[subsystem] = Session(
                name, subsystem, self._tier(subsystem), scope=name if process else ""
            )
        return session

    def recall(self, subsystem: str, tier: Tier, taint: Taint) -> Session:
        """Return the session of a subsystem as of now, with the tier and the labels that the ledger has of it."""
        session = self.of(subsystem)
        session.tier = tier
        session.taint |= taint
        return session

    def lives(self, subsystem: str, name: str) -> bool:
        """Tell if a session of this name has not ended. It begins none."""
        return name == _name(subsystem, self._process(subsystem) or self._run)


@lru_cache(maxsize=256)  # it is asked for several times a call
def _name(subsystem: str, process: str) -> str:
    return sha256(f"epad/session/1\0{subsystem}\0{process}".encode()).hexdigest()[:32]
