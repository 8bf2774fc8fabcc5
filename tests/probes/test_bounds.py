"""A bound is checked, worded and told as its row says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.bounds import TWO_INTERVALS, Bound, BoundError, check, check_rung
from statemachine.rung import Rung


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
        (Bound("value", least=1, most=3, why="so it is"), [1, 3], [0, 4], "must be from 1 to 3: so it is"),
        (Bound("value", above=0, below=math.inf), [1], [0, math.inf], "must be above 0 and finite"),
        (Bound("value", least="other", below=9), [5, 8], [4, 9], "must be at least other (5) and below 9"),
        (Bound("value", least=TWO_INTERVALS), [4], [3], "must be at least twice interval_seconds (4)"),
    ],
)
def test_every_edge(bound: Bound, within: list[float], beyond: list[float], words: str) -> None:
    """Within it nothing is said; beyond it, the key, the value, the bound and what it was held against."""
    for value in within:
        check("toy", Numbers(value), [bound])
    for value in beyond:
        with pytest.raises(BoundError) as told:
            check("toy", Numbers(value), [bound], under=("deep", "er"))
        error = told.value
        assert (error.probe, error.key, error.bound) == ("toy", ("deep", "er", "value"), words)
        assert error.others == tuple(("deep", "er", key) for key in bound.others)
        assert str(error) == f"probes.toy.deep.er.value ({value:g}) {words}"


@given(st.permutations([Bound("value", most="other"), Bound("other", least=0), Bound("value", above=0)]))
def test_what_is_wrong_by_itself_is_told_first(bounds: list[Bound]) -> None:
    """However the rows stand: a number that is out of all bounds is no reason to blame its neighbour."""
    with pytest.raises(BoundError) as told:
        check("toy", Numbers(3.0, other=-1.0), bounds)
    assert told.value.key == ("other",)


@pytest.mark.parametrize("label", ["frezee", "FREEZE", ""])
def test_a_rung_that_there_is_not_is_told_with_those_there_are(label: str) -> None:
    with pytest.raises(
        BoundError, match=r"^probes\.toy\.a\.rung \(.*\) must be a rung: open, throttle, block, "
    ):
        check_rung("toy", ("a", "rung"), label)


@pytest.mark.parametrize("rung", list(Rung))
def test_a_rung_that_there_is_is_taken(rung: Rung) -> None:
    check_rung("toy", ("rung",), rung.label)
