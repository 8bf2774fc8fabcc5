"""Which limits of a subsystem bound a turn: the smallest one, as a number and as a refusal, and its own places."""

from __future__ import annotations

from epad.configuration.schema import BudgetConfig, SharedBudgetConfig
from epad.gateway.budget import Budgets, SharedBudgets

LIMITS = {
    "a": BudgetConfig(tokens_per_minute=100, requests_per_minute=5),
    "b": BudgetConfig(usd_per_day=0.000_05),
    "c": BudgetConfig(max_in_flight=2),
    "d": BudgetConfig(tokens_per_day=900, tokens_per_hour=400),
}
SHARED = SharedBudgets(
    {"team": SharedBudgetConfig(tokens_per_day=70)},
    {"a": "team", "b": "team"},
    SharedBudgetConfig(tokens_per_hour=500, tokens_per_day=500),
)


def test_the_smallest_limit_is_told_as_the_refusal_of_what_is_larger() -> None:
    """Of two that are as small, the first is named."""
    alone, both = Budgets(LIMITS, 9), Budgets(LIMITS, 9, SHARED)
    found = [budgets.largest(name) for budgets in (alone, both) for name in "abcd"]
    assert [(each.scope, each.limit, each.allowed, each.permanent) if each else None for each in found] == [
        ("a", "tokens_per_minute", 100, True),
        None,
        None,
        ("d", "tokens_per_hour", 400, True),
        ("group:team", "tokens_per_day", 70, True),
        ("group:team", "tokens_per_day", 70, True),
        ("all", "tokens_per_hour", 500, True),
        ("d", "tokens_per_hour", 400, True),
    ]


def test_the_places_are_the_subsystems_own() -> None:
    both = Budgets(LIMITS, 9, SHARED)
    assert [both.places(name) for name in "abc"][2] == 2
    assert Budgets({"x": BudgetConfig(max_in_flight=0)}, 9).places("x") == 0
