"""The catalogue of tools: loaded from a child, checked, and the same to the byte each time."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from rooms import TOOL_DECLARATIONS

from epad.gate.tool_risk import ToolRisk
from epad.tools.catalogue import CatalogueError, load, parse

ONE: dict[str, Any] = {
    "name": "file_read", "category": "files", "description": "Read.", "risk": "R1+W1", "timeout": 5,
    "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"}, "sha256": "0" * 64,
}  # fmt: skip


def printed(*changes: dict[str, Any]) -> bytes:
    return json.dumps([{**ONE, **change} for change in changes]).encode()


async def test_the_real_tools_are_loaded_from_a_child() -> None:
    """Twice, with the same bytes; the files category is among them."""
    first, second = await load(), await load()

    assert first.sha256 == second.sha256
    assert msgspec.json.encode(first.definitions) == msgspec.json.encode(second.definitions)
    assert list(first.definitions) == sorted(first.definitions)
    assert first.definitions["file_read"].category == "files"
    assert first.risks["file_read"] is ToolRisk.READS_WORKSPACE
    assert "files" in first.categories


def test_the_daemon_imports_no_tool() -> None:
    """Their libraries, and whatever is wrong with them, stay in children; modules that only declare are no tools."""
    look = "import sys, epad.tools.call, epad.tools.worker_cell; print([m for m in sys.modules if 'ners.tools' in m])"
    done = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True)

    assert set(ast.literal_eval(done.stdout)) <= {
        "runners.tools",
        *(f"runners.tools.{name}" for name in TOOL_DECLARATIONS),
    }


def test_the_gravest_of_its_risks_is_a_tools_risk() -> None:
    """A tool that may write is judged as one that does."""
    assert parse(printed({})).risks == {"file_read": ToolRisk.CHANGES_WORKSPACE}


def test_a_changed_definition_changes_the_sum() -> None:
    """Whatever the order in which they are printed."""
    other = {"name": "file_write", "sha256": "1" * 64}
    both, turned = parse(printed({}, other)), parse(printed(other, {}))

    assert both == turned
    assert both.sha256 != parse(printed({}, {**other, "sha256": "2" * 64})).sha256


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"[", "cannot be read"),
        (printed({"name": "File"}), "'File' is no name"),
        (printed({"name": "a" * 65}), "is no name"),
        (printed({"category": "a-b"}), "'a-b' is no name"),
        (printed({"risk": "W9"}), "file_read: 'W9' is no risk"),
        (printed({"timeout": 0}), "timeout of 0 s"),
        (printed({"sha256": "short"}), "no SHA-256"),
        (printed({"inputSchema": {}}), "inputSchema whose type is not object"),
        (printed({}, {}), "file_read is defined twice"),
        (b" " * (5 << 20), "has 5242880 bytes"),
    ],
)
def test_what_cannot_be_used_is_named(text: bytes, error: str) -> None:
    """Before any client sees it."""
    with pytest.raises(CatalogueError, match=error):
        parse(text)


@pytest.mark.parametrize(
    ("command", "seconds", "error"),
    [
        (("/nonexistent",), 5.0, "cannot be run: No such file"),
        ((sys.executable, "-c", "raise SystemExit('broken tool')"), 5.0, "ended with 1: broken tool"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), 0.05, "not printed within 0.05 s"),
    ],
)
async def test_a_child_that_prints_nothing_is_told(
    command: tuple[str, ...], seconds: float, error: str
) -> None:
    """The daemon starts without tools rather than not at all; this is the line in its log."""
    with pytest.raises(CatalogueError, match=error):
        await load(command, seconds)
