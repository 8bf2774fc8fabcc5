"""What the budgets say of every scope, by exact examples: what is left, what refuses, and what they are asked."""

from __future__ import annotations

from typing import Any

import pytest

from epad.configuration.schema import BudgetConfig, SharedBudgetConfig
from epad.gateway.allowance import Room
from epad.gateway.budget import (
    GLOBAL_SCOPE,
    GROUP_PREFIX,
    Budgets,
    Refused,
    Reservation,
    SharedBudgets,
    Spend,
)
from epad.gateway.errors import BudgetError

LIMITS = {
    "a": BudgetConfig(tokens_per_minute=100, requests_per_minute=5),
    "b": BudgetConfig(usd_per_day=0.000_05),
    "c": BudgetConfig(max_in_flight=2),
    "d": BudgetConfig(tokens_per_day=900, tokens_per_hour=400),
}
SHARED = SharedBudgets(
    {"team": SharedBudgetConfig(tokens_per_day=70, max_in_flight=3)},
    {"a": "team", "b": "team", "c": "", "former": "team"},
    SharedBudgetConfig(tokens_per_hour=500, usd_in_all=0.000_3, max_in_flight=4),
)


def both() -> Budgets:
    return Budgets(LIMITS, 9, SHARED)


def alone(**limits: Any) -> Budgets:
    return Budgets({"a": BudgetConfig(**limits)}, 9)


def held(budgets: Budgets, name: str, tokens: int, now: float = 0.0, microusd: int = 0) -> Reservation:
    reservation = budgets.reserve(name, tokens, now, microusd)
    assert isinstance(reservation, Reservation)
    return reservation


def test_the_scopes_are_everyones_the_groups_and_the_subsystems_own() -> None:
    budgets = both()
    assert (GLOBAL_SCOPE, GROUP_PREFIX) == ("all", "group:")
    assert budgets.scopes == ("all", "group:team", "a", "b", "c", "d")
    assert budgets.subsystems == ("a", "b", "c", "d")
    assert budgets.scopes_of("a") == ("a", "group:team", "all")
    assert budgets.scopes_of("c") == ("c", "all")
    assert budgets.scopes_of("d") == ("d", "all")
    assert (budgets.covers("a"), budgets.covers("former"), budgets.covers("all")) == (True, False, False)


def test_what_is_limited_is_known_of_every_scope_of_a_subsystem() -> None:
    budgets = Budgets(LIMITS, 9)
    assert [budgets.limits_tokens(name) for name in "abcd"] == [True, True, False, True]
    assert [budgets.counts_money(name) for name in "abcd"] == [False, True, False, False]
    assert both().counts_money("c")
    assert both().limits_tokens("c")


@pytest.mark.parametrize(
    "ask",
    [
        lambda budgets: budgets.reserve("x", 1, 0.0),
        lambda budgets: budgets.refuses("x", 1, 0.0),
        lambda budgets: budgets.foresee("x", 0.0),
        lambda budgets: budgets.rooms("x", 0.0),
        lambda budgets: budgets.scopes_of("x"),
        lambda budgets: budgets.overrun("x"),
        lambda budgets: budgets.snapshot("x", 0.0),
        lambda budgets: budgets.in_flight("x"),
    ],
)
def test_a_subsystem_that_is_not_configured_is_named(ask) -> None:
    with pytest.raises(BudgetError) as caught:
        ask(both())
    assert str(caught.value) == "'x' has no budget: it is not in [subsystems]"


