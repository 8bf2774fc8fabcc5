"""Carry out what a person asks about agents: their tools, their questions, their memory, their identities."""

from __future__ import annotations

from dataclasses import dataclass

from epad.answers.confinement import Approvals
from epad.answers.foreign import ServerDiff, ServerList
from epad.answers.identity import IdentityBundle, IdentityList
from epad.answers.memory import MemoryList, MemoryProof
from epad.answers.orders import Result
from epad.answers.tools import ToolList, Trace, UndonePlan
from epad.answers.vault import DocumentHistory, DocumentPiece, VaultList, VaultProof
from epad.operations.all_approvals import AllApprovals
from epad.operations.identity_looks import IdentityLooks
from epad.operations.memory_orders import MemoryOrders
from epad.operations.registry import Operation
from epad.operations.secret_orders import SecretOrders
from epad.operations.server_orders import ServerOrders
from epad.operations.tool_looks import ToolLooks
from epad.operations.vault_orders import VaultOrders
from statemachine.finding import HOST


@dataclass(frozen=True, slots=True)
class AgentOperations(SecretOrders):
    """Implements the part of `epad.operations.protocol.Operations` that is about agents.

    It stands on the part about secrets, since two bases with slots of their own cannot stand side by side.
    """

    all_approvals: AllApprovals
    tool_looks: ToolLooks
    memory_orders: MemoryOrders
    identity_looks: IdentityLooks
    vault_orders: VaultOrders
    server_orders: ServerOrders

    def tools(self) -> ToolList:
        return self.tool_looks.show()

    async def trace(self, subject: str | None, after: int) -> Trace:
        return await self.tool_looks.trace(subject, after)

    async def undo_plan(self, name: str) -> UndonePlan:
        return await self.tool_looks.undo.plan(name)

    async def undo(self, name: str, reason: str, by: str) -> Result:
        self._note(Operation.UNDO, HOST, f"{name}: {reason}", by)
        results, is_left = await self.tool_looks.undo.undo(name, reason, by)
        return self._result(results, failed=is_left)

    def approvals(self) -> Approvals:
        return self.all_approvals.show()

    async def approve(self, number: str, seconds: float | None, reason: str, by: str) -> Result:
        self._note(Operation.APPROVE, HOST, f"question {number}: {reason}", by)
        return self._result([await self.all_approvals.approve(number, seconds, f"{reason} ({by})")])

    async def deny(self, number: str, reason: str, by: str) -> Result:
        self._note(Operation.DENY, HOST, f"question {number}: {reason}", by)
        return self._result([self.all_approvals.deny(number, f"{reason} ({by})")])

    async def revoke_host(self, name: str, subsystem: str, reason: str, by: str) -> Result:
        self._note(Operation.REVOKE_HOST, subsystem or HOST, f"{name}: {reason}", by)
        revoked = await self.all_approvals.revoke(name, subsystem, f"{reason} ({by})")
        return self._result([revoked.sentence], failed=not revoked.is_kept)

    def tools_servers(self) -> ServerList:
        return self.server_orders.show()

    def tools_diff(self, name: str) -> ServerDiff:
        return self.server_orders.diff(name)

    async def accept_tools(self, name: str, sha256: str, reason: str, by: str) -> Result:
        self._note(Operation.ACCEPT_TOOLS, name, reason, by)
        return self._result([await self.server_orders.accept(name, sha256, reason, by)])

    async def memory(self, session: str | None) -> MemoryList:
        return await self.memory_orders.show(session or "")

    async def memory_verify(self) -> MemoryProof:
        return await self.memory_orders.verify()

    async def promote_memory(self, name: str, session: str, reason: str, by: str) -> Result:
        self._note(Operation.PROMOTE_MEMORY, HOST, f"{name}: {reason}", by)
        return self._result([await self.memory_orders.promote(name, session, f"{reason} ({by})")])

    async def retract_memory(self, name: str, session: str, reason: str, by: str) -> Result:
        self._note(Operation.RETRACT_MEMORY, HOST, f"{name or session}: {reason}", by)
        return self._result([await self.memory_orders.retract(name, session, f"{reason} ({by})")])

    async def identity(self) -> IdentityList:
        return await self.identity_looks.show()

    async def identity_bundle(self) -> IdentityBundle:
        return await self.identity_looks.bundle()

    async def rotate_identity(self, reason: str, by: str) -> Result:
        self._note(Operation.ROTATE_IDENTITY, HOST, reason, by)
        return self._result([await self.identity_looks.rotate()])

    async def vault(self) -> VaultList:
        return await self.vault_orders.show()

    async def vault_show(
        self, document: str | None, version: str | None, offset: str | None
    ) -> DocumentPiece:
        return await self.vault_orders.piece(document or "", version, offset)

    async def vault_history(self, document: str | None) -> DocumentHistory:
        return await self.vault_orders.history(document or "")

    async def vault_verify(self) -> VaultProof:
        return await self.vault_orders.verify()

    async def add_document(
        self, document: str, sha256: str, size: int, offset: int, data: str, reason: str, by: str
    ) -> Result:
        if not offset:
            self._note(Operation.ADD_DOCUMENT, HOST, f"{document}: {reason}", by)
        body = {"sha256": sha256, "size": size, "offset": offset, "data": data}
        return self._result([await self.vault_orders.add(document, body, f"{reason} ({by})", by)])

    async def retract_document(self, document: str, reason: str, by: str) -> Result:
        self._note(Operation.RETRACT_DOCUMENT, HOST, f"{document}: {reason}", by)
        return self._result([await self.vault_orders.retract(document, f"{reason} ({by})", by)])

    async def undo_document(self, document: str, reason: str, by: str) -> Result:
        self._note(Operation.UNDO_DOCUMENT, HOST, f"{document}: {reason}", by)
        return self._result([await self.vault_orders.undo(document, f"{reason} ({by})", by)])
