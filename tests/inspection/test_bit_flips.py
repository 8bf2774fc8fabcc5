"""A flipped bit and an edit, told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.inspection.bit_flips import is_flip, one_bit


@given(st.binary(min_size=1, max_size=40), st.data())
def test_one_flipped_bit_is_located(value: bytes, data: st.DataObject) -> None:
    """Whatever the bytes: the offset of the byte, and None for anything but one bit."""
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    flipped = bytearray(value)
    flipped[bit // 8] ^= 1 << bit % 8
    assert one_bit(value, bytes(flipped)) == bit // 8
    assert one_bit(value, value) is None
    assert one_bit(value, value + b"x") is None


@pytest.mark.parametrize(
    ("before", "after", "has_edits", "is_vouched", "expected"),
    [
        (b"the budget", b"the fudget", False, False, True),
        (b"the budget", b"the fudget", True, False, False),
        (b"the budget", b"the fudget", True, True, True),
        (b"the budget", b"the Budget", False, False, False),
        (b"the budget", b"the Budget", False, True, True),
        (b"round 4 of 9", b"round 5 of 9", False, False, False),
        (b"the budget", b"the\x00budget", True, False, True),
        (b"the budget", b"the \xe2udget", True, False, True),
        (b"the budget", b"the gadget", False, False, False),
        (b"A", b"C", False, True, False),
    ],
)
def test_what_an_edit_could_be_counts_as_one(
    before: bytes, after: bytes, has_edits: bool, is_vouched: bool, expected: bool
) -> None:
    """A letter where texts are edited, another case, a digit; never what no keyboard writes."""
    assert is_flip(before, after, is_text=True, has_edits=has_edits, is_vouched=is_vouched) is expected
