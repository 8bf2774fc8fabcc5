"""How fast a figure grows."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from probes.vram.growth import LEAST_POINTS, POINTS, Growth, theil_sen


@given(
    slope=st.floats(-1e3, 1e3),
    outliers=st.lists(st.floats(-1e9, 1e9), max_size=5),
    seed=st.integers(0, 100),
)
def test_a_few_outliers_do_not_move_the_slope(slope: float, outliers: list[float], seed: int) -> None:
    """Up to a quarter of the points may be anything, wherever they stand."""
    points = [(float(at), slope * at) for at in range(24)]
    for at, value in zip(random.Random(seed).sample(range(24), len(outliers)), outliers, strict=True):
        points[at] = (float(at), value)
    assert abs(theil_sen(points) - slope) <= 1e-6 * max(1.0, abs(slope))


@given(st.integers(1, 24))
def test_no_slope_is_told_before_half_of_the_window_is_known(points: int) -> None:
    """A forecast from two samples is a guess."""
    growth = Growth(600)
    for number in range(points):
        growth.add(20.0 * number, 5.0 * number)
    known = points >= LEAST_POINTS and 20.0 * (points - 1) >= 300
    assert (growth.per_second is not None) == known
    if known:
        assert growth.per_second == 0.25


def test_what_was_gained_is_the_latest_less_the_first() -> None:
    """Also between two points that are kept."""
    growth = Growth(320)
    assert (growth.grown, growth.seconds) == (0.0, 0.0)
    growth.add(0, 100)
    growth.add(1, 900)
    assert (growth.grown, growth.seconds) == (800, 1)


def test_the_window_moves_and_is_bounded() -> None:
    """What left it counts no more, whatever the rate of samples."""
    growth = Growth(100)
    for tenth in range(10_000):
        growth.add(tenth / 10, 1_000.0 if tenth < 5_000 else 0.0)
    assert growth.grown == 0
    assert 90 <= growth.seconds <= 100
    assert len(growth._points) <= POINTS
