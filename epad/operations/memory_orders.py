"""Show what sessions have stored, share a text with later sessions, and hide rows: a person's orders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from epad import EpadError
from epad.answers.memory import MemoryList, MemoryProof
from epad.ledger.errors import LedgerError
from epad.operations.protocol import ConflictError
from epad.tools.own import OwnToolError
from epad.vault.child import VaultChild
from epad.vault.watch import UnsoundError, Watch


class MemoryOrders:
    """Asks the child that keeps the store; None in a daemon without tools. Each method raises ConflictError.

    `heads` returns the heads of the store's chain that the ledger has.
    """

    def __init__(
        self,
        child: VaultChild | None,
        heads: Callable[[], Awaitable[tuple[str, ...]]],
        watch: Watch | None = None,
    ) -> None:
        self._child = child
        self._heads = heads
        self._watch = watch

    async def show(self, session: str) -> MemoryList:
        """Return the newest names of a session, or of all."""
        return msgspec.convert(await self._ask("list", {"session": session}), MemoryList)

    async def verify(self) -> MemoryProof:
        """Return the faults of the chain of rows, and the heads in the ledger that it does not have."""
        try:
            heads = await self._heads()
        except LedgerError as error:
            raise ConflictError(f"the ledger cannot be read: {error}", "epactl ledger verify") from error
        return msgspec.convert(await self._ask("verify", {"heads": heads}), MemoryProof)

    async def promote(self, name: str, session: str, reason: str) -> str:
        """Copy a session's texts under a name to `shared`; return a sentence."""
        answer = await self._order("promote", {"name": name, "session": session, "reason": reason})
        return str(answer["sentence"])

    async def retract(self, name: str, session: str, reason: str) -> str:
        """Hide a shared name, a session's name, or all rows of a session; return a sentence."""
        if not name and not session:
            raise ConflictError("nothing is named", "name what is shared, or --session SESSION")
        answer = await self._order("retract", {"name": name, "session": session, "reason": reason})
        return str(answer["sentence"])

    async def _order(self, request: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        """Have the rows of an order appended, between two roots in the ledger."""
        if self._watch is None:
            return await self._ask(request, arguments)
        try:
            await self._watch.before_order(str(arguments["reason"]))
        except UnsoundError as error:
            hint = "epactl vault verify; epactl checkpoint restore, or epactl datastore accept vault"
            raise ConflictError(str(error), hint) from error
        except (OwnToolError, LedgerError) as error:
            raise ConflictError(f"nothing was ordered: {error}") from error
        try:
            return await self._ask(request, arguments)
        finally:
            await self._watch.settle()

    async def _ask(self, request: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        if self._child is None:
            raise ConflictError("there are no tools, and so no memory", "`[tools] enabled = true` gives them")
        try:
            return await self._child.ask(request, arguments)
        except OwnToolError as error:
            raise ConflictError(str(error), error.hint) from error
        except msgspec.ValidationError as error:
            raise EpadError(f"the store answers what it never does: {error}") from error
