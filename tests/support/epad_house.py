"""Configurations and ledger turns for tests of the daemon's own modules."""

from __future__ import annotations

from epad_story import BOOT, shipped

from epad.configuration.schema import Config, SubsystemConfig
from epad.ledger.entry import CloseTurn, OpenTurn
from epad.ledger.record import Outcome, UsageSource
from epad.ledger.store import Ledger

__all__ = ["BOOT", "configured", "turn"]


def configured(**subsystems: SubsystemConfig) -> Config:
    """The shipped configuration with these subsystems."""
    config = shipped()
    fields = {name: getattr(config, name) for name in config.__struct_fields__}
    return Config(**{**fields, "subsystems": subsystems})


async def turn(
    ledger: Ledger,
    number: int,
    *,
    subsystem: str = "chat",
    reserved_tokens: int = 400,
    charged_tokens: int = 30,
    outcome: Outcome | None = Outcome.DONE,
) -> None:
    """Write a turn; without an outcome it is opened and never closed."""
    identity = f"{number:032x}"
    await ledger.open_turn(
        OpenTurn(
            turn=identity,
            subsystem=subsystem,
            dialect="openai",
            model="embedded-lexical-defender",
            prompt_bound=40,
            output_cap=60,
            reserved_tokens=reserved_tokens,
            request_sha256=number.to_bytes(32, "big"),
        )
    )
    if outcome is None:
        return
    await ledger.close_turn(
        CloseTurn(
            turn=identity,
            subsystem=subsystem,
            outcome=outcome,
            input_tokens=min(20, charged_tokens),
            output_tokens=max(charged_tokens - 20, 0),
            charged_tokens=charged_tokens,
            usage_source=UsageSource.USAGE,
            http_status=200,
        )
    )
