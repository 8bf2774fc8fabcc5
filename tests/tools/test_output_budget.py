"""The limit on what tools give back an hour."""

from __future__ import annotations

import pytest

from epad.tools.output_budget import LEAST_TOKENS, WINDOW_SECONDS, OutputBudget
from epad.tools.rates import CallRates
from statemachine.clock import ManualClock

MOST = 65_536


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_of_many_calls_at_once_as_many_pass_as_there_is_room_for(clock: ManualClock) -> None:
    """By the output as by the number: 10 of 200, and no more once the ten have ended with all they may."""
    budget, rates = OutputBudget(lambda _: 10 * MOST, clock), CallRates(lambda _: 10, clock)
    rooms = [budget.reserve("agent", MOST) for _ in range(200)]
    given = [room for room in rooms if room is not None]
    assert len(given) == 10
    assert sum(not rates.take("agent") for _ in range(200)) == 10
    for room in given:
        room.settle(MOST)
    assert budget.reserve("agent", MOST) is None
    assert budget.reserve("other", MOST) is not None


def test_what_was_not_used_is_free_again_and_what_was_is_after_an_hour(clock: ManualClock) -> None:
    """A call that ends twice counts once."""
    budget = OutputBudget(lambda _: 2 * MOST, clock)
    first, second = budget.reserve("agent", MOST), budget.reserve("agent", MOST)
    assert first is not None
    assert second is not None
    first.settle(1_000)
    first.settle(50_000)
    second.settle()
    assert budget.left("agent") == 2 * MOST - 1_000
    clock.advance(WINDOW_SECONDS * 1.02)
    assert budget.left("agent") == 2 * MOST


def test_the_last_room_bounds_the_last_result(clock: ManualClock) -> None:
    """And too little of it is none."""
    budget = OutputBudget(lambda _: MOST + 1_000, clock)
    first, last = budget.reserve("agent", MOST), budget.reserve("agent", MOST)
    assert first is not None
    assert last is not None
    assert last.tokens == 1_000
    last.settle(1_000 - LEAST_TOKENS + 1)
    assert budget.reserve("agent", MOST) is None


def test_without_a_limit_everything_fits(clock: ManualClock) -> None:
    """0 is none."""
    budget = OutputBudget(lambda _: 0, clock)
    assert budget.left("agent") is None
    assert all(budget.reserve("agent", MOST) for _ in range(1_000))
