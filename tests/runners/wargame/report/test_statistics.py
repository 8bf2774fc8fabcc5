"""Intervals that have a width where others claim certainty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.wargame.report.statistics import Proportion


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 40, 0.0, 0.088),
        (30, 30, 0.886, 1.0),
        (45, 50, 0.786, 0.957),
        (900, 1000, 0.880, 0.917),
        (0, 381, 0.0, 0.00999),
    ],
)
def test_wilson_agrees_with_published_values(k: int, n: int, low: float, high: float) -> None:
    """The values of the study that this design rests on."""
    interval = Proportion(k, n).interval
    assert interval == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


@given(st.integers(1, 2_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_rate_and_has_a_width(counted: tuple[int, int]) -> None:
    """Always within 0 and 1, always around the rate, never a point."""
    share = Proportion(*counted)
    low, high = share.interval
    assert 0.0 <= low <= share.rate <= high <= 1.0
    assert high > low


def test_nothing_counted_is_no_rate() -> None:
    """0 of 0 is not 0 %."""
    assert Proportion(0, 0).rate is None
    assert str(Proportion(0, 0)) == "n/a (0 scored)"


def test_few_show_counts_but_no_percentage_as_rate() -> None:
    """Below thirty the reader gets k/n and the interval."""
    assert str(Proportion(3, 10)).startswith("3/10 [")
