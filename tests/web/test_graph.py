"""The dependency graph: providers to the left of those that need them, no two in one place."""

from __future__ import annotations

from fake_operations import subsystem
from hypothesis import given
from hypothesis import strategies as st

from epad.web.graph import dependency_graph, layout


@st.composite
def _graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"n{i}" for i in range(draw(st.integers(0, 12)))]
    return {
        name: draw(st.lists(st.sampled_from(names[:i]), unique=True, max_size=3)) if i else []
        for i, name in enumerate(names)
    }


@given(_graphs())
def test_every_arrow_points_to_the_right(depends_on: dict[str, list[str]]) -> None:
    """So it can be read like a sentence, and no two boxes lie on each other."""
    places = layout(depends_on)
    assert set(places) == set(depends_on)
    assert len(set(places.values())) == len(places)
    for name, others in depends_on.items():
        assert all(places[other].column < places[name].column for other in others)


def test_the_picture_and_its_words() -> None:
    """Each box leads to its page, and who cannot see the picture is told the same."""
    picture = dependency_graph([subsystem("model"), subsystem("chat", depends_on=["model", "gone"])])
    assert 'href="/subsystems/model"' in picture
    assert "chat depends on model, gone" in picture
    assert picture.count('class="arrow"') == 1


def test_a_hung_or_long_named_one() -> None:
    """Hung is shown as its state; a long name is cut, for its box has a width."""
    long = "a" * 40
    picture = dependency_graph([subsystem(long, hung=True), subsystem("b", depends_on=[long])])
    assert "state-hung" in picture
    assert "a" * 18 + "…" in picture


def test_no_graph_where_no_one_depends_on_anyone() -> None:
    """A picture of boxes alone says nothing that the table does not."""
    assert dependency_graph([subsystem("a"), subsystem("b")]) == ""
