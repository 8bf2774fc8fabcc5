"""Names that every client takes, whatever a server calls its tools."""

from __future__ import annotations

import re

import pytest

from epad.foreign.names import MOST_CHARACTERS, held_name, listed_name, with_dot

HARD = [
    "read file",
    "read.file",
    "a/b",
    "\u0444\u0430\u0439\u043b",
    "x" * 200,
    "x" * 199 + "y",
    "",
    "a\n",
    "-",
    "__",
    "a" * 64,
    "A\u200b",
]


@pytest.mark.parametrize("tool", [*HARD, "read_file", "get-tiny-image", "a__b", "run_0123abcd"])
@pytest.mark.parametrize("server", ["a", "mcp-memory", "x" * 32])
def test_every_name_is_taken_by_clients_and_stays(server: str, tool: str) -> None:
    """By OpenAI's rule; the same at each start."""
    name = listed_name(server, tool)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
    assert len(name) <= MOST_CHARACTERS
    assert name.startswith(f"{server}__")
    assert listed_name(server, tool) == name


def test_no_two_tools_have_one_name() -> None:
    """Neither two that are cut alike, nor one that is called as another is cut."""
    names = [listed_name("a", tool) for tool in HARD]
    assert len(set(names)) == len(HARD)
    cut = listed_name("a", "x" * 200)
    assert listed_name("a", cut.removeprefix("a__")) != cut


def test_people_may_write_a_dot() -> None:
    assert with_dot("files__read") == "files.read"
    assert with_dot("git_status") == "git_status"
    assert held_name("tool:files.read@agent") == "tool:files__read@agent"
    assert held_name("tool:git_commit") == "tool:git_commit"
    assert held_name("tools-files") == "tools-files"
