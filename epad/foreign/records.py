"""Put changes of the pins on the ledger: each a turn of its own, with the digests before and after, and who did it.

| change | record |
|---|---|
| a server is seen for the first time | a turn, row `pins/first use` |
| a person accepts what a server lists now | a turn, row `order/accept`, with who and why |
| a server lists something else | a refused turn, row `pins/drift`, with what differs |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from epad.foreign.server import FIRST_USE
from epad.gate.tiers import Tier
from epad.gate.tool_risk import ToolRisk
from epad.ledger.entry import CloseTool, OpenTool, TurnNames
from epad.ledger.record import Effect, ToolOutcome
from statemachine.tool_targets import category_target

TOOL: Final = "pins"
ROW_FIRST: Final = "pins/first use"
ROW_ACCEPT: Final = "order/accept"
ROW_DRIFT: Final = "pins/drift"
_REASON_CHARACTERS: Final = 600


class PinLedger(Protocol):
    """The part of the ledger that pins are recorded in."""

    def open_tool(self, tool: OpenTool) -> asyncio.Future[int]: ...

    def close_tool(self, tool: CloseTool) -> asyncio.Future[int]: ...


@dataclass(frozen=True, slots=True)
class PinRecords:
    """Implements `epad.foreign.server.Records`. `now` is the time by which turns are named."""

    ledger: PinLedger
    now: Callable[[], float]
    names: TurnNames

    async def pinned(self, server: str, before: str, after: str, why: str, write: Callable[[], None]) -> None:
        """Record that pins change, have them written, and record that they are. Raises LedgerError, OSError."""
        turn, subsystem = self.names(self.now()), category_target(server)
        row = ROW_FIRST if why == FIRST_USE else ROW_ACCEPT
        await self.ledger.open_tool(
            OpenTool(
                turn=turn,
                subsystem=subsystem,
                tool=TOOL,
                session="",
                tier=Tier.OPERATOR,
                risk=ToolRisk.RUNS_CODE,
                taint=0,
                row=row,
                definition_sha256=bytes.fromhex(after),
                arguments_sha256=sha256(server.encode()).digest(),
            )
        )
        outcome, said = ToolOutcome.DONE, why
        try:
            await asyncio.to_thread(write)
        except OSError as error:
            outcome, said = ToolOutcome.FAILED, f"{why}; not written: {error}"
            raise
        finally:
            effects = (Effect(TOOL, bytes.fromhex(before) if before else None, bytes.fromhex(after)),)
            done = outcome is ToolOutcome.DONE
            await self.ledger.close_tool(
                CloseTool(
                    turn=turn,
                    subsystem=subsystem,
                    tool=TOOL,
                    session="",
                    outcome=outcome,
                    row=row,
                    reason=said[:_REASON_CHARACTERS],
                    effects=effects if done else (),
                )
            )

    async def drifted(self, server: str, before: str, after: str, what: str) -> None:
        """Record that a server is held. Raises LedgerError."""
        await self.ledger.close_tool(
            CloseTool(
                turn=self.names(self.now()),
                subsystem=category_target(server),
                tool=TOOL,
                session="",
                outcome=ToolOutcome.REFUSED,
                row=ROW_DRIFT,
                reason=f"{before[:16]} -> {after[:16]}: {what}"[:_REASON_CHARACTERS],
            )
        )
