"""`epactl tools` and `epactl trace`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from blank_answer import blank
from control_door import Door

from epad.answers.tools import Standing, ToolLine, Trace, TracedSession, TracedTurn
from epad.epactl import main

SESSION, MODEL, WRITE, REFUSED = "5" * 32, "1" * 32, "2" * 32, "3" * 32


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(main.main, ["--socket", str(door.path), *words])


def tool(name: str, **callers: str) -> ToolLine:
    standings = {
        one: msgspec.convert({"may": may, "row": "W2/tier", "why": "not for this tier"}, Standing)
        for one, may in callers.items()
    }
    return msgspec.convert(
        {**blank(ToolLine), "name": name, "category": "files", "risk": "W1", "callers": standings}, ToolLine
    )


def turn(turn_name: str, **facts: Any) -> TracedTurn:
    plain = {
        **blank(TracedTurn),
        "turn": turn_name,
        "began_at": "2026-01-01T00:00:00.000+00:00",
        "ended_at": "then",
    }
    return msgspec.convert({**plain, **facts}, TracedTurn)


def session() -> TracedSession:
    plain = blank(TracedSession)
    return msgspec.convert(
        {**plain, "session": SESSION, "subsystem": "chat", "tier": "author"}, TracedSession
    )


def page(*turns: TracedTurn, after: int = 0) -> Trace:
    return {
        "session": session(),
        "sessions": [session()],
        "spawned": [],
        "turns": list(turns),
        "after": after,
    }


MODEL_TURN = turn(MODEL, kind="model", name="qwen", outcome="done", input_tokens=7, output_tokens=8)
WRITE_TURN = turn(
    WRITE, kind="tool", name="file_write", outcome="done", row="W1/NORMAL", parent=MODEL,
    effects=[{"target": "a.txt", "before": None, "after": "22" * 32}],
)  # fmt: skip
REFUSED_TURN = turn(
    REFUSED, kind="tool", name="file_delete", outcome="refused", reason="tier_too_low", row="W2/tier"
)


async def test_the_tools_are_listed_with_who_may_call_them(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that takes consent says so, one for nobody too; a daemon without tools says how to get them."""
    assert await epactl(door, "tools") == 0
    assert "[tools] enabled = true" in capsys.readouterr().out
    door.operations.tool_list = {
        "enabled": True,
        "tiers": {"chat": "author", "wargame": "operator"},
        "tools": [tool("file_delete", chat="no", wargame="consent"), tool("x", chat="no", wargame="no")],
    }
    assert await epactl(door, "tools") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-2:] == ["wargame", "(consent)"]
    assert lines[2].split()[-1] == "nobody"


async def test_the_tools_of_one_subsystem_are_listed(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason of each that it may not call; a subsystem without tools is a wrong command line."""
    door.operations.tool_list = {
        "enabled": True, "tiers": {"chat": "author"}, "tools": [tool("a", chat="yes"), tool("b", chat="no")]
    }  # fmt: skip
    assert await epactl(door, "tools", "chat") == 0
    out = capsys.readouterr().out
    assert "not for this tier" in out
    assert out.endswith("chat (author) may call 1 of 2 tools\n")
    assert await epactl(door, "tools", "chat", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)["tools"][0]["callers"]) == ["chat"]
    assert await epactl(door, "tools", "nobody") == 2


async def test_a_trace_is_a_tree(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """A tool's turn below the model's that asked for it, with row, outcome and effects."""
    door.operations.traces["chat"] = {0: page(MODEL_TURN, REFUSED_TURN, WRITE_TURN)}
    assert await epactl(door, "trace", "chat") == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert "model qwen  done  7 in, 8 out" in lines[0]
    assert lines[1].startswith("  2026")
    assert "file_write  done  W1/NORMAL" in lines[1]
    assert lines[2] == "      made a.txt  222222222222"
    assert "file_delete  refused: tier_too_low  W2/tier" in lines[3]
    assert len(lines) == 4


async def test_a_trace_goes_through_all_pages(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """As words, as one document and as lines; a tool whose model's turn is on another page names it."""
    door.operations.traces["chat"] = {0: page(MODEL_TURN, after=9), 9: page(after=10), 10: page(WRITE_TURN)}
    assert await epactl(door, "trace", "chat") == 0
    assert f"asked for by {MODEL}" in capsys.readouterr().out
    assert await epactl(door, "trace", "chat", "--json") == 0
    assert [one["turn"] for one in json.loads(capsys.readouterr().out)["turns"]] == [MODEL, WRITE]
    assert await epactl(door, "trace", "chat", "-o", "jsonl") == 0
    assert [json.loads(line)["turn"] for line in capsys.readouterr().out.splitlines()] == [MODEL, WRITE]
    assert await epactl(door, "trace", "chat", "-n", "1", "--json") == 0
    assert [one["turn"] for one in json.loads(capsys.readouterr().out)["turns"]] == [WRITE]


async def test_sessions_are_found_by_their_subsystem(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """`--sessions` lists them; where there is none that is no error, and an unknown name is one."""
    door.operations.traces["chat"] = {0: page()}
    assert await epactl(door, "trace", "chat", "--sessions") == 0
    assert SESSION in capsys.readouterr().out
    assert await epactl(door, "trace", "wargame") == 0
    assert "no session of wargame is recorded" in capsys.readouterr().out
    assert await epactl(door, "trace", "nobody") == 4


async def test_a_file_name_reaches_the_terminal_as_text(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path is written by an agent: it must not move the cursor."""
    nasty = {**WRITE_TURN, "effects": [{"target": "a\x1b[2J", "before": None, "after": None}]}
    door.operations.traces["chat"] = {0: page(msgspec.convert(nasty, TracedTurn))}
    assert await epactl(door, "trace", "chat") == 0
    assert "\x1b" not in capsys.readouterr().out
