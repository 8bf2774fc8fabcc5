"""What an answer costs, number by number: each rule of `epad.gateway.charge` by an example and its neighbours."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from epad.gateway.charge import (
    NOTHING,
    Bound,
    Charge,
    Terms,
    charge_answer,
    charge_status,
    charge_stream,
    forfeit,
)
from epad.gateway.dialects.seen import Seen
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.money import Price
from epad.ledger.record import UsageSource

BOUND = Bound(100, 60)
ONE = Terms(BOUND, cap=60)
THREE = Terms(BOUND, cap=20, choices=3)
USAGE, COUNTED, RESERVED = UsageSource.USAGE, UsageSource.COUNTED, UsageSource.RESERVED
FULL = TokenUsage(90, 40, 5, 7, 11, 3)
# A price for each kind that no sum of the others makes.
PRICE = Price(
    input=10_000_000, output=1_000_000, cached_read=100_000_000, cache_write=1_000_000_000,
    reasoning=2_000_000, cache_write_hour=5_000_000_000,
)  # fmt: skip


def stream(usage: TokenUsage | None = None, **more: Any) -> Seen:
    return Seen(usage, **{"streamed": True, "chunks": 4, "choice_bytes": (30,), **more})


def whole(output: int | None, **more: Any) -> Seen:
    return Seen(TokenUsage(90, output), **{"final": True, "choice_bytes": (30,), **more})


def test_a_bound_and_nothing_are_what_they_say() -> None:
    assert BOUND.tokens == 160
    assert Charge(0, 0, COUNTED) == NOTHING
    assert forfeit(BOUND) == Charge(100, 60, RESERVED)
    assert Terms(BOUND, 60) == Terms(BOUND, 60, 1, False, False, False)
    assert Charge(0, 0, COUNTED).unsplit is False


@pytest.mark.parametrize("value", [BOUND, ONE, NOTHING])
def test_a_value_stays_as_it_is(value: Any) -> None:
    """It is handed around, and looked at long after."""
    for name in value.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(value, name, 1)


def test_the_output_charged_is_the_larger_of_what_is_counted_and_the_most() -> None:
    assert (Charge(9, 5, COUNTED).charged_output_tokens, Charge(9, 5, COUNTED).tokens) == (5, 14)
    most = Charge(9, 5, COUNTED, most_output_tokens=8)
    assert (most.charged_output_tokens, most.tokens) == (8, 17)
    assert Charge(9, 8, COUNTED, most_output_tokens=5).tokens == 17


@pytest.mark.parametrize(
    ("charge", "cost"),
    [
        (Charge(10, 5, USAGE), 100 + 5),
        (Charge(10, 5, USAGE, cached_read_tokens=2), 80 + 200 + 5),
        (Charge(10, 5, USAGE, cache_write_tokens=3), 70 + 3_000 + 5),
        (Charge(10, 5, USAGE, 2, 3), 50 + 200 + 3_000 + 5),
        (Charge(10, 5, USAGE, 2, 3, 4), 50 + 200 + 3_000 + 1 + 8),
        (Charge(10, 5, USAGE, 2, 3, cache_write_hour_tokens=1), 50 + 200 + 2_000 + 5_000 + 5),
        # Parts that are more than the whole cost their own rate, and no other is taken off.
        (Charge(10, 5, USAGE, cached_read_tokens=12), 1_200 + 5),
        (Charge(10, 5, USAGE, reasoning_tokens=6), 100 + 12),
        (Charge(10, 5, USAGE, cache_write_tokens=1, cache_write_hour_tokens=2), 90 + 10_000 + 5),
        (Charge(10, 5, COUNTED), 50_000 + 10),
        (Charge(10, 5, RESERVED, most_output_tokens=9), 50_000 + 18),
        (Charge(10, 5, COUNTED, unsplit=True), 15 * 5_000),
    ],
)
def test_each_token_costs_the_rate_of_its_kind(charge: Charge, cost: int) -> None:
    assert charge.cost(PRICE) == cost


def test_tokens_that_are_not_split_cost_the_dearer_side() -> None:
    price = Price(1_000_000, 3_000_000, 0, 0, 0)
    assert Charge(10, 5, COUNTED, unsplit=True).cost(price) == 45
    assert Charge(10, 5, COUNTED, unsplit=True, most_output_tokens=7).cost(price) == 51


@pytest.mark.parametrize(
    ("usage", "chunks", "most", "charge"),
    [
        (FULL, 99, 99, Charge(90, 40, USAGE, 5, 7, 11, cache_write_hour_tokens=3)),
        (TokenUsage(0, 0), 99, 99, Charge(0, 0, USAGE)),
        (TokenUsage(None, 70, 5), 99, 99, Charge(100, 70, COUNTED)),
        (TokenUsage(None, 0), 99, 99, Charge(100, 0, COUNTED)),
        (TokenUsage(0, None), 8, 30, Charge(0, 8, COUNTED, most_output_tokens=30)),
        (TokenUsage(120, None), 8, 30, Charge(120, 8, COUNTED, most_output_tokens=30)),
        (None, 8, 30, Charge(100, 8, COUNTED, most_output_tokens=30)),
        (None, 61, 61, Charge(100, 60, COUNTED, most_output_tokens=60)),
        (None, 0, 0, Charge(100, 0, COUNTED)),
    ],
)
def test_what_the_upstream_counted_stands_and_chunks_count_the_rest(
    usage: TokenUsage | None, chunks: int, most: int, charge: Charge
) -> None:
    assert charge_stream(usage, chunks, BOUND, most) == charge


def test_a_stream_of_which_nothing_more_is_known_has_no_most() -> None:
    assert charge_stream(None, 8, BOUND) == Charge(100, 8, COUNTED)


@pytest.mark.parametrize(
    ("seen", "terms", "charge"),
    [
        # a final count
        (whole(40), ONE, Charge(90, 40, USAGE)),
        (whole(70), ONE, Charge(90, 70, USAGE)),
        (Seen(FULL, final=True, choice_bytes=(30,)), ONE, Charge(90, 40, USAGE, 5, 7, 11, 0, 0, 3)),
        (whole(0, choice_bytes=()), ONE, Charge(90, 0, USAGE)),
        # an input of 0 beside text, or beside what could not be read, is none
        (Seen(TokenUsage(0, 9), final=True, choice_bytes=(30,)), ONE, Charge(100, 9, COUNTED)),
        (Seen(TokenUsage(0, 9), final=True, unread_bytes=1), ONE, Charge(100, 9, COUNTED)),
        (Seen(TokenUsage(0, 9), final=True), ONE, Charge(0, 9, USAGE)),
        (Seen(TokenUsage(1, 9), final=True, choice_bytes=(30,)), ONE, Charge(1, 9, USAGE)),
        # a total alone: of the input, where there is no output
        (Seen(final=True, total_tokens=44), ONE, Charge(0, 44, COUNTED, unsplit=True)),
        (Seen(final=True, total_tokens=44), Terms(Bound(100, 0), 0), Charge(44, 0, COUNTED, unsplit=True)),
        (Seen(TokenUsage(), final=True, total_tokens=44), ONE, Charge(0, 44, COUNTED, unsplit=True)),
        (Seen(final=True), ONE, Charge(0, 0, COUNTED, unsplit=True)),
        (Seen(TokenUsage(None, 9), final=True, total_tokens=44), ONE, Charge(100, 9, COUNTED)),
        # no final count of a whole answer
        (Seen(choice_bytes=(30,)), ONE, Charge(100, 60, RESERVED)),
        (Seen(TokenUsage(50, None)), ONE, Charge(50, 60, RESERVED)),
        (Seen(TokenUsage(50, 60)), ONE, Charge(50, 60, RESERVED)),
        (Seen(TokenUsage(0, 60), choice_bytes=(1,)), ONE, Charge(100, 60, RESERVED)),
        (Seen(TokenUsage(50, 61)), ONE, Charge(50, 61, COUNTED, most_output_tokens=60)),
        (Seen(total_tokens=160), ONE, Charge(100, 60, RESERVED)),
        (Seen(total_tokens=161), ONE, Charge(100, 61, COUNTED, most_output_tokens=60)),
        (Seen(), Terms(Bound(100, 0), 0), Charge(100, 0, RESERVED)),
        (Seen(), Terms(Bound(0, 0), 0), Charge(0, 0, RESERVED)),
        (stream(chunks=0, choice_bytes=()), ONE, Charge(100, 0, COUNTED, most_output_tokens=60)),
        # nor of a stream: all that is reserved, or what is seen where that is all
        (stream(), ONE, Charge(100, 4, COUNTED, most_output_tokens=60)),
        (stream(), structs.replace(ONE, shows_all=True), Charge(100, 4, COUNTED, most_output_tokens=30)),
        (
            stream(bounded=False),
            structs.replace(ONE, shows_all=True),
            Charge(100, 4, COUNTED, most_output_tokens=60),
        ),
        (
            stream(unread_bytes=7, choice_bytes=(5, 30, 20)),
            structs.replace(THREE, shows_all=True),
            Charge(100, 4, COUNTED, most_output_tokens=52),
        ),
        (
            stream(choice_bytes=(500,)),
            structs.replace(ONE, shows_all=True),
            Charge(100, 4, COUNTED, most_output_tokens=60),
        ),
        (
            stream(TokenUsage(50, 9)),
            structs.replace(ONE, shows_all=True),
            Charge(50, 9, COUNTED, most_output_tokens=30),
        ),
        (stream(TokenUsage(50, 3)), ONE, Charge(50, 4, COUNTED, most_output_tokens=60)),
        (stream(TokenUsage(0, 99)), ONE, Charge(100, 99, COUNTED, most_output_tokens=60)),
        (stream(total_tokens=170), ONE, Charge(100, 70, COUNTED, most_output_tokens=60)),
        (
            stream(TokenUsage(None, 75), total_tokens=170),
            ONE,
            Charge(100, 75, COUNTED, most_output_tokens=60),
        ),
        # nothing came
        (Seen(nothing_came=True), ONE, NOTHING),
        (Seen(TokenUsage(0, 0), nothing_came=True), ONE, NOTHING),
        (Seen(TokenUsage(0, 3), final=True, nothing_came=True), ONE, Charge(0, 3, USAGE)),
        (Seen(TokenUsage(90, 0), final=True, nothing_came=True), ONE, Charge(90, 0, USAGE)),
        (Seen(final=True, total_tokens=5, nothing_came=True), ONE, Charge(0, 5, COUNTED, unsplit=True)),
        # no number
        (Seen(absurd="1e30"), ONE, Charge(100, 60, RESERVED)),
        (Seen(absurd="1e30"), Terms(Bound(0, 0), 0), Charge(0, 0, RESERVED)),
        (Seen(TokenUsage(101, 59), final=True, absurd="1e30"), ONE, Charge(101, 60, RESERVED)),
        (Seen(TokenUsage(99, 61), nothing_came=True, absurd="1e30"), ONE, Charge(100, 61, RESERVED)),
    ],
)
def test_an_answer_costs_what_was_counted_or_what_bounds_it(seen: Seen, terms: Terms, charge: Charge) -> None:
    assert charge_answer(seen, terms) == charge


@pytest.mark.parametrize(
    ("output", "sizes", "more", "most"),
    [
        # One counted of three: the others are all but the shortest, each at most its cap.
        (10, (12, 13, 14), {}, 10 + 13 + 14),
        (10, (14, 13, 12), {}, 10 + 13 + 14),
        (10, (5, 30, 15), {}, 10 + 20 + 15),
        (10, (30, 30, 30), {}, 10 + 20 + 20),
        (10, (12, 13, 14), {"unread_bytes": 3}, 10 + 13 + 14 + 3),
        (10, (30, 30, 30, 30), {}, 60),
        # More tokens than any choice has bytes: made unseen in part.
        (14, (12, 13, 14), {}, 14 + 13 + 14),
        (15, (12, 13, 14), {}, 15 + 40),
        (10, (12, 13, 14), {"bounded": False}, 10 + 40),
        (10, (12, 13), {}, 10 + 13),
        # One choice is all there is to see.
        (10, (12,), {}, 10),
        (10, (12,), {"unread_bytes": 3}, 10),
        (10, (), {}, 10),
        (70, (12, 13, 14), {}, 70),
        (60, (62, 63, 64), {}, 60),
    ],
)
def test_the_choices_that_were_not_counted_cost_the_bytes_they_have(
    output: int, sizes: tuple[int, ...], more: dict[str, object], most: int
) -> None:
    charge = charge_answer(whole(output, choice_bytes=sizes, **more), THREE)
    expected = Charge(90, output, USAGE)
    if most > output:
        expected = Charge(90, output, COUNTED, most_output_tokens=most)
    assert charge == expected
    counts_all = structs.replace(THREE, counts_all=True)
    assert charge_answer(whole(output, choice_bytes=sizes, **more), counts_all) == Charge(90, output, USAGE)


@pytest.mark.parametrize(
    ("choices", "output", "sizes", "most"),
    [
        (3, 10, (12,), 10 + 2 * 20),  # best_of: two that are never shown
        (3, 10, (12, 13), 10 + 13 + 20),
        (2, 10, (12,), 10 + 20),
        (1, 10, (12,), 10),
        (3, 10, (), 10 + 2 * 20),
        (2, 10, (12, 13, 14), 10 + 13 + 14),
        (3, 13, (12,), 13 + 2 * 20),
    ],
)
def test_choices_that_are_never_shown_cost_their_cap(
    choices: int, output: int, sizes: tuple[int, ...], most: int
) -> None:
    terms = Terms(BOUND, 20, choices, hides_choices=True)
    assert charge_answer(whole(output, choice_bytes=sizes), terms).charged_output_tokens == most


def test_where_no_output_is_reserved_no_other_choice_is_charged() -> None:
    terms = Terms(Bound(100, 0), cap=20, choices=3)
    assert charge_answer(whole(10, choice_bytes=(9, 9, 9)), terms) == Charge(90, 10, USAGE)


@pytest.mark.parametrize(
    ("status", "seen", "charge"),
    [
        (200, whole(40), Charge(90, 40, USAGE)),
        (399, whole(40), Charge(90, 40, USAGE)),
        (399, Seen(), Charge(100, 60, RESERVED)),
        (400, Seen(), NOTHING),
        (429, Seen(), NOTHING),
        (499, Seen(), NOTHING),
        (500, Seen(), Charge(100, 60, RESERVED)),
        (501, Seen(), NOTHING),
        (502, Seen(), NOTHING),
        (503, Seen(), NOTHING),
        (504, Seen(), Charge(100, 60, RESERVED)),
        (400, Seen(TokenUsage(90, 3)), Charge(90, 3, USAGE)),
        (503, Seen(TokenUsage(None, 3)), Charge(100, 3, COUNTED)),
        (500, Seen(TokenUsage(90, 0)), Charge(90, 0, USAGE)),
        (500, Seen(TokenUsage(0, 0)), Charge(100, 60, RESERVED)),
        (400, Seen(TokenUsage(0, 0)), NOTHING),
        (500, Seen(TokenUsage(90, None)), Charge(100, 60, RESERVED)),
        (400, Seen(TokenUsage(90, None)), NOTHING),
        (400, Seen(total_tokens=5), NOTHING),
        (400, Seen(absurd="-1"), Charge(100, 60, RESERVED)),
        (503, Seen(TokenUsage(101, 61), absurd="-1"), Charge(101, 61, RESERVED)),
    ],
)
def test_a_failure_costs_what_it_counted_or_what_it_may_have_begun(
    status: int, seen: Seen, charge: Charge
) -> None:
    assert charge_status(seen, status, ONE) == charge
