"""`epactl undo`."""

from __future__ import annotations

import asyncio
import json

import pytest
from control_door import Door

from epad.answers.tools import UndonePaths
from epad.epactl import main

TURN = "2" * 32


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(
        main.main, ["--socket", str(door.path), "undo", "chat", "--reason", "r", *words]
    )


def undone(**facts: object) -> UndonePaths:
    plain = {"restored": [], "as_before": [], "changed_since": [], "not_kept": [], "why": ""}
    return {"turn": TURN, "tool": "file_write", **plain, **facts}  # type: ignore[typeddict-item]


async def test_a_rehearsal_names_each_path(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """What would be put back, and what would be left; a name in it moves no cursor."""
    door.operations.undone = [
        undone(restored=["a.txt"], changed_since=["b\x1b[2J.txt"], not_kept=["c"], as_before=["d"])
    ]
    assert await epactl(door, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"file_write {TURN}",
        "    would put back a.txt",
        "    is as before d",
        "    would leave alone, changed since: b?[2J.txt",
        "    would leave alone, nothing was kept of: c",
        "nothing was done",
    ]
    assert await epactl(door, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["turns"][0]["restored"] == ["a.txt"]
    assert door.operations.orders == []


async def test_what_cannot_be_told_is_said(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """The worker could not be started."""
    door.operations.undone = [undone(why="no worker")]
    assert await epactl(door, "--dry-run") == 0
    assert "cannot be told: no worker" in capsys.readouterr().out


async def test_an_undo_that_left_something_has_failed(door: Door) -> None:
    """The order was given either way."""
    assert await epactl(door, "--yes") == 0
    door.operations.failed = True
    assert await epactl(door, "--yes") == 1
    assert [order[0] for order in door.operations.orders] == ["undo", "undo"]
