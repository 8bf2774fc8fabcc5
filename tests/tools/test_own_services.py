"""Subsystems as tools show them: their state, and the end of their output as far as it fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from epad import EpadError
from epad.answers.status import Status
from epad.gate.tiers import Tier
from epad.tools.own import OwnCall, OwnToolError
from epad.tools.own_services import MOST_BYTES, MOST_LINE, Services, service_tools
from epad.tools.sessions import Session

HELD = {"name": "chat", "state": "quarantined", "restarts": 2, "hold": {"rung": "freeze", "reason": "a loop"}}
STATUS = cast("Status", {"phase": "QUARANTINE", "subsystems": [HELD]})


async def ask(tool: str, printed: Sequence[str] | EpadError = (), **arguments: object) -> Any:
    async def read(_: str, count: int) -> Sequence[str]:
        if isinstance(printed, EpadError):
            raise printed
        return printed[-count:]

    tools = service_tools(Services(lambda: STATUS, read))
    return await tools[tool](OwnCall(Session("s", "agent", Tier.ANALYST), "t", arguments))


async def test_a_subsystem_is_shown_with_its_hold() -> None:
    said = await ask("service_status", name="chat")
    assert (said.phase, said.state, said.hold, said.reason, said.restarts) == (
        "QUARANTINE", "quarantined", "freeze", "a loop", 2,
    )  # fmt: skip


@pytest.mark.parametrize(("tool", "argument"), [("service_status", "name"), ("logs_tail", "subsystem")])
async def test_an_unknown_name_is_told_with_those_that_there_are(tool: str, argument: str) -> None:
    """However long it is."""
    with pytest.raises(OwnToolError, match="no subsystem 'xxx") as failed:
        await ask(tool, **{argument: "x" * 5_000})
    assert failed.value.hint == "there are: chat"
    assert len(str(failed.value)) < 200


async def test_the_last_lines_that_fit_are_shown() -> None:
    """Never more than an answer may have; what is cut is the beginning."""
    lines = [f"{number} " + "\\" * 3_000 for number in range(200)]
    said = await ask("logs_tail", lines, subsystem="chat", lines=200)
    assert said.truncated
    assert said.lines[-1].startswith("199 ")
    assert len(said.lines[-1]) == MOST_LINE
    assert sum(2 * len(line) for line in said.lines) <= MOST_BYTES
    whole = await ask("logs_tail", ["a", "b"], subsystem="chat", lines=1)
    assert (whole.lines, whole.truncated) == (["b"], False)


async def test_a_subsystem_without_a_log_says_so() -> None:
    """In the words of the operation."""
    with pytest.raises(OwnToolError, match="in systemd's journal"):
        await ask("logs_tail", EpadError("it is in systemd's journal"), subsystem="chat")
