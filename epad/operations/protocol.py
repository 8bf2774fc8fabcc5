"""Define the operations of the control API: the seam between the socket and everything behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from epad import EpadError
from epad.answers.agents import AgentList
from epad.answers.changes import Measurements
from epad.answers.confinement import Approvals, PolicyChanges
from epad.answers.decisions import Event, Explanation, PhaseAnswer, Recovery
from epad.answers.foreign import ServerDiff, ServerList
from epad.answers.identity import IdentityBundle, IdentityList
from epad.answers.memory import MemoryList, MemoryProof
from epad.answers.orders import Budgets, Result
from epad.answers.secrets import SecretList
from epad.answers.status import Status
from epad.answers.tools import ToolList, Trace, UndonePlan
from epad.answers.vault import DocumentHistory, DocumentPiece, VaultList, VaultProof
from epad.gate.permissions import Tier
from epad.operations.bodies import OrderBody
from epad.operations.registry import Operation


class OperationError(EpadError):
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


class UnknownToolError(UnknownNameError):
    """There is no tool, or category of tools, of that name."""

    kind = "tool"
    declared_by = "; [tools] enabled = true gives subsystems tools"


class UnknownServerError(UnknownNameError):
    """There is no foreign MCP server of that name."""

    kind = "server"
    declared_by = "; [tools.servers.NAME] declares one"


class UnknownDatastoreError(UnknownNameError):
    """There is no datastore of that name."""

    kind = "datastore"
    declared_by = "; [datastores.NAME] declares one"


class UnknownBudgetError(UnknownNameError):
    """There is no budget of that name: of a subsystem, `group:NAME`, or `all`."""

    kind = "budget"


class UnknownQuestionError(UnknownNameError):
    """There is no question of that number, or no more."""

    kind = "question"


class UnknownApprovalError(UnknownNameError):
    """There is no approval of that host or question, or no more."""

    kind = "approval"
    declared_by = "; `epactl approvals` lists those that hold"


class UnknownVaultSecretError(UnknownNameError):
    """There is no secret of that name in the vault."""

    kind = "secret"
    declared_by = "; `epactl secret set NAME` keeps one"


class UnknownTurnError(UnknownNameError):
    """There is no turn or session of that name."""

    kind = "turn"

    def __init__(self, name: str) -> None:
        super().__init__(name, ["those that `epactl trace` shows"])


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
    """Carries out the daemon's operations. Each answer is the JSON of the API."""

    def status(self) -> Status:
        """Phase, anomalies, subsystems, probes and notices as of now."""
        ...

    async def phase(self) -> PhaseAnswer:
        """The phase, how it came about, why each phase cannot be forced, and the table as a Mermaid diagram."""
        ...

    async def events(self, since: int, limit: int) -> list[Event]:
        """At most `limit` events after the id `since`, oldest first; -n means the newest n."""
        ...

    def subscribe(self) -> AbstractAsyncContextManager[asyncio.Queue[Event]]:
        """Open a queue of every event from now on. A queue that has been full has missed some, and gets no more."""
        ...

    async def explain(self, subject: str | None) -> Explanation:
        """Return the chain finding, anomaly, rule, step, result; of a turn, that from its session to its effects.

        Raises UnknownSubsystemError, UnknownIdError.
        """
        ...

    async def recovery(self) -> Recovery:
        """Return the plan of a recovery as of now, the result of each attempt, and the lost turns."""
        ...

    async def log_lines(self, name: str, count: int, since: float | None) -> list[str]:
        """Return the last lines a subsystem has printed, of those since a time in seconds of UTC.

        Raises UnknownSubsystemError, ConflictError.
        """
        ...

    def follow_log(self, name: str) -> AsyncGenerator[list[str], None]:
        """Yield every line from now on, an empty batch as a heartbeat. Raises UnknownSubsystemError, ConflictError."""
        ...

    async def confine_diff(self) -> PolicyChanges:
        """Return the changes of policies that a reload would make. Raises ConflictError for a broken configuration."""
        ...

    def approvals(self) -> Approvals:
        """Return which hosts were asked for, and the answers."""
        ...

    def tools(self) -> ToolList:
        """Return the tools, and who may call each."""
        ...

    async def trace(self, subject: str | None, after: int) -> Trace:
        """Return a page of the turns of a session, or of the newest of a subsystem, or (None) of all.

        Raises UnknownSubsystemError.
        """
        ...

    def changes(self) -> Measurements:
        """Return what each subsystem was at its last start."""
        ...

    def agents(self) -> AgentList:
        """Return the living agents that agents have spawned."""
        ...

    def tools_servers(self) -> ServerList:
        """Return the foreign MCP servers, their tools, and which are held."""
        ...

    def tools_diff(self, name: str) -> ServerDiff:
        """Return what a server lists otherwise than it was accepted. Raises UnknownServerError."""
        ...

    async def memory(self, session: str | None) -> MemoryList:
        """Return the names that a session has stored, or all. Raises ConflictError."""
        ...

    async def memory_verify(self) -> MemoryProof:
        """Return the faults of the rows that tools have stored. Raises ConflictError."""
        ...

    async def secrets(self) -> SecretList:
        """Return all that is told of the secrets in the vault."""

    async def identity(self) -> IdentityList:
        """Return the newest SVIDs, and how the Workload API is. Raises ConflictError."""
        ...

    async def identity_bundle(self) -> IdentityBundle:
        """Return the trust bundle. Raises ConflictError."""

    async def vault(self) -> VaultList:
        """Return the documents of the vault. Raises ConflictError."""
        ...

    async def vault_show(
        self, document: str | None, version: str | None, offset: str | None
    ) -> DocumentPiece:
        """Return bytes of a version of a document. Raises ConflictError."""
        ...

    async def vault_history(self, document: str | None) -> DocumentHistory:
        """Return the changes of a document. Raises ConflictError."""
        ...

    async def vault_verify(self) -> VaultProof:
        """Return what reading all of the vault finds. Raises ConflictError."""
        ...

    async def undo_plan(self, name: str) -> UndonePlan:
        """Return what an undo of a turn or session would find. Raises UnknownTurnError, ConflictError."""
        ...

    def budgets(self) -> Budgets:
        """Return every limit: its origin, its use and its rest."""
        ...

    async def order(self, operation: Operation, name: str, body: OrderBody, by: str) -> Result:
        """Carry out an order about its named subject, if it has one.

        Raises UnknownNameError for a name that nothing has, ConflictError where it does not fit the present state.
        """
        ...

    async def audit(
        self, operation: Operation, tier: Tier, *, allowed: bool, peer: Peer, by: str = ""
    ) -> None:
        """Take note of one decision of the gate, before it is acted on."""
        ...
