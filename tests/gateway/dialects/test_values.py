"""The values that requests and answers are reduced to: nobody who has one can change it for the others."""

from __future__ import annotations

from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.body import read_object
from epad.gateway.dialects.counts import Counts
from epad.gateway.dialects.dialect import Catalogue, Habits, OutputLimits
from epad.gateway.dialects.history import History
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.seen import Fault, Seen, Whole
from epad.gateway.dialects.usage import FREE, TokenUsage

VALUES = [
    LIMITS, Habits(), TokenUsage(), Catalogue("/", "data", "id", {}), Counts(), History(), Seen(),
    Whole(Seen(), Reply()), read_object(b"{}", frozenset()),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_stays_as_it_is(value: Any) -> None:
    names = getattr(value, "__struct_fields__", None) or type(value).__slots__
    assert names
    for name in names:
        with pytest.raises(AttributeError):
            setattr(value, name, None)


def test_what_is_free_has_no_tokens_of_either_kind() -> None:
    assert (FREE.input_tokens, FREE.output_tokens) == (0, 0)
    assert TokenUsage(0, 0, 0, 0, 0, 0) == FREE


def test_what_is_not_counted_is_unknown_and_no_part_of_it_is_anything() -> None:
    assert TokenUsage() == TokenUsage(None, None, 0, 0, 0, 0)
    assert History() == History("", b"", 0, (), (), b"")
    assert Seen() == Seen(None, False, None, False, 0, (), 0, True, False, "")
    whole = Whole(Seen(), Reply())
    assert (whole.fault, whole.failure) == (Fault.NONE, "")
    assert len(set(Fault)) == 3


@pytest.mark.parametrize(
    ("wish", "cap"), [(None, 100), (0, 0), (1, 1), (99, 99), (1_000, 1_000), (1_001, 1_000)]
)
def test_a_cap_is_the_wish_within_the_most_there_is(wish: int | None, cap: int) -> None:
    assert OutputLimits(100, 1_000, 16).cap(wish) == cap
    assert OutputLimits(9, 5, 16).cap(None) == 5


@pytest.mark.parametrize(
    ("seen", "said", "counts"),
    [
        (Seen(), 0, False),
        (Seen(choice_bytes=(2, 3), unread_bytes=4), 9, False),
        (Seen(total_tokens=0), 0, False),
        (Seen(total_tokens=1), 0, True),
        (Seen(TokenUsage()), 0, False),
        (Seen(TokenUsage(0, 0)), 0, False),
        (Seen(TokenUsage(1, 0)), 0, True),
        (Seen(TokenUsage(None, 1)), 0, True),
        (Seen(TokenUsage(None, None, 7)), 0, False),
    ],
)
def test_what_was_seen_is_summed_up(seen: Seen, said: int, counts: bool) -> None:
    assert (seen.said_bytes, seen.counts_something) == (said, counts)