def test_a_turn_counts_in_each_scope_of_its_subsystem_and_in_no_other() -> None:
    budgets = both()
    first = held(budgets, "a", 30, 0.0, 20)
    second = held(budgets, "c", 5, 0.0, 7)
    assert first == Reservation(1, "a", 30, 20)
    assert second == Reservation(2, "c", 5, 7)
    assert [budgets.in_flight(scope) for scope in budgets.scopes] == [2, 1, 1, 0, 1, 0]
    assert [budgets.under_way(scope) for scope in budgets.scopes] == [True, True, True, False, True, False]
    assert not budgets.under_way("x")
    used = {scope: [use.used for use in budgets.snapshot(scope, 0.0).values()] for scope in budgets.scopes}
    assert used == {"all": [35, 27], "group:team": [30], "a": [30, 1], "b": [0], "c": [], "d": [0, 0]}
    assert budgets.settle(first, 30, 0.0, 20) == 0
    assert budgets.settle(second, 4, 0.0, 7) == 0
    used = {scope: [use.used for use in budgets.snapshot(scope, 0.0).values()] for scope in budgets.scopes}
    assert used == {"all": [34, 27], "group:team": [30], "a": [30, 1], "b": [0], "c": [], "d": [0, 0]}
    assert [budgets.in_flight(scope) for scope in budgets.scopes] == [0, 0, 0, 0, 0, 0]


def test_what_is_left_is_told_of_each_limited_scope() -> None:
    budgets = both()
    assert budgets.rooms("a", 0.0) == [
        Room("a", 100, None, 4), Room("group:team", 70, None, 4), Room("all", 500, 300, 4),
    ]  # fmt: skip
    assert budgets.rooms("b", 0.0)[0] == Room("b", None, 50, 4)
    assert budgets.rooms("c", 0.0) == [Room("all", 500, 300, 4)]
    budgets.settle(held(budgets, "a", 30, 0.0, 20), 10, 0.0, 15)
    assert budgets.rooms("a", 0.0) == [
        Room("a", 90, None, 1), Room("group:team", 60, None, 1), Room("all", 490, 285, 1),
    ]  # fmt: skip
    assert budgets.rooms("a", 61.0)[0] == Room("a", 100, None, 1)


def test_those_in_flight_and_those_who_wait_share_what_is_left() -> None:
    """One that waits itself is not among the others."""
    budgets = Budgets({"a": BudgetConfig(tokens_per_minute=100)}, 9)
    turns = [held(budgets, "a", 1) for _ in range(5)]
    for turn in turns[1:]:
        budgets.settle(turn, 1, 0.0)
    assert budgets.rooms("a", 0.0) == [Room("a", 95, None, 4)]
    budgets.wait("a", by=1)
    assert budgets.rooms("a", 0.0) == [Room("a", 95, None, 3)]
    assert budgets.rooms("a", 0.0, queued=True) == [Room("a", 95, None, 4)]
    budgets.wait("a", by=2)
    budgets.wait("a", by=-1)
    assert budgets.rooms("a", 0.0) == [Room("a", 95, None, 2)]
    budgets.wait("x", by=1)  # it may have been taken out of the configuration while it waited


def test_what_can_be_foreseen_needs_no_size() -> None:
    budgets = both()
    assert budgets.foresee("a", 0.0) is None
    turns = [held(budgets, "a", 20) for _ in range(3)]
    assert budgets.foresee("a", 0.0) == Refused("group:team", "max_in_flight", 3, 3, 1, 1.0)
    assert budgets.foresee("c", 0.0) is None
    for turn in turns:
        budgets.settle(turn, 20, 0.0)
    assert budgets.foresee("a", 0.0) is None
    budgets.settle(held(budgets, "a", 10), 10, 0.0)
    assert budgets.foresee("a", 0.0) == Refused("group:team", "tokens_per_day", 70, 70, 1, 86_700.0)
    budgets.settle(held(budgets, "d", 400), 400, 0.0)
    assert budgets.foresee("d", 0.0) == Refused("d", "tokens_per_hour", 400, 400, 1, 3_630.0)
    assert budgets.foresee("d", 3_630.0) is None


def test_the_own_limits_are_named_before_the_shared_ones() -> None:
    budgets = both()
    assert budgets.refuses("a", 71, 0.0) == Refused("group:team", "tokens_per_day", 70, 0, 71, 0.0, True)
    assert budgets.refuses("a", 101, 0.0) == Refused("a", "tokens_per_minute", 100, 0, 101, 0.0, True)
    assert budgets.refuses("b", 1, 0.0, 51) == Refused("b", "microusd_per_day", 50, 0, 51, 0.0, True)
    assert budgets.refuses("c", 501, 0.0) == Refused("all", "tokens_per_hour", 500, 0, 501, 0.0, True)
    assert budgets.refuses("c", 1, 0.0, 301) == Refused("all", "microusd_in_all", 300, 0, 301, 0.0, True)
    assert budgets.refuses("a", 70, 0.0) is None
    assert budgets.refuses("b", 70, 0.0, 50) is None


