"""The rows of bench/confined_children.py: a daemon with a bug in how it outlives itself turns the right ones red."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from machine_lacks import is_lacking

sys.path.append(str(Path(__file__).parents[1] / "bench"))
from confined_children import rows_with

pytestmark = pytest.mark.skipif(is_lacking("user namespaces"), reason="no user namespace of one's own here")


@pytest.mark.parametrize(
    ("plant", "red"),
    [("answers-when-dead", "answered while none ran"), ("loses-one", "adopted as they were")],
)
def test_a_planted_bug_turns_its_row_red(plant: str, red: str) -> None:
    """And not the other of the two."""
    counted = [row for row in rows_with(plant, children=2) if row.unit == ""]
    assert len(counted) == 2
    assert [row.claim.rpartition(": ")[2] for row in counted if not row.met] == [red]
