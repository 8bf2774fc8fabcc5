"""What an answer costs, by what was seen of it: no less than any count, no more than the bound and the counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.gateway.charge import NOTHING, Bound, Charge, Terms, charge_answer, charge_status, forfeit
from epad.gateway.dialects.counts import Counts
from epad.gateway.dialects.seen import Seen, seen_whole
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.money import Price
from epad.ledger.record import UsageSource

BOUND = Bound(100, 60)
TERMS = Terms(BOUND, cap=20, choices=3)
PRICE = Price(
    input=5_000_000, output=2_000_000, cached_read=1_000_000, cache_write=6_000_000, reasoning=2_000_000
)
number = st.none() | st.integers(0, 300)
counts = st.builds(
    Counts, input=number, output=number, total=number, cached_read=number, cache_write=number,
    cache_write_hour=number, reasoning=number, beside=st.booleans(),
)  # fmt: skip
sizes = st.lists(st.integers(0, 80), max_size=4).map(tuple)
terms = st.builds(
    Terms, st.just(BOUND), st.just(20), st.integers(1, 3), st.booleans(), st.booleans(), st.booleans()
)
streams = st.builds(
    Seen,
    usage=st.none() | counts.map(Counts.usage),
    streamed=st.just(True),
    chunks=st.integers(0, 80),
    choice_bytes=sizes,
    unread_bytes=st.integers(0, 80),
    bounded=st.booleans(),
)


@given(counts, sizes, terms)
def test_a_final_count_is_the_least_and_what_bounds_it_the_most(
    counted: Counts, said: tuple[int, ...], bounds: Terms
) -> None:
    """Raised by nothing beyond the reservation, unless the counts themselves are beyond it."""
    seen = seen_whole(counted, said)
    charge = charge_answer(seen, bounds)
    usage = counted.usage()
    assert charge.tokens >= (usage.output_tokens or 0) + (usage.input_tokens or 0)
    assert charge.tokens >= (counted.total or 0) or seen.usage is None or not seen.final
    assert charge.charged_output_tokens <= max(
        BOUND.output_tokens, usage.output_tokens or 0, counted.total or 0
    )
    if bounds.counts_all and seen.final and usage.output_tokens is not None:
        assert charge.charged_output_tokens == usage.output_tokens


@given(streams, terms)
def test_a_stream_without_a_final_count_costs_what_bounds_it(seen: Seen, bounds: Terms) -> None:
    """All that was reserved, or what was seen where that is all there is; never less than was counted."""
    charge = charge_answer(seen, bounds)
    usage = seen.usage or TokenUsage()
    shown = bounds.shows_all and seen.bounded
    counted = usage.output_tokens or 0
    most = max(seen.chunks, seen.unread_bytes + sum(min(20, size) for size in seen.choice_bytes))
    assert charge.charged_output_tokens == max(counted, min(BOUND.output_tokens, most if shown else 60))
    assert charge.input_tokens == (
        usage.input_tokens or (0 if usage.input_tokens == 0 and not seen.said_bytes else 100)
    )


def test_an_input_of_zero_is_none_where_something_was_said() -> None:
    """Nothing is said to no prompt."""
    assert charge_answer(seen_whole(Counts(0, 5), (9,)), TERMS).input_tokens == 100
    assert charge_answer(seen_whole(Counts(0, 0), ()), TERMS) == Charge(0, 0, UsageSource.USAGE)


@given(counts)
def test_counts_merge_to_the_largest_of_each(counted: Counts) -> None:
    """In whichever order they come, and however often."""
    other = Counts(input=7, output=9, total=20)
    assert (
        counted.raised(other).usage()
        == other.raised(counted).usage()
        == counted.raised(other).raised(counted).usage()
    )
    usage = counted.usage()
    assert usage.cached_read_tokens + usage.cache_write_tokens <= (usage.input_tokens or 0)
    assert usage.cache_write_hour_tokens <= usage.cache_write_tokens
    assert usage.reasoning_tokens <= (usage.output_tokens or 0)


@pytest.mark.parametrize(
    ("said", "hidden", "output"),
    [((30, 30), False, 10 + 20), ((15, 12), False, 10 + 15), ((5, 5), False, 10 + 20), ((15,), False, 10),
     ((15, 12), True, 10 + 15 + 20), ((), False, 10), ((), True, 10 + 40)],
)  # fmt: skip
def test_the_other_choices_cost_what_bounds_them(said: tuple[int, ...], hidden: bool, output: int) -> None:
    """Their bytes, at most their cap; the cap where they are never shown, or more was made than is seen."""
    bounds = Terms(BOUND, cap=20, choices=3, hides_choices=hidden)
    assert charge_answer(seen_whole(Counts(3, 10), said), bounds).charged_output_tokens == output


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    ("prompts", "all_", "counted", "input_tokens"),
    [(1, False, 7, 7), (2, False, 7, 100), (2, True, 7, 7), (2, False, 120, 120), (3, False, None, 100)],
)  # fmt: skip
def test_the_other_prompts_cost_their_bound(
    prompts: int, all_: bool, counted: int | None, input_tokens: int, ended: bool
) -> None:
    """Where the server may have counted one of them, in an answer that came to its end or did not."""
    terms = Terms(Bound(100, 60), cap=20, choices=prompts, counts_all=all_, prompts=prompts)
    seen = seen_whole(Counts(counted, 10), (15, 12), ended=ended)
    charge = charge_answer(seen, terms)
    assert charge.input_tokens == input_tokens
    if input_tokens == 100:
        assert charge.source is not UsageSource.USAGE
    total = charge_answer(seen_whole(Counts(total=40), (15,)), terms)
    assert total.tokens == (40 if prompts == 1 or all_ else 160)


@pytest.mark.parametrize(("counted", "cost"), [(7, 7), (3, 3), (2, 100), (1, 100)])
def test_a_count_of_vectors_is_of_all_texts_unless_it_is_less_than_a_token_for_each(
    counted: int, cost: int
) -> None:
    terms = Terms(Bound(100, 0), cap=0, prompts=3)
    assert charge_answer(seen_whole(Counts(counted, 0), ()), terms).tokens == cost
    assert charge_answer(seen_whole(Counts(total=counted), ()), terms).tokens == cost


def test_a_total_alone_costs_the_dearest_rate() -> None:
    """How much of it was input is not known; without any output all of it was."""
    charge = charge_answer(seen_whole(Counts(total=40), (3,)), TERMS)
    assert (charge.tokens, charge.source) == (40, UsageSource.COUNTED)
    assert charge.cost(PRICE) == 40 * 6
    vectors = charge_answer(seen_whole(Counts(total=40), ()), Terms(Bound(100, 0), 0))
    assert (vectors.input_tokens, vectors.tokens) == (40, 40)


@pytest.mark.parametrize(
    ("status", "cost"), [(400, 0), (404, 0), (429, 0), (500, 160), (501, 0), (502, 0), (504, 160)]
)
def test_a_failure_costs_what_it_may_have_begun(status: int, cost: int) -> None:
    """Unless it counts something itself."""
    assert charge_status(Seen(), status, TERMS).tokens == cost
    assert charge_status(seen_whole(Counts(0, 0), ()), status, TERMS).tokens == cost
    assert charge_status(seen_whole(Counts(7, 2), ()), status, TERMS).tokens == 9


def test_what_is_absurd_costs_the_reservation_or_the_counts_that_are_not() -> None:
    """Whichever is more."""
    assert charge_answer(Seen(TokenUsage(3, 4), absurd="x = -1"), TERMS) == forfeit(BOUND)
    assert charge_answer(Seen(TokenUsage(300, 4), absurd="x = -1"), TERMS).tokens == 360
    assert charge_answer(Seen(nothing_came=True), TERMS) == NOTHING