@pytest.mark.parametrize(("most", "shared", "allowed"), [(9, 4, 4), (3, 4, 3), (9, 0, 9), (4, 4, 4)])
def test_everyones_turns_in_flight_are_bounded_by_the_smaller_of_both_caps(
    most: int, shared: int, allowed: int
) -> None:
    budgets = Budgets(
        {"a": BudgetConfig(max_in_flight=0)},
        most,
        SharedBudgets({}, {}, SharedBudgetConfig(max_in_flight=shared)),
    )
    for _ in range(allowed):
        held(budgets, "a", 1)
    assert budgets.reserve("a", 1, 0.0) == Refused("all", "max_in_flight", allowed, allowed, 1, 1.0)


@pytest.mark.parametrize(("tokens", "microusd"), [(-1, 0), (0, -1), (-1, 5)])
def test_nothing_negative_is_reserved_or_settled(tokens: int, microusd: int) -> None:
    budgets = both()
    with pytest.raises(BudgetError) as caught:
        budgets.reserve("a", tokens, 0.0, microusd)
    assert str(caught.value) == f"a: cannot reserve {tokens} tokens and {microusd} micro-USD"
    reservation = held(budgets, "a", 5, 0.0, 5)
    with pytest.raises(BudgetError, match=f"cannot be settled with {tokens} tokens: settled before?"):
        budgets.settle(reservation, tokens, 0.0, microusd)
    assert budgets.in_flight("a") == 1
    assert budgets.settle(reservation, 0, 0.0, 0) == 0


def test_nothing_at_all_can_be_reserved() -> None:
    budgets = both()
    assert budgets.settle(held(budgets, "a", 0), 0, 0.0) == 0
    assert budgets.overrun("a") is None


@pytest.mark.parametrize(
    ("tokens", "microusd", "learnt", "excess", "stops"),
    [
        (10, 20, False, 0, False),
        (11, 20, False, 1, True),
        (25, 0, False, 15, True),
        (0, 21, False, 0, True),
        (25, 30, True, 15, False),
    ],
)
def test_a_spend_beyond_its_reservation_stops_the_subsystem_alone(
    tokens: int, microusd: int, learnt: bool, excess: int, stops: bool
) -> None:
    """Unless what the bound lacked has been learnt; and until somebody has looked."""
    budgets = both()
    reservation = held(budgets, "a", 10, 0.0, 20)
    assert budgets.settle(reservation, tokens, 0.0, microusd, learnt=learnt) == excess
    stopped = Refused("a", "overrun", 10, tokens, 0, 0.0, True) if stops else None
    assert budgets.overrun("a") == stopped
    assert budgets.foresee("a", 0.0) == stopped
    assert budgets.refuses("a", 1, 0.0) == stopped
    assert budgets.overrun("b") is None
    assert budgets.refuses("b", 1, 0.0) is None
    budgets.forget("a")
    budgets.forget("x")
    assert budgets.overrun("a") is None


def test_a_turn_of_a_subsystem_that_is_gone_is_settled_where_it_was_held() -> None:
    budgets = both()
    first, second = held(budgets, "a", 10), held(budgets, "a", 10)
    budgets.configure({"c": LIMITS["c"]}, 9, SHARED)
    assert budgets.settle(first, 10, 0.0) == 0
    assert budgets.snapshot("group:team", 0.0)["tokens_per_day"].used == 20
    budgets.configure({"d": LIMITS["d"]}, 9, SHARED)  # and after one more change
    assert budgets.settle(second, 25, 0.0) == 15
    assert budgets.snapshot("group:team", 0.0)["tokens_per_day"].used == 35
    assert budgets.snapshot("all", 0.0)["tokens_per_hour"].used == 35
    budgets.configure(LIMITS, 9, SHARED)
    assert budgets.overrun("a") == Refused("a", "overrun", 10, 25, 0, 0.0, True)
    assert budgets.snapshot("a", 0.0)["tokens_per_minute"].used == 35


