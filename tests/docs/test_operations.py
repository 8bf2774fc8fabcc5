"""The table of docs/operations.md is what the registry and the gate say."""

from __future__ import annotations

import runpy
from typing import Any

from document_blocks import ROOT

SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "docs/operations.py"))


def test_the_operations_are_as_the_registry_has_them() -> None:
    """Written anew it is the same; if not: python docs/operations.py."""
    text = SCRIPT["DOCUMENT"].read_text()
    assert SCRIPT["BEGIN"] in text
    assert SCRIPT["written"](text) == text


def test_a_right_that_is_told_wrongly_is_found() -> None:
    """Whoever may not stop a subsystem is not said to."""
    told = SCRIPT["DOCUMENT"].read_text().replace("| done | refused |", "| done | done |")
    assert SCRIPT["written"](told) != told
