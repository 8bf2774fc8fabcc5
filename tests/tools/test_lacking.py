"""What a machine lacks for tools."""

from __future__ import annotations

import ast
from pathlib import Path

from epad.tools.lacking import has_library, has_program, lacking
from runners.tools.catalogue import LIBRARIES

RUNNERS = Path(__file__).parents[2] / "runners/tools"
# Patterns are matched by the standard library without it, so no tool fails.
SPARED = {"re2"}


def test_a_missing_program_and_a_missing_library_come_with_their_fix() -> None:
    """Of the categories that were asked about."""
    found = list(lacking(["data", "git", "text"], lambda _: False, lambda name: name != "yaml"))
    assert [(one.category, one.what) for one in found] == [
        ("data", "the library pyyaml is not installed"),
        ("git", "the program git is not installed"),
    ]
    assert found[0].fix == "pip install 'epad[tools]'"
    assert list(lacking(["git"], lambda _: True)) == []
    (one,) = lacking(["browser"], browser=str)
    assert one.what == "Chromium is not installed"
    assert list(lacking(["browser"], browser=lambda: "/usr/bin/chromium")) == []


def test_it_is_looked_for_where_it_is() -> None:
    """Without importing it."""
    assert has_library("json")
    assert not has_library("no_such_library")
    assert not has_program("no-such-program")


def test_each_library_that_a_tool_does_without_is_in_the_list() -> None:
    """As the tools' own modules name them."""
    loaded = {
        str(call.args[0].value).partition(".")[0]
        for file in RUNNERS.glob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) == "optional.load"
        and isinstance(call.args[0], ast.Constant)
    }
    assert loaded - SPARED == {name for names in LIBRARIES.values() for name in names}
