"""What a turn may have of what is left: never more than fits, never nothing where something does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.gateway.allowance import LEAST_USEFUL_TOKENS, Allowance, Room, Wish, allow
from epad.gateway.money import Price

PRICE = Price(input=2_500_000, output=10_000_000, cached_read=0, cache_write=0, reasoning=12_000_000)


def wish(prompt: int = 100, tokens: int = 4_096, **more: Any) -> Wish:
    return Wish(prompt, tokens, **{"named": True, **more})


def room(tokens: int | None, expected: int = 1, microusd: int | None = None) -> Room:
    return Room("a", tokens, microusd, expected)


@pytest.mark.parametrize(
    ("asked", "rooms", "cap"),
    [
        (wish(), [], 4_096),
        (wish(tokens=50), [room(1_000)], 50),
        (wish(), [room(1_000)], 900),
        (wish(), [room(1_000), room(500), room(None)], 400),
        (wish(), [room(101)], 1),
        (wish(), [room(100)], -1),
        (wish(), [room(99)], -1),
        (wish(tokens=0), [room(100)], 0),  # embeddings, or a prompt that is scored
        (wish(tokens=0), [room(99)], -1),
        (wish(choices=3), [room(1_000)], 300),
        (wish(choices=3), [room(102)], -1),
        (wish(choices=3), [room(1_001)], 300),
        (wish(context_tokens=700), [room(10_000)], 700),
        (wish(context_tokens=700), [room(300)], 200),
        # A client that names no cap shares what is left with those who may come beside it,
        (wish(named=False), [room(20_100, expected=8)], 2_500),
        (wish(named=False), [room(1_100, expected=3)], 333),
        # but not below what is of use,
        (wish(named=False), [room(1_100, expected=8)], LEAST_USEFUL_TOKENS),
        # and one that names its cap has its word.
        (wish(), [room(20_100, expected=8)], 4_096),
        # 1 USD is 1,000,000 micro-USD: the prompt is 250, a token of output at the dearest 12.
        (wish(price=PRICE), [room(None, microusd=10_000)], 812),
        (wish(price=PRICE, choices=3), [room(None, microusd=10_000)], 270),
        (wish(price=PRICE), [room(None, microusd=249)], -1),
        (wish(), [room(None, microusd=0)], 4_096),  # what costs nothing needs no money
    ],
)
def test_the_cap_is_the_smallest_of_what_is_wished_and_what_is_left(
    asked: Wish, rooms: list[Room], cap: int
) -> None:
    assert allow(asked, rooms).tokens == cap


def test_the_scope_that_cuts_is_named() -> None:
    """For the client's header, and for whoever asks why the answer was short."""
    rooms = [Room("writer", 5_000, None, 1), Room("group:team", 300, None, 1), Room("all", 9_000, None, 1)]
    assert allow(wish(), rooms) == Allowance(200, "group:team")
    assert allow(wish(tokens=10), rooms) == Allowance(10, "")
    assert allow(wish(tokens=200), rooms) == Allowance(200, "")  # which is all that is left, and enough
    assert allow(wish(), [rooms[0], Room("all", 99, None, 1), rooms[1]]) == Allowance(-1, "all")


amounts = st.none() | st.integers(0, 20_000)


@given(
    st.integers(0, 5_000), st.integers(0, 9_000), st.booleans(), st.integers(1, 5),
    st.lists(st.tuples(amounts, amounts, st.integers(1, 9)), max_size=3), st.integers(0, 3_000), st.booleans(),
)  # fmt: skip
def test_what_is_allowed_fits_and_nobody_gets_nothing_where_one_token_fits(
    prompt: int, tokens: int, named: bool, choices: int, lefts: list[Any], context: int, priced: bool
) -> None:
    price = PRICE if priced else Price(0, 0, 0, 0, 0)
    asked = Wish(prompt, tokens, named, choices, price, context)
    rooms = [Room(str(n), *left) for n, left in enumerate(lefts)]

    def fits(cap: int) -> bool:
        cost = price.at_most(prompt, cap * choices)
        return all(
            (each.tokens is None or prompt + cap * choices <= each.tokens)
            and (each.microusd is None or cost <= each.microusd)
            for each in rooms
        )

    cap = allow(asked, rooms).tokens
    if cap < 0:
        assert not fits(min(asked.most, 1))
    else:
        assert fits(cap)
        assert cap <= asked.most
        assert cap >= 1 or not asked.most
