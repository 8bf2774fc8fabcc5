"""A plan is the same on both sides of the zygote's socket."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.cell.plan import CellPlan, Door, Syscalls, Tree, Wall

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
TREES = st.builds(
    Tree,
    base=st.sampled_from(("empty", "host")),
    read=TEXTS,
    write=TEXTS,
    protect=TEXTS,
    hide=TEXTS,
    empty=TEXTS,
    devices=TEXTS,
)
PLANS = st.builds(
    CellPlan,
    name=TEXT,
    command=TEXTS,
    directory=TEXT,
    environment=st.dictionaries(TEXT, TEXT, max_size=3),
    walls=st.lists(st.sampled_from(Wall), max_size=4).map(tuple),
    required=st.sampled_from(("all", "best")),
    tree=TREES,
    syscalls=st.builds(Syscalls, memory_files=st.sampled_from(("sealed", "any"))),
    doors=st.lists(st.builds(Door, TEXT, st.integers(1, 65_535)), max_size=3).map(tuple),
    ports=st.lists(st.integers(1, 65_535), max_size=3).map(tuple),
    limits=st.lists(st.tuples(TEXT, st.integers(0)), max_size=2).map(tuple),
    uid=st.none() | st.integers(0, 1 << 31),
    groups=st.lists(st.integers(0, 1 << 31), max_size=3).map(tuple),
    marks=st.dictionaries(TEXT, TEXT, max_size=3),
)


@given(PLANS)
def test_a_plan_survives_the_wire(plan: CellPlan) -> None:
    """Every field, with its type."""
    assert CellPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"walls": ["moat"]}'])
def test_no_plan_is_made_of_anything_else(text: bytes) -> None:
    """A wall that this program does not know is no wall."""
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        CellPlan.from_json(text)


def test_json_is_plain() -> None:
    """Walls are their names."""
    plan = CellPlan("a", ("true",), "/", {}, (Wall.NETWORK,))
    assert json.loads(plan.to_json())["walls"] == ["network"]
