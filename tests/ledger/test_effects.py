"""The states in which tools have left a target, as the ledger has them."""

from __future__ import annotations

from pathlib import Path

from ledger_world import open_ledger

from epad.ledger.effects import states_of
from epad.ledger.entry import CloseTool
from epad.ledger.record import Effect, ToolOutcome


async def test_the_newest_state_of_a_target_comes_first(tmp_path: Path) -> None:
    """Effects on other targets, and of what was removed, are none."""
    ledger = await open_ledger(tmp_path / "ledger.db")
    for number, effect in enumerate(
        (
            Effect("vault", b"\x01" * 32, b"\x02" * 32),
            Effect("a.txt", None, b"\x09" * 32),
            Effect("vault", b"\x02" * 32, b"\x03" * 32),
            Effect("vault", b"\x03" * 32, None),
        )
    ):
        turn = f"{number:032x}"
        closing = CloseTool(turn, "chat", "memory_store", "s", ToolOutcome.REFUSED, effects=(effect,))
        await ledger.close_tool(closing)
    states = await ledger.read(lambda connection: states_of(connection, "vault"))
    await ledger.close()

    assert states == ("03" * 32, "02" * 32)
