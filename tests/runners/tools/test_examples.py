"""Every tool is called with the examples of its own metadata, and the result checked against its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from tool_process import World

from runners.tools import catalogue
from runners.tools.catalogue import Tool
from runners.tools.signature import is_by_daemon

TOOLS = catalogue.load(catalogue.CATEGORIES)
REFUSED = {
    **dict.fromkeys(
        ("browser_click", "browser_evaluate", "browser_fill", "browser_screenshot", "browser_snapshot"),
        "there is no page",
    ),
}
"""The tools that lack something which is not built, or that no example can name, and their words for it."""
WORKED = [tool for tool in TOOLS.values() if not is_by_daemon(tool.call)]
"""The others are called by their examples in tests/e2e/test_own_tools.py."""
TAKING = [tool for tool in TOOLS.values() if tool.meta.input_schema["properties"]]
ROWS = [(tool, example) for tool in WORKED for example in tool.meta.examples]


@pytest.mark.parametrize(
    ("tool", "example"), ROWS, ids=lambda value: getattr(getattr(value, "meta", None), "name", "")
)
def test_a_tool_works_as_its_example_says(world: World, tool: Tool, example: Mapping[str, Any]) -> None:
    """In a workspace that has what the examples name."""
    if said := REFUSED.get(tool.meta.name):
        assert said in world.worker.refusal(tool.meta.name, **example)
        return
    result = world.worker(tool.meta.name, **example)
    checked = msgspec.convert(result, tool.meta.result)
    assert msgspec.to_builtins(checked) == result


@pytest.mark.parametrize(
    "tool",
    [tool for tool in TOOLS.values() if tool.meta.input_schema["properties"]],
    ids=lambda tool: tool.meta.name,
)
def test_a_wrong_argument_is_named(world: World, tool: Tool) -> None:
    """As an error that the model can read, with the names that there are."""
    said = world.worker.refusal(tool.meta.name, surely_not_an_argument=1)
    assert "wrong arguments" in said
    assert next(iter(tool.meta.input_schema["properties"])) in said
