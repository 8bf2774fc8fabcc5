"""The table of tools in docs/tools.md is what their metadata say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "docs/tools.py"))


def test_the_tools_are_those_of_the_catalogue() -> None:
    """Written anew they are the same; if not: python docs/tools.py."""
    text = SCRIPT["DOCUMENT"].read_text()
    assert SCRIPT["BEGIN"] in text
    assert SCRIPT["written"](text) == text


def test_a_tool_that_is_told_wrongly_is_found() -> None:
    """With another risk, say."""
    text = SCRIPT["DOCUMENT"].read_text()
    assert SCRIPT["written"](text.replace("`file_delete` W2", "`file_delete` W1")) == text
