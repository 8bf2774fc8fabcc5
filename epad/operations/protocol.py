"""Define the operations of the control API: the seam between the socket and everything behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from epad.gate.permissions import Operation, Tier
from statemachine.phase import Phase


class OperationError(Exception):
    """The daemon could not carry out an operation."""


class UnknownNameError(OperationError):
    """There is nothing of that kind and name."""

    kind = ""
    declared_by = ""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no {self.kind} {name!r}")
        self.name = name
        self.known = tuple(known)


class UnknownSubsystemError(UnknownNameError):
    """There is no subsystem of that name."""

    kind = "subsystem"


class UnknownDatastoreError(UnknownNameError):
    """There is no datastore of that name."""

    kind = "datastore"
    declared_by = "; [datastores.NAME] declares one"


class UnknownBudgetError(UnknownNameError):
    """There is no budget of that name: of a subsystem, `group:NAME`, or `all`."""

    kind = "budget"


class UnknownIdError(UnknownNameError):
    """There is no event, anomaly, transition or step of that id, or no more."""

    kind = "id"

    def __init__(self, name: str) -> None:
        super().__init__(name, ["those that `epactl events` and `epactl explain` show"])


class ConflictError(OperationError):
    """An operation does not fit the present phase or state; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Identifies the user at the other end of the socket, as the kernel vouches for it."""

    pid: int
    uid: int
    gids: tuple[int, ...]

    def __str__(self) -> str:
        return f"uid {self.uid} (pid {self.pid})"


class Operations(Protocol):
    """Lists the daemon's operations. The dictionaries are the JSON of the API's answers."""

    def status(self) -> dict[str, Any]:
        """Phase, anomalies, subsystems, probes and notices as of now."""
        ...

    async def phase(self) -> dict[str, Any]:
        """The phase, how it came about, why each phase cannot be forced, and the table as a Mermaid diagram."""
        ...

    async def events(self, since: int, limit: int) -> list[dict[str, Any]]:
        """At most `limit` events after the id `since`, oldest first; -n means the newest n."""
        ...

    def subscribe(self) -> AbstractAsyncContextManager[asyncio.Queue[dict[str, Any]]]:
        """Open a queue of every event from now on. A queue that has been full has missed some, and gets no more."""
        ...

    async def explain(self, subject: str | None) -> dict[str, Any]:
        """The chain finding, anomaly, rule, step, result. Raises UnknownSubsystemError, UnknownIdError."""
        ...

    async def recovery(self) -> dict[str, Any]:
        """Return the plan of a recovery as of now, the result of each attempt, and the lost turns."""
        ...

    async def quarantine(self, name: str, reason: str, by: str) -> dict[str, Any]:
        """Hold a subsystem. Raises UnknownSubsystemError, ConflictError."""
        ...

    async def release(self, name: str, reason: str, by: str) -> dict[str, Any]:
        """Let a subsystem go. Raises UnknownSubsystemError, ConflictError."""
        ...

    async def pause(self, name: str, reason: str, by: str) -> dict[str, Any]:
        """Let a subsystem rest; the phase stays. Raises UnknownSubsystemError, ConflictError."""
        ...

    async def resume(self, name: str, reason: str, by: str) -> dict[str, Any]:
        """End a rest. Raises UnknownSubsystemError, ConflictError."""
        ...

    async def restart(self, name: str, reason: str, by: str) -> dict[str, Any]:
        """Stop a subsystem and start it anew. Raises UnknownSubsystemError, ConflictError if it is held."""
        ...

    async def stop(self, name: str, reason: str, by: str) -> dict[str, Any]:
        """Stop a subsystem until it is released. Raises UnknownSubsystemError, ConflictError."""
        ...

    async def reload(self, reason: str, by: str) -> dict[str, Any]:
        """Read the configuration again and apply the changes; a broken one changes nothing."""
        ...

    async def log_lines(self, name: str, count: int, since: float | None) -> list[str]:
        """The last lines a subsystem has printed, of those since a time in seconds of UTC.

        Raises UnknownSubsystemError, ConflictError.
        """
        ...

    def follow_log(self, name: str) -> AsyncGenerator[list[str], None]:
        """Yield every line from now on, an empty batch as a heartbeat. Raises UnknownSubsystemError, ConflictError."""
        ...

    async def rotate_key(self, name: str, reason: str, by: str) -> dict[str, Any]:
        """Give a subsystem a new key, and make the former ones worthless. Raises UnknownSubsystemError."""
        ...

    async def revoke_key(self, name: str, reason: str, by: str) -> dict[str, Any]:
        """Make every key of a subsystem worthless. Raises UnknownSubsystemError."""
        ...

    async def force(self, phase: Phase, reason: str, by: str) -> dict[str, Any]:
        """Enter a phase without waiting. Raises ConflictError where more than time stands in the way."""
        ...

    async def lifeboat(self, reason: str, by: str) -> dict[str, Any]:
        """Save the critical state and stop everything. Raises ConflictError."""
        ...

    async def relaunch(self, reason: str, by: str) -> dict[str, Any]:
        """Leave the lifeboat. Raises ConflictError."""
        ...

    async def checkpoint(self, reason: str, by: str) -> dict[str, Any]:
        """Make a checkpoint now. Raises ConflictError."""
        ...

    async def upgrade(self, reason: str, by: str) -> dict[str, Any]:
        """Begin again as the program that is installed now, in the same process; subsystems run on."""
        ...

    async def accept_loss(self, reason: str, by: str) -> dict[str, Any]:
        """Give up the records of the ledger that are gone: turns are taken again, every budget counts as spent."""
        ...

    async def accept_datastore(self, name: str, reason: str, by: str) -> dict[str, Any]:
        """Take a datastore as it is for sound. Raises UnknownDatastoreError."""
        ...

    def budgets(self) -> list[dict[str, Any]]:
        """Return every limit: its origin, its use and its rest."""
        ...

    async def set_budget(
        self, scope: str, values: Mapping[str, float | None], reason: str, by: str
    ) -> dict[str, Any]:
        """Change limits, or leave them to the configuration again (None). Raises UnknownBudgetError, ConflictError."""
        ...

    async def audit(self, operation: Operation, tier: Tier, *, allowed: bool, peer: Peer) -> None:
        """Take note of one decision of the gate, before it is acted on."""
        ...
