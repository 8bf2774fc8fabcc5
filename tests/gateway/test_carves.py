"""Amounts out of a parent's budgets: reserved in every limit, counted once, given back once."""

from __future__ import annotations

import pytest

from epad.configuration.schema import BudgetConfig, SharedBudgetConfig
from epad.gateway.budget import Budgets, Carved, Refused, Reservation, SharedBudgets, Spend
from epad.gateway.errors import BudgetError
from epad.gateway.limits import ENDED
from epad.gateway.refusal import over_budget

GROUP = SharedBudgetConfig(tokens_per_hour=900)
LIMITS = {"boss": BudgetConfig(tokens_per_minute=500, tokens_in_all=1_000, max_in_flight=2)}
PARENTS = {"a-1": "boss", "b-2": "a-1"}
OWN = BudgetConfig(tokens_in_all=400)


def budgets(parent: BudgetConfig = LIMITS["boss"], **more: BudgetConfig) -> Budgets:
    made = Budgets({"boss": parent}, 9, SharedBudgets({"g": GROUP}, {"boss": "g"}, SharedBudgetConfig()))
    if more:
        made.configure({"boss": parent, **more}, 9, shared())
    return made


def shared() -> SharedBudgets:
    return SharedBudgets({"g": GROUP}, {"boss": "g"}, SharedBudgetConfig(tokens_per_day=950), PARENTS)


def spawned(made: Budgets, tokens: int = 400) -> Budgets:
    """An agent `a-1` of the boss."""
    assert made.carve("a-1", Carved("boss", tokens), 0.0) is None
    made.configure({**LIMITS, "a-1": OWN}, 9, shared())
    return made


def used(made: Budgets, scope: str, limit: str, now: float = 0.0) -> int:
    return made.snapshot(scope, now)[limit].used


def turn(made: Budgets, name: str, tokens: int, spent: int, now: float = 0.0) -> None:
    held = made.reserve(name, tokens, now)
    assert isinstance(held, Reservation), held
    made.settle(held, spent, now)


def test_an_amount_is_reserved_in_every_limit_and_spent_once() -> None:
    made = spawned(budgets())
    everywhere = [("boss", "tokens_per_minute"), ("boss", "tokens_in_all"), ("group:g", "tokens_per_hour")]
    assert [used(made, *one) for one in everywhere] == [400, 400, 400]
    turn(made, "a-1", 300, 120)
    assert [used(made, *one) for one in everywhere] == [400, 400, 400]
    assert used(made, "a-1", "tokens_in_all") == 120
    made.give_back("a-1")
    made.give_back("a-1")
    assert [used(made, *one) for one in everywhere] == [120, 120, 120]
    assert used(made, "boss", "tokens_per_minute", 70.0) == 0


def test_an_amount_has_to_fit_in_the_smallest_limit() -> None:
    made = budgets()
    refused = made.carve("a-1", Carved("boss", 501), 0.0)
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.permanent) == ("tokens_per_minute", True)
    turn(made, "boss", 200, 200)
    refused = made.carve("a-1", Carved("boss", 301), 0.0)
    assert isinstance(refused, Refused)
    assert not refused.permanent


def test_parent_and_agent_together_never_pass_a_limit() -> None:
    made = spawned(budgets())
    assert isinstance(made.reserve("boss", 101, 0.0), Refused)
    assert isinstance(made.reserve("boss", 100, 0.0), Reservation)
    assert isinstance(made.reserve("a-1", 401, 0.0), Refused)
    assert isinstance(made.reserve("a-1", 400, 0.0), Reservation)


def test_turns_of_an_agent_are_in_flight_at_its_parent() -> None:
    made = spawned(budgets())
    held = [made.reserve("a-1", 10, 0.0) for _ in range(2)]
    refused = made.reserve("a-1", 10, 0.0)
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.limit) == ("boss", "max_in_flight")
    assert made.foresee("a-1", 0.0) == made.foresee("boss", 0.0)
    for one in held:
        assert isinstance(one, Reservation)
        made.settle(one, 0, 0.0)
    assert made.in_flight("boss") == made.in_flight("a-1") == 0


