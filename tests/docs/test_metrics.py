"""The table of series in docs/monitoring.md is what the rooms declare."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "docs/metrics.py"))


def test_the_series_are_as_the_rooms_declare_them() -> None:
    """Written anew they are the same; if not: python docs/metrics.py."""
    text = SCRIPT["DOCUMENT"].read_text()
    assert SCRIPT["BEGIN"] in text
    assert SCRIPT["written"](text) == text


def test_a_series_that_is_told_wrongly_is_found() -> None:
    text = SCRIPT["DOCUMENT"].read_text()
    assert SCRIPT["written"](text.replace("Turns closed.", "Turns.")) == text
