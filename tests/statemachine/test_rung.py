"""The labels of the rungs, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.rung import Rung, UnknownRungError


@pytest.mark.parametrize("rung", list(Rung))
def test_a_rung_is_read_back_from_its_label(rung: Rung) -> None:
    assert Rung.labelled(rung.label) is rung


LABELS = ["open", "throttle", "block", "freeze", "release_vram", "stop"]
TEXTS = st.one_of(st.text(), st.sampled_from(["frezee", "OPEN", " stop"])).filter(
    lambda text: text not in LABELS
)


@given(st.one_of(TEXTS, st.integers(), st.none(), st.lists(st.text())))
def test_what_is_no_label_is_named(named: object) -> None:
    """Neither guessed from its case or number, nor taken for none."""
    with pytest.raises(UnknownRungError) as told:
        Rung.labelled(named)
    assert str(told.value) == f"{named!r} is no rung; there are: {', '.join(LABELS)}"
