"""The rooms in docs/design.md are those of the code."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "docs/rooms.py"))


def test_the_rooms_are_as_the_code_has_them() -> None:
    """Written anew they are the same; if not: python docs/rooms.py."""
    text = SCRIPT["DOCUMENT"].read_text()
    assert SCRIPT["BEGIN"] in text
    assert SCRIPT["written"](text) == text


def test_a_room_that_is_told_wrongly_is_found() -> None:
    """An arrow that is gone, or a room that was renamed, shows."""
    text = SCRIPT["DOCUMENT"].read_text()
    assert SCRIPT["written"](text.replace("`ledger/`", "`book/`")) != text.replace("`ledger/`", "`book/`")
