"""A bound is checked, worded and told as its row says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from probes.bounds import TWO_INTERVALS, Bound, faults


@dataclass
class Numbers:
    value: float
    other: float = 5.0
    interval_seconds: float = 2.0


@pytest.mark.parametrize(
    ("bound", "within", "beyond", "words"),
    [
        (Bound("value", above=0), [0.1, math.inf], [0, -1, math.nan], "must be above 0"),
        (Bound("value", least=2), [2, 3], [1.9], "must be at least 2"),
        (Bound("value", below=1), [0.9], [1, 2], "must be below 1"),
        (Bound("value", most=1), [1, -4], [1.1], "must be at most 1"),
        (Bound("value", most="other", why="so it is"), [1, 5], [6], "must be at most other (5): so it is"),
        (Bound("value", least="other", below=9), [5, 8], [4, 9], "must be at least other (5) and below 9"),
        (Bound("value", least=TWO_INTERVALS), [4], [3], "must be at least twice interval_seconds (4)"),
    ],
)
def test_every_edge(bound: Bound, within: list[float], beyond: list[float], words: str) -> None:
    """Within it nothing is said; beyond it, the key, the value, the bound and what it was held against."""
    for value in within:
        assert list(faults(Numbers(value), [bound])) == []
    for value in beyond:
        (fault,) = faults(Numbers(value), [bound], under=("deep", "er"))
        assert fault.key == ("deep", "er", "value")
        assert fault.text == f"is {value:g}, and {words}"
        assert fault.others == tuple(("deep", "er", key) for key in bound.others)


def test_every_bound_that_is_not_met_is_told() -> None:
    """In the order of the rows."""
    bounds = [Bound("value", most="other"), Bound("other", least=0), Bound("value", above=0)]
    assert [fault.key for fault in faults(Numbers(3.0, other=-1.0), bounds)] == [("value",), ("other",)]