@pytest.mark.parametrize("first", ["child", "turn"])
def test_a_turn_in_flight_keeps_its_reservation_through_two_ends(first: str) -> None:
    """Whether it is settled before its agent's parent ends, or after."""
    made = spawned(budgets())
    assert made.carve("b-2", Carved("a-1", 200), 0.0) is None
    made.configure({**LIMITS, "a-1": OWN, "b-2": BudgetConfig(tokens_in_all=200)}, 9, shared())
    held = made.reserve("b-2", 150, 0.0)
    assert isinstance(held, Reservation)
    made.give_back("b-2")
    assert used(made, "a-1", "tokens_in_all") == 150
    if first == "turn":
        made.settle(held, 60, 0.0)
        made.give_back("a-1")
    else:
        made.give_back("a-1")
        assert used(made, "boss", "tokens_in_all") == 150
        made.configure(LIMITS, 9, shared())
        made.settle(held, 60, 0.0)
    assert used(made, "boss", "tokens_in_all") == used(made, "group:g", "tokens_per_hour") == 60


def test_an_agent_that_has_ended_spends_nothing_more() -> None:
    made = spawned(budgets())
    made.give_back("a-1")
    refused = made.reserve("a-1", 1, 0.0)
    assert isinstance(refused, Refused)
    assert refused.limit == ENDED
    assert over_budget(refused).code == "agent_ended"
    assert made.carve("b-2", Carved("a-1", 1), 0.0) is not None


def test_a_turn_that_cost_more_than_its_reservation_is_counted_in_full() -> None:
    made = spawned(budgets(), tokens=100)
    held = made.reserve("a-1", 100, 0.0)
    assert isinstance(held, Reservation)
    assert made.settle(held, 130, 0.0) == 30
    assert used(made, "boss", "tokens_in_all") == 130
    made.give_back("a-1")
    assert used(made, "boss", "tokens_in_all") == 130
    assert isinstance(made.reserve("a-1", 1, 0.0), Refused)
    assert isinstance(made.reserve("boss", 1, 0.0), Reservation)


def test_a_restart_reserves_what_is_left_and_counts_what_was_spent() -> None:
    made = Budgets({**LIMITS, "a-1": OWN}, 9, shared())
    made.restore([Spend("a-1", 150, 10.0), Spend("b-2", 70, 90.0), Spend("boss", 5, 0.0)], 100.0)
    made.carve_again({"a-1": Carved("boss", 400)}, 100.0)
    assert used(made, "a-1", "tokens_in_all", 100.0) == 220
    assert used(made, "boss", "tokens_in_all", 100.0) == 405
    assert used(made, "boss", "tokens_per_minute", 100.0) == 400 - 220 + 150 + 5
    made.give_back("a-1")
    assert used(made, "boss", "tokens_in_all", 100.0) == 225


def test_no_reload_gives_an_agent_more_than_its_amount() -> None:
    made = spawned(budgets())
    made.configure({**LIMITS, "a-1": BudgetConfig(tokens_in_all=0)}, 9, shared())
    assert isinstance(made.reserve("a-1", 401, 0.0), Refused)


def test_an_agent_without_money_spends_none_once_its_parent_has_a_limit() -> None:
    made = spawned(budgets())
    held = made.reserve("a-1", 1, 0.0, 50)
    assert isinstance(held, Reservation)
    made.settle(held, 1, 0.0, 50)
    limited = BudgetConfig(tokens_in_all=1_000, usd_in_all=1.0)
    made.configure({"boss": limited, "a-1": OWN}, 9, shared())
    refused = made.reserve("a-1", 1, 0.0, 50)
    assert isinstance(refused, Refused)
    assert refused.limit == "microusd_in_all"
    assert isinstance(made.reserve("a-1", 1, 0.0), Reservation)


@pytest.mark.parametrize(("agent", "tokens"), [("a-1", 10), ("c-3", 0), ("c-3", -5)])
def test_what_is_no_amount(agent: str, tokens: int) -> None:
    made = spawned(budgets())
    with pytest.raises(BudgetError):
        made.carve(agent, Carved("boss", tokens), 0.0)