def test_a_subsystem_that_changes_its_group_counts_in_the_new_one() -> None:
    """What it spent before stays where it was spent."""
    budgets = both()
    budgets.settle(held(budgets, "a", 10), 10, 0.0)
    groups = {"team": SharedBudgetConfig(tokens_per_day=70), "other": SharedBudgetConfig(tokens_per_day=60)}
    budgets.configure(LIMITS, 9, SharedBudgets(groups, {"a": "other", "former": "team"}, SHARED.everyone))
    assert budgets.scopes_of("a") == ("a", "group:other", "all")
    budgets.settle(held(budgets, "a", 7), 7, 0.0)
    assert budgets.snapshot("group:team", 0.0)["tokens_per_day"] == (70, 10)
    assert budgets.snapshot("group:other", 0.0)["tokens_per_day"] == (60, 7)
    budgets.restore([Spend("former", 5, 0.0)], 0.0)  # it is configured no more, and its group is
    assert budgets.snapshot("group:team", 0.0)["tokens_per_day"].used == 15


def test_a_limit_that_is_taken_away_and_one_that_is_new_are_seen_at_once() -> None:
    budgets = alone(tokens_per_minute=100)
    budgets.configure({"a": BudgetConfig(tokens_per_day=50)}, 9)
    assert list(budgets.snapshot("a", 0.0)) == ["tokens_per_day"]
    assert list(budgets.snapshot("all", 0.0)) == []
    budgets.configure({"a": BudgetConfig()}, 9, SharedBudgets({}, {}, SharedBudgetConfig(tokens_per_hour=5)))
    assert list(budgets.snapshot("all", 0.0)) == ["tokens_per_hour"]


def test_windows_of_the_first_configuration_are_told_nothing_again() -> None:
    """They have counted since there is anything to count; `restore` tells them what was before."""
    budgets = alone(tokens_per_minute=100)
    budgets.restore([Spend("a", 40, 30.0)], 1_000.0)
    budgets.restore_fresh([Spend("a", 40, 30.0)], 1_000.0)
    assert budgets.snapshot("a", 1_000.0)["tokens_per_minute"].used == 40
    assert budgets.snapshot("a", 1_030.0)["tokens_per_minute"].used == 40
    assert budgets.snapshot("a", 1_031.0)["tokens_per_minute"].used == 0


def test_a_spend_of_before_counts_as_so_many_requests_at_its_age() -> None:
    for tell in ("restore", "restore_fresh"):
        budgets = Budgets({"a": BudgetConfig()}, 9)
        limits = BudgetConfig(tokens_per_minute=100, usd_per_minute=0.000_1, requests_per_minute=9)
        budgets.configure({"a": limits}, 9)
        getattr(budgets, tell)([Spend("a", 10, 20.0, 30), Spend("a", 1, 40.0, 2, 3)], 100.0)
        used = {at: [use.used for use in budgets.snapshot("a", at).values()] for at in (100.0, 121.0, 141.0)}
        assert used == {100.0: [11, 32, 4], 121.0: [10, 30, 1], 141.0: [0, 0, 0]}, tell


def test_a_turn_that_costs_nothing_needs_no_money() -> None:
    budgets = both()
    budgets.settle(held(budgets, "b", 1, 0.0, 50), 1, 0.0, 50)
    assert budgets.refuses("b", 1, 0.0) is None
    assert isinstance(budgets.refuses("b", 1, 0.0, 1), Refused)
    refused = budgets.reserve("b", 1, 0.0, 1)
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.limit.split("_")[0]) == ("b", "microusd")
    assert held(budgets, "b", 1).microusd == 0


def test_a_reservation_stays_as_it_is() -> None:
    reservation = Reservation(1, "a", 2)
    for name in Reservation.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(reservation, name, 1)


def test_a_reservations_money_defaults_to_none() -> None:
    assert (Reservation(1, "a", 2).microusd, Spend("a", 1, 0.0).microusd, Spend("a", 1, 0.0).requests) == (
        0,
        0,
        1,
    )
