"""`epactl memory`: what is asked of the daemon, and what a person reads."""

from __future__ import annotations

import asyncio

import pytest
from control_door import Door

from epad.epactl import main


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(main.main, ["--socket", str(door.path), *words])


async def test_a_list_and_a_check(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is stored; a session's rows are hidden."""
    assert await epactl(door, "memory", "list") == 0
    assert capsys.readouterr().out == "nothing is stored\n"
    assert await epactl(door, "memory", "list", "--session", "abc") == 0
    assert "hidden: all rows of session abc" in capsys.readouterr().out
    assert await epactl(door, "memory", "verify") == 0
    assert "every row is as it was appended" in capsys.readouterr().out


async def test_orders_carry_the_name_and_the_session(door: Door) -> None:
    """And their reason."""
    assert await epactl(door, "memory", "promote", "fact", "--session", "abc", "--reason", "true") == 0
    assert await epactl(door, "memory", "retract", "--session", "abc", "--reason", "bad", "--yes") == 0
    assert [order[0] for order in door.operations.orders] == ["promote_memory", "retract_memory"]


async def test_a_retraction_of_nothing_is_refused(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the daemon is asked."""
    assert await epactl(door, "memory", "retract", "--reason", "r", "--yes") != 0
    assert "--session" in capsys.readouterr().err
    assert door.operations.orders == []
