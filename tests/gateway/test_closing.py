"""No answer waits for its closing: the next opening takes it along."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from gateway_world import MemoryLedger, world
from structlog.testing import capture_logs

from epad.ledger.entry import CloseTurn
from epad.ledger.errors import LedgerUnavailableError


@dataclass
class SlowToClose(MemoryLedger):
    """Opens at once and closes when it is let."""

    closing: asyncio.Event = field(default_factory=asyncio.Event)
    lazily: list[bool] = field(default_factory=list)

    def close_turn(self, turn: CloseTurn, *, lazily: bool = False) -> asyncio.Future[int]:
        self.lazily.append(lazily)
        return super().close_turn(turn)

    async def close(self, turn: CloseTurn) -> int:
        await self.closing.wait()
        if self.broken:
            raise LedgerUnavailableError("the disk is full")
        return await super().close(turn)


async def test_a_connection_is_served_on_while_its_closings_wait(tmp_path: Path) -> None:
    """Ten turns one after the other are answered before one of them is closed; then all of them are."""
    ledger = SlowToClose()
    async with world(tmp_path, ledger=ledger) as w:
        for _ in range(10):
            assert (await w.chat())[0] == 200
        assert (len(ledger.opened), ledger.closed, ledger.lazily) == (10, [], [True] * 10)
        ledger.closing.set()
        await w.gateway._turns.drain()
        assert {turn.turn for turn in ledger.closed} == {turn.turn for turn in ledger.opened}


async def test_a_closing_that_fails_after_its_answer_is_told(tmp_path: Path) -> None:
    """The client has its answer; the log says which turn stays open, and nothing is left waiting."""
    ledger = SlowToClose()
    async with world(tmp_path, ledger=ledger) as w:
        with capture_logs() as logs:
            assert (await w.chat())[0] == 200
            ledger.broken = True
            ledger.closing.set()
            await w.gateway._turns.drain()
            await asyncio.sleep(0)
        told = [each for each in logs if each["event"] == "turn.not_closed"]
        assert [each["turn"] for each in told] == [turn.turn for turn in ledger.opened]
        assert not w.gateway._turns._closing
