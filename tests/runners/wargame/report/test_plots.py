"""What stands in a plot can be read: ticks are few, names lie beside their dots, and no part is left out unsaid."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.wargame.report import plots
from runners.wargame.report.forest import MOST_PARTS, forest
from runners.wargame.report.labels import GAP, Box, Label, place
from runners.wargame.report.rates import Rates
from runners.wargame.report.statistics import Proportion
from runners.wargame.roles import ROLES

FRAME = Box(48, 12, 396, 238)
ROOM = st.tuples(st.floats(FRAME.left, FRAME.right), st.floats(FRAME.top + 7, FRAME.bottom - 7))
NAMES = [role.name for role in ROLES]


def placed(*points: tuple[float, float]) -> list[Label]:
    return place([(x, y, name) for (x, y), name in zip(points, NAMES, strict=False)], FRAME)


@given(st.lists(ROOM, min_size=5, max_size=5))
def test_no_name_lies_upon_another_or_leaves_the_plot(points: list[tuple[float, float]]) -> None:
    """Wherever five defenders lie, all in one corner too."""
    labels = placed(*points)
    assert [label.name for label in labels] == NAMES
    assert not any(a.box.overlaps(b.box) for a, b in itertools.combinations(labels, 2))
    assert all(FRAME.holds(label.box) for label in labels)


def test_a_name_stands_on_its_own_dots_side() -> None:
    """Two dots that touch: a 1,000-round night named sentinel what was tracer, and tracer what was sentinel."""
    left, right = placed((165, 150), (168, 150))
    assert left.is_left
    assert not right.is_left


def test_five_dots_in_the_best_corner_are_led_to() -> None:
    """What good defenders look like: the names that find no room beside the dots stand lower, with a line."""
    labels = placed(*[(50, 20)] * 5)
    assert [label.moved for label in labels].count(True) >= 3
    assert all(label.box.left == 50 + GAP for label in labels)


@pytest.mark.parametrize("values", [[], [0.0], [0.003], [0.7, 1.0], [3.0], [99.0], [1234.5], [5e6]])
def test_an_axis_reaches_every_value_with_few_ticks(values: list[float]) -> None:
    """Whatever was measured, from nothing to millions."""
    axis = plots.nice_axis("x", values)
    assert axis.high >= max(values, default=0.0)
    assert 2 <= len(axis.ticks) <= 7
    assert all(0.0 <= axis.share(value) <= 1.0 for value in values)


def test_a_forest_shows_the_largest_parts_and_says_of_how_many() -> None:
    """An imported set may have hundreds of families; those with the fewest rounds are in the table only."""
    parts = {f"family-{n:03}": Rates(Proportion(1, n + 1), Proportion(0, n + 1)) for n in range(100)}
    shown = forest("Families", {"<whole>": parts["family-050"]}, parts)
    assert "&lt;whole&gt;" in shown
    assert f"the {MOST_PARTS} with the most rounds of 100" in shown
    assert "family-099: catch 1.0 % (1/100)" in shown
    assert "family-075" not in shown
    nothing = Rates(Proportion(0, 0), Proportion(0, 0))
    assert "<circle" not in forest("Families", {"whole": nothing}, {})
