"""A server's word on its own usage: every place that a number may stand in, and what is no number."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from epad.gateway.dialects.counts import (
    MOST_TOKENS,
    Counts,
    anthropic_counts,
    count,
    is_absurd,
    ollama_counts,
    openai_counts,
)
from epad.gateway.dialects.usage import TokenUsage

NO_COUNTS: list[Any] = [
    None,
    True,
    False,
    "7",
    [7],
    {},
    -1,
    1.5,
    math.nan,
    math.inf,
    -math.inf,
    MOST_TOKENS + 1,
]


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        (0, 0),
        (1, 1),
        (7.0, 7),
        (MOST_TOKENS, MOST_TOKENS),
        (1e9, MOST_TOKENS),
        *((odd, None) for odd in NO_COUNTS),
    ],
)
def test_a_count_is_a_whole_number_that_a_context_could_have(value: object, counted: int | None) -> None:
    assert MOST_TOKENS == 1_000_000_000
    assert count(value) == counted
    assert counted is None or type(count(value)) is int


@pytest.mark.parametrize(
    ("value", "absurd"),
    [
        (0, False), (MOST_TOKENS, False), (0.5, False), (True, False), ("-1", False), (None, False), ([], False),
        (-1, True), (-0.5, True), (MOST_TOKENS + 1, True), (1e30, True),
        (math.nan, True), (math.inf, True), (-math.inf, True),
    ],
)  # fmt: skip
def test_a_number_that_cannot_be_a_count_is_absurd(value: object, absurd: bool) -> None:
    """What is no number at all is only missing."""
    assert is_absurd(value) is absurd


PLACES = {
    "input": ["prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count"],
    "output": ["completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count"],
    "total": ["total_tokens", "totalTokenCount", "total_token_count"],
    "cached_read": [
        *(f"{details}.{name}"
          for details in ("prompt_tokens_details", "input_tokens_details")
          for name in ("cached_tokens", "cache_read_input_tokens", "cache_read_tokens")),
        "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "cache_read_tokens",
        "cachedContentTokenCount", "cached_content_token_count",
    ],
    "cache_write": [
        *(f"{details}.{name}"
          for details in ("prompt_tokens_details", "input_tokens_details")
          for name in ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")),
        "cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens",
    ],
    "cache_write_hour": [
        f"{before}{place}.ephemeral_1h_input_tokens"
        for before in ("", "prompt_tokens_details.", "input_tokens_details.")
        for place in ("cache_creation", "cache_creation_token_details")
    ],
    "reasoning": [
        *(f"{details}.{name}"
          for details in ("completion_tokens_details", "output_tokens_details")
          for name in ("reasoning_tokens", "thinking_tokens", "thoughtsTokenCount", "thoughts_token_count")),
        "reasoning_tokens", "thinking_tokens", "thoughtsTokenCount", "thoughts_token_count",
    ],
}  # fmt: skip
EVERY_PLACE = [(field, place) for field, places in PLACES.items() for place in places]


def at(place: str, value: object) -> dict[str, Any]:
    """An object that has the value in that place."""
    for name in reversed(place.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def counted(field: str, number: int) -> Counts:
    """The one count, and nothing else."""
    return structs.replace(Counts(), **{field: number})


@pytest.mark.parametrize(("field", "place"), EVERY_PLACE)
def test_each_number_is_read_from_each_of_its_places(field: str, place: str) -> None:
    """And from no other; what is no count there is as if it were missing."""
    assert openai_counts(at(place, 7)) == counted(field, 7)
    assert openai_counts(at(place, 7.0)) == counted(field, 7)
    assert openai_counts(at(place, 0)) == counted(field, 0)
    odds: list[object] = [None, "7", True, [], {}]
    for odd in odds:
        assert openai_counts(at(place, odd)) == Counts()


@pytest.mark.parametrize("field", PLACES)
def test_of_two_places_the_first_that_has_a_count_is_read(field: str) -> None:
    flat = [place for place in PLACES[field] if "." not in place]
    for first, second in pairwise(flat):
        assert openai_counts({first: 3, second: 5}) == counted(field, 3)
        assert openai_counts({second: 5, first: 3}) == counted(field, 3)
        assert openai_counts({first: None, second: 5}) == counted(field, 5)
        assert openai_counts({first: "x", second: 5}) == counted(field, 5)
        assert openai_counts({first: 0, second: 5}) == counted(field, 0)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        # What is nested counts before what stands at the top.
        ({"prompt_tokens_details": {"cached_tokens": 3}, "cached_tokens": 5}, Counts(cached_read=3)),
        ({"prompt_tokens_details": {"cached_tokens": 0}, "cached_tokens": 5}, Counts(cached_read=0)),
        ({"prompt_tokens_details": {"cached_tokens": None}, "cached_tokens": 5}, Counts(cached_read=5)),
        ({"prompt_tokens_details": [3], "cached_tokens": 5}, Counts(cached_read=5)),
        (
            {"prompt_tokens_details": None, "input_tokens_details": {"cached_tokens": 4}},
            Counts(cached_read=4),
        ),
        ({"prompt_tokens_details": {}, "input_tokens_details": {"cached_tokens": 4}}, Counts()),
        ({"output_tokens_details": {"reasoning_tokens": 3}, "reasoning_tokens": 5}, Counts(reasoning=3)),
        ({"input_tokens_details": {"cache_write_tokens": 3}, "cache_write_tokens": 5}, Counts(cache_write=3)),
        (
            {
                "cache_creation": {"ephemeral_1h_input_tokens": 5},
                "prompt_tokens_details": {"cache_creation": {"ephemeral_1h_input_tokens": 3}},
            },
            Counts(cache_write_hour=3),
        ),
        # As most servers write it, and with one detail more.
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Counts(3, 4, 7)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "x": None}, Counts(3, 4, 7)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "x": 1}, Counts(3, 4, 7)),
        ({"prompt_tokens": 3.0, "completion_tokens": 4, "total_tokens": "7"}, Counts(3, 4)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": True}, Counts(3, 4)),
        ({"prompt_tokens": MOST_TOKENS}, Counts(MOST_TOKENS)),
        ({"completion_tokens": 0}, Counts(output=0)),
        ({}, Counts()),
        (None, None),
        ([], None),
        ("usage", None),
        (7, None),
    ],
)
def test_usage_is_read_field_by_field(usage: object, counts: Counts | None) -> None:
    assert openai_counts(usage) == counts


@pytest.mark.parametrize("place", [*PLACES["input"], *PLACES["output"], *PLACES["total"]])
def test_an_absurd_number_is_named_with_its_field(place: str) -> None:
    assert openai_counts({place: -1, "x": 1}) == Counts(absurd=f"{place} = -1")
    assert openai_counts({place: 1e30}) == Counts(absurd=f"{place} = 1e+30")
    assert openai_counts({place: 1 << 4_000}) == Counts(absurd=f"{place} = 2**4000 or more")
    assert openai_counts({place: -(1 << 4_000)}) == Counts(absurd=f"{place} = -2**4000 or more")
    assert openai_counts({place: -MOST_TOKENS}) == Counts(absurd=f"{place} = -1000000000")
    assert openai_counts({place: MOST_TOKENS + 1}) == Counts(absurd=f"{place} = 2**29 or more")


def test_the_first_absurd_number_is_named_and_the_others_are_read() -> None:
    counts = openai_counts({"prompt_tokens": 3, "completion_tokens": -5, "total_tokens": -7})
    assert counts == Counts(3, absurd="completion_tokens = -5")


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({}, Counts(beside=True)),
        ({"input_tokens": 3, "output_tokens": 4}, Counts(3, 4, beside=True)),
        ({"prompt_tokens": 3, "completion_tokens": 4}, Counts(beside=True)),
        ({"total_tokens": 9}, Counts(total=9, beside=True)),
        ({"totalTokenCount": 9}, Counts(total=9, beside=True)),
        ({"cache_read_input_tokens": 5}, Counts(cached_read=5, beside=True)),
        ({"cache_creation_input_tokens": 6}, Counts(cache_write=6, beside=True)),
        (
            {"cache_creation": {"ephemeral_1h_input_tokens": 4, "ephemeral_5m_input_tokens": 3}},
            Counts(cache_write=7, cache_write_hour=4, beside=True),
        ),
        (
            {"cache_creation": {"ephemeral_1h_input_tokens": 4}},
            Counts(cache_write=4, cache_write_hour=4, beside=True),
        ),
        ({"cache_creation": {"ephemeral_5m_input_tokens": 3}}, Counts(cache_write=3, beside=True)),
        (
            {"cache_creation": {"ephemeral_1h_input_tokens": 4}, "cache_creation_input_tokens": 9},
            Counts(cache_write=9, cache_write_hour=4, beside=True),
        ),
        (
            {"cache_creation": {"ephemeral_1h_input_tokens": 4}, "cache_creation_input_tokens": 2},
            Counts(cache_write=4, cache_write_hour=4, beside=True),
        ),
        ({"cache_creation": [4], "cache_creation_input_tokens": 2}, Counts(cache_write=2, beside=True)),
        ({"output_tokens_details": {"thinking_tokens": 8}}, Counts(reasoning=8, beside=True)),
        (
            {"output_tokens_details": {"reasoning_tokens": 8}, "reasoning_tokens": 2},
            Counts(reasoning=8, beside=True),
        ),
        ({"reasoning_tokens": 2, "output_tokens_details": 5}, Counts(reasoning=2, beside=True)),
        ({"input_tokens": -3}, Counts(beside=True, absurd="input_tokens = -3")),
        ({"output_tokens": -3}, Counts(beside=True, absurd="output_tokens = -3")),
        ({"total_tokens": -3}, Counts(beside=True, absurd="total_tokens = -3")),
        ({"cache_read_input_tokens": -3}, Counts(beside=True, absurd="cache_read_input_tokens = -3")),
        ({"cache_creation_input_tokens": -3}, Counts(beside=True, absurd="cache_creation_input_tokens = -3")),
        (
            {"cache_creation": {"ephemeral_1h_input_tokens": -3}},
            Counts(beside=True, absurd="ephemeral_1h_input_tokens = -3"),
        ),
        (
            {"cache_creation": {"ephemeral_5m_input_tokens": -3}},
            Counts(beside=True, absurd="ephemeral_5m_input_tokens = -3"),
        ),
        (None, None),
        ([], None),
    ],
)
def test_anthropics_usage_stands_beside_what_was_cached(usage: object, counts: Counts | None) -> None:
    assert anthropic_counts(usage) == counts


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ({}, Counts()),
        ({"prompt_eval_count": 3, "eval_count": 4}, Counts(3, 4)),
        ({"prompt_eval_count": "3", "eval_count": 4.0}, Counts(None, 4)),
        ({"prompt_eval_count": -3, "eval_count": 4}, Counts(None, 4, absurd="prompt_eval_count = -3")),
        ({"prompt_eval_count": 3, "eval_count": -4}, Counts(3, None, absurd="eval_count = -4")),
    ],
)
def test_ollamas_counts_stand_in_the_answer(answer: dict[str, Any], counts: Counts) -> None:
    assert ollama_counts(answer) == counts


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        (Counts(), TokenUsage()),
        (Counts(3, 4), TokenUsage(3, 4)),
        # A total that is more than its parts has reasoning in it; one that is less says nothing.
        (Counts(3, 4, 12), TokenUsage(3, 9)),
        (Counts(3, 4, 5), TokenUsage(3, 4)),
        (Counts(3, None, 12), TokenUsage(3, 9)),
        (Counts(3, None, 2), TokenUsage(3, 0)),
        (Counts(3, 0, 3), TokenUsage(3, 0)),
        (Counts(None, 4, 12), TokenUsage(8, 4)),
        (Counts(None, 4, 2), TokenUsage(0, 4)),
        (Counts(None, None, 12), TokenUsage()),
        # Reasoning that is more than the output is beside it, unless a total says how much there is.
        (Counts(3, 4, reasoning=5), TokenUsage(3, 9, reasoning_tokens=5)),
        (Counts(3, 4, reasoning=4), TokenUsage(3, 4, reasoning_tokens=4)),
        (Counts(3, 4, 7, reasoning=5), TokenUsage(3, 4, reasoning_tokens=4)),
        (Counts(None, 4, 7, reasoning=5), TokenUsage(3, 4, reasoning_tokens=4)),
        (Counts(3, None, reasoning=5), TokenUsage(3, None)),
        (Counts(None, 4, reasoning=5), TokenUsage(None, 9, reasoning_tokens=5)),
        # What is cached is a part of the input, at most all of it; what is read first.
        (Counts(9, 1, cached_read=4, cache_write=3), TokenUsage(9, 1, 4, 3)),
        (Counts(9, 1, cached_read=12, cache_write=3), TokenUsage(9, 1, 9, 0)),
        (Counts(9, 1, cached_read=4, cache_write=8), TokenUsage(9, 1, 4, 5)),
        (Counts(None, 1, cached_read=4, cache_write=8), TokenUsage(None, 1)),
        (
            Counts(9, 1, cache_write=3, cache_write_hour=2),
            TokenUsage(9, 1, 0, 3, cache_write_hour_tokens=2),
        ),
        (
            Counts(9, 1, cache_write=3, cache_write_hour=5),
            TokenUsage(9, 1, 0, 5, cache_write_hour_tokens=5),
        ),
        (
            Counts(9, 1, cached_read=6, cache_write_hour=5),
            TokenUsage(9, 1, 6, 3, cache_write_hour_tokens=3),
        ),
        # Beside the input, all of it is input.
        (Counts(9, 1, cached_read=4, cache_write=3, beside=True), TokenUsage(16, 1, 4, 3)),
        (Counts(9, 1, 20, cached_read=4, cache_write=3, beside=True), TokenUsage(16, 4, 4, 3)),
        (
            Counts(9, 1, cache_write=3, cache_write_hour=5, beside=True),
            TokenUsage(14, 1, 0, 5, cache_write_hour_tokens=5),
        ),
        (Counts(None, 1, cached_read=4, beside=True), TokenUsage(None, 1)),
    ],
)
def test_counts_in_epads_words(counts: Counts, usage: TokenUsage) -> None:
    assert counts.usage() == usage


def test_the_larger_of_each_count_stays() -> None:
    one = Counts(1, 20, 3, 40, 5, 60, 7, absurd="a = -1")
    other = Counts(10, 2, 30, 4, 50, 6, 70, beside=True, absurd="b = -2")
    assert one.raised(other) == Counts(10, 20, 30, 40, 50, 60, 70, beside=True, absurd="a = -1")
    assert other.raised(one) == Counts(10, 20, 30, 40, 50, 60, 70, beside=True, absurd="b = -2")
    assert Counts().raised(one) == one.raised(Counts()) == one
    assert Counts(0).raised(Counts()) == Counts().raised(Counts(0)) == Counts(0)
    assert Counts().raised(Counts()) == Counts()


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (Counts(), False), (Counts(0, 0, 0, 0, 0, 0, 0, absurd="x"), False),
        (Counts(1), True), (Counts(output=1), True), (Counts(total=1), True),
        (Counts(cached_read=1), True), (Counts(cache_write=1), True),
    ],
)  # fmt: skip
def test_counts_say_something_where_any_is_above_0(counts: Counts, says: bool) -> None:
    assert counts.says_something is says
