"""The tools and who may call them, a session's trace, and the reasons of one turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ledger_world import closing, open_ledger, opening, turn_id
from scripted_worker import catalogue

from epad.gate.tiers import Tier
from epad.gate.tool_profile import Profile
from epad.ledger.entry import CloseTool, NoteSession, OpenTool
from epad.ledger.record import Effect, ToolOutcome
from epad.ledger.store import Ledger
from epad.operations.protocol import ConflictError, UnknownIdError, UnknownSubsystemError
from epad.operations.tool_looks import ToolLooks, ToolsInForce
from epad.operations.undo_orders import UndoOrders

SESSION = "5" * 32
HASH = bytes(32)
CALLERS = {
    "author": (Tier.AUTHOR, Profile()),
    "narrow": (Tier.OPERATOR, Profile(("echo",))),
    "operator": (Tier.OPERATOR, Profile()),
}


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await open_ledger(tmp_path / "ledger.db")
    yield opened
    await opened.close()


def looks(ledger: Ledger) -> ToolLooks:
    return ToolLooks(
        ledger, ToolsInForce(catalogue, lambda: CALLERS), lambda: {"chat": None}, UndoOrders(ledger, None)
    )


async def write_a_session(ledger: Ledger) -> None:
    """A model asks for a write; then a delete is refused; then the daemon dies in another write."""
    await ledger.note_session(NoteSession(SESSION, "chat", True, 2, by="configuration"))
    await ledger.open_turn(opening(1, subsystem="chat"))
    await ledger.close_turn(closing(1, subsystem="chat"))
    parent = turn_id(1)
    for number in (2, 4):
        opened = OpenTool(
            turn_id(number), "chat", "file_write", SESSION, 2, "W1", 0, "W1/NORMAL", HASH, HASH, parent
        )
        await ledger.open_tool(opened)
    effects = (Effect("a.txt", None, HASH), Effect("b.txt", HASH, None))
    await ledger.close_tool(
        CloseTool(
            turn_id(2), "chat", "file_write", SESSION, ToolOutcome.DONE, effects=effects, undo=turn_id(2)
        )
    )
    await ledger.close_tool(
        CloseTool(turn_id(3), "chat", "file_delete", SESSION, ToolOutcome.REFUSED, "W2/tier", "tier_too_low")
    )


async def test_each_subsystem_is_told_as_the_gate_would_decide(ledger: Ledger) -> None:
    """By its tier and its profile; who would need consent is told so."""
    tools = {one["name"]: one for one in looks(ledger).show()["tools"]}
    assert {name: one["may"] for name, one in tools["remove"]["callers"].items()} == {
        "author": "no", "narrow": "no", "operator": "consent"
    }  # fmt: skip
    assert {name: one["may"] for name, one in tools["echo"]["callers"].items()} == dict.fromkeys(
        CALLERS, "yes"
    )
    assert tools["remove"]["callers"]["author"]["row"] == "W2/tier"
    assert tools["remove"]["callers"]["narrow"]["row"] == "profile"
    assert (tools["write"]["risk"], tools["write"]["lowest_tier"]) == ("W1", "author")


async def test_a_daemon_without_tools_has_traces_all_the_same(ledger: Ledger) -> None:
    """They were switched off since."""
    without = ToolLooks(ledger, None, lambda: {"chat": None}, UndoOrders(ledger, None))
    assert without.show() == {"enabled": False, "tiers": {}, "tools": []}
    await write_a_session(ledger)
    assert len((await without.trace("chat", 0))["turns"]) == 4


@pytest.mark.parametrize("subject", ["chat", SESSION])
async def test_a_session_is_traced_by_its_name_or_its_subsystem(ledger: Ledger, subject: str) -> None:
    """With the model's turn, the gate's row, the outcome and the effects of each."""
    await write_a_session(ledger)
    trace = await looks(ledger).trace(subject, 0)
    assert trace["session"] is not None
    assert (trace["session"]["session"], trace["session"]["tier"]) == (SESSION, "author")
    told = [(one["kind"], one["name"], one["outcome"], one["row"], one["parent"]) for one in trace["turns"]]
    assert told == [
        ("model", "embedded-lexical-defender", "done", "", ""),
        ("tool", "file_write", "done", "W1/NORMAL", turn_id(1)),
        ("tool", "file_write", "open", "W1/NORMAL", turn_id(1)),
        ("tool", "file_delete", "refused", "W2/tier", ""),
    ]
    assert [(e["target"], e["before"] is None) for e in trace["turns"][1]["effects"]] == [
        ("a.txt", True),
        ("b.txt", False),
    ]
    assert trace["after"] == 0


async def test_a_subsystem_without_a_session_has_an_empty_trace(ledger: Ledger) -> None:
    """One that there is none of is unknown."""
    assert (await looks(ledger).trace("chat", 0))["session"] is None
    with pytest.raises(UnknownSubsystemError):
        await looks(ledger).trace("nobody", 0)


async def test_a_turn_is_explained_from_its_session_to_its_effects(ledger: Ledger) -> None:
    """Who asked, the row of the gate with tier and taint, and the deeds."""
    await write_a_session(ledger)
    chain = (await looks(ledger).explain(turn_id(2)))["chain"]
    assert [link["kind"] for link in chain] == [
        "session", "model", "gate", "tool", "result", "effect", "effect"
    ]  # fmt: skip
    assert "row W1/NORMAL let file_write pass" in chain[2]["text"]
    assert "tier author" in chain[2]["text"]
    assert f"epactl undo {turn_id(2)}" in chain[4]["text"]
    assert [link["text"] for link in chain[5:]] == ["made a.txt", "removed b.txt"]


async def test_a_refusal_is_explained(ledger: Ledger) -> None:
    """The row, in words, and that nothing was done."""
    await write_a_session(ledger)
    chain = (await looks(ledger).explain(turn_id(3)))["chain"]
    assert [link["kind"] for link in chain] == ["session", "gate", "result"]
    assert "takes the tier operator or above" in chain[1]["text"]
    assert chain[2]["text"].endswith("nothing was done")


async def test_a_turn_that_the_daemon_died_in_is_of_unknown_end(tmp_path: Path) -> None:
    """The next daemon says so; an unknown turn is no turn."""
    first = await open_ledger(tmp_path / "ledger.db")
    await write_a_session(first)
    await first.close()
    second = await open_ledger(tmp_path / "ledger.db")
    try:
        assert "died during the call" in (await looks(second).explain(turn_id(4)))["chain"][-1]["text"]
        assert (await looks(second).trace("chat", 0))["turns"][2]["outcome"] == "unknown"
        with pytest.raises(UnknownIdError):
            await looks(second).explain("f" * 32)
    finally:
        await second.close()


async def test_a_ledger_that_cannot_be_read_is_told(ledger: Ledger) -> None:
    """Not as a fault of the daemon."""
    await ledger.close()
    with pytest.raises(ConflictError, match="the ledger cannot be read"):
        await looks(ledger).explain("f" * 32)
