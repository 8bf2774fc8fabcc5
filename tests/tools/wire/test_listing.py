"""The list of tools: its bytes, its size, and search mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tool_world import MemoryTools, definition
from wire_world import Wire, wire

from epad.tools.protocol import ToolAnswer
from epad.tools.wire.listing import PINNED, SEARCH_ABOVE, Listed, Listing, host_hints
from epad.tools.wire.ranking import Ranking, words

MANY = [definition(f"tool_{number}", f"Do thing {number}.") for number in range(SEARCH_ABOVE)]


def listing(count: int) -> tuple[Listing, MemoryTools]:
    """A listing of so many tools."""
    tools = MemoryTools()
    tools.known = MANY[:count]
    return Listing(tools), tools


def names(listed: Listed) -> list[str]:
    return [each["name"] for each in json.loads(bytes(listed.tools))]


def test_forty_are_shown_and_one_more_is_searched() -> None:
    tools = MemoryTools()
    tools.known = [*MANY]
    assert len(names(Listing(tools).of(tools.caller("a")))) == SEARCH_ABOVE
    tools.known = sorted([*MANY, definition("file_read")], key=lambda each: each.name)
    assert names(Listing(tools).of(tools.caller("a"))) == ["file_read", "tool_call", "tool_search"]


def test_the_bytes_are_those_of_the_definitions_alone() -> None:
    """Two daemons, two callers: the same definitions are the same bytes; a changed one is another list."""
    one, tools = listing(5)
    other, _ = listing(5)
    first = bytes(one.of(tools.caller("a")).tools)
    assert first == bytes(other.of(tools.caller("b")).tools)
    assert one.of(tools.caller("a")) is one.of(tools.caller("b"))
    tools.known = [*tools.known[:4], definition("tool_4", "Do something else.")]
    assert bytes(one.of(tools.caller("a")).tools) != first


def test_lists_in_use_are_bounded() -> None:
    one, tools = listing(1)
    for number in range(200):
        tools.known = [definition(f"only_{number}")]
        one.of(tools.caller("a"))
    assert len(one._lists) <= 64


async def test_search_and_call(tmp_path: Path) -> None:
    """What is found is called through `tool_call`, or by its own name; wrong arguments are told to the model."""
    fish = definition(
        "fish", "Catch a fish in a river.", schema={"type": "object", "properties": {"bait": {}}}
    )
    async with wire(tmp_path, [*MANY, fish]) as w:
        found = await _call(w, "tool_search", query="catching fishes", limit=3)
        assert [each["name"] for each in found["structuredContent"]["tools"]] == ["fish"]
        assert found["structuredContent"]["tools"][0]["inputSchema"]["properties"] == {"bait": {}}
        nothing = await _call(w, "tool_search", query="zzz")
        assert (nothing["structuredContent"]["tools"], "hint" in nothing["structuredContent"]) == ([], True)
        assert w.tools.calls == []
        await _call(w, "tool_call", name="fish", arguments={"bait": "worm"})
        await _call(w, "fish", bait="fly")
        assert [each[1:3] for each in w.tools.calls] == [
            ("fish", {"bait": "worm"}),
            ("fish", {"bait": "fly"}),
        ]
        _, answer = await w.modern(
            "tools/call", {"name": "tool_call", "arguments": {"name": "nowhere", "arguments": {}}}
        )
        assert answer["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tool_search", {}),
        ("tool_search", {"query": ""}),
        ("tool_search", {"query": 5}),
        ("tool_search", {"query": "x" * 1_001}),
        ("tool_search", {"query": "x", "limit": 0}),
        ("tool_search", {"query": "x", "limit": True}),
        ("tool_search", {"query": "x", "other": 1}),
        ("tool_call", {}),
        ("tool_call", {"name": ""}),
        ("tool_call", {"name": "fish", "arguments": []}),
        ("tool_call", {"name": "tool_call", "arguments": {"name": "tool_search"}}),
    ],
)
def test_wrong_arguments(name: str, arguments: dict[str, Any]) -> None:
    """An error and a hint, and no call."""
    tools = MemoryTools(MANY)
    one, caller = Listing(tools), tools.caller("a")
    answer = one.own_answer(caller, name, arguments) or one.meant(caller, name, arguments)
    assert isinstance(answer, ToolAnswer)
    assert answer.is_error
    assert answer.content.keys() == {"error", "hint"}


def test_outside_search_mode_there_are_no_such_tools() -> None:
    one, tools = listing(3)
    caller = tools.caller("a")
    assert one.own_answer(caller, "tool_search", {"query": "x"}) is None
    assert one.meant(caller, "tool_call", {"name": "x"}) == ("tool_call", {"name": "x"})


@pytest.mark.parametrize(
    ("risk", "reads", "destroys", "outside"),
    [
        ("P", True, None, False),
        ("R2", True, None, False),
        ("W1", None, False, False),
        ("W2", None, True, False),
        ("N1", True, False, True),
        ("X2", None, True, True),
    ],
)
def test_hints_for_hosts(risk: str, reads: bool | None, destroys: bool | None, outside: bool) -> None:
    hints = host_hints(risk)
    assert hints.get("readOnlyHint") == reads
    assert hints.get("destructiveHint") == destroys
    assert hints["openWorldHint"] == outside


def test_the_rarer_word_counts_more_and_ties_keep_the_lists_order() -> None:
    tools = [
        definition("file_read", "Read a file."),
        definition("file_stat", "Show the size of a file."),
        definition("git_status", "Show the state of a repository."),
    ]
    ranking = Ranking(tools)
    assert [each.name for each in ranking.best("size of file", 3)] == ["file_stat", "file_read"]
    assert [each.name for each in ranking.best("file", 3)] == ["file_read", "file_stat"]
    assert [each.name for each in ranking.best("repositories", 3)] == ["git_status"]
    assert ranking.best("the of a", 3) == []
    assert len(ranking.best("file", 1)) == 1
    assert Ranking([]).best("file", 1) == []


def test_words() -> None:
    assert words("Searching the files, searches; file_read2") == [
        "search",
        "fil",
        "search",
        "fil",
        "read",
        "2",
    ]


async def _call(w: Wire, tool: str, /, **arguments: Any) -> Any:
    _, answer = await w.modern("tools/call", {"name": tool, "arguments": arguments})
    return answer["result"]


def test_pinned_names_are_few() -> None:
    """They are in each context."""
    assert len(PINNED) <= 10
