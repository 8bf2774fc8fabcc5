"""Every tool is called with the examples of its own metadata, and the result checked against its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from tool_process import ToolWorker, World, tool_world

from runners.tools import catalogue
from runners.tools.catalogue import Tool

TOOLS = catalogue.load(catalogue.CATEGORIES)
ROWS = [(tool, example) for tool in TOOLS.values() for example in tool.meta.examples]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with tool_world(tmp_path_factory.mktemp("examples"), ",".join(catalogue.CATEGORIES)) as made:
        yield made


@pytest.fixture
def worker(world: World) -> ToolWorker:
    return world.fresh()


@pytest.mark.parametrize(
    ("tool", "example"), ROWS, ids=lambda value: getattr(getattr(value, "meta", None), "name", "")
)
def test_a_tool_works_as_its_example_says(worker: ToolWorker, tool: Tool, example: Mapping[str, Any]) -> None:
    """In a workspace that has what the examples name."""
    result = worker(tool.meta.name, **example)
    checked = msgspec.convert(result, tool.meta.result)
    assert msgspec.to_builtins(checked) == result


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda tool: tool.meta.name)
def test_a_wrong_argument_is_named(worker: ToolWorker, tool: Tool) -> None:
    """As an error that the model can read, with the names that there are."""
    said = worker.refusal(tool.meta.name, surely_not_an_argument=1)
    assert "wrong arguments" in said
    assert next(iter(tool.meta.input_schema["properties"])) in said
