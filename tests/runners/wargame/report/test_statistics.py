"""Intervals that have a width where others claim certainty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.wargame.report.analysis import family_intervals
from runners.wargame.report.rates import Rates
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
    assert share.interval is not None
    assert share.rate is not None
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


def test_families_that_differ_say_less_than_their_rounds_do() -> None:
    """Eight families all caught or all missed are eight observations, whatever the number of their rounds."""
    nothing, none_of_many = Proportion(0, 0), Proportion(0, 50)
    mixed = {f"family-{n}": Rates(Proportion(50 * (n % 2), 50), none_of_many) for n in range(8)}
    found = family_intervals(mixed)
    assert found.catch is not None
    wilson = Proportion(200, 400).interval
    assert wilson is not None
    assert found.catch[0] < wilson[0] - 0.05
    assert found.catch[1] > wilson[1] + 0.05
    assert found.false_alarm is None, "drawn again, nothing stays nothing: that is no interval"
    assert family_intervals({}).catch is None
    assert family_intervals({"one": Rates(Proportion(3, 9), nothing)}).catch is None
