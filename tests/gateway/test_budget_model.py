"""Every scope of every budget, driven by random steps beside a model that remembers each spend."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from epad.configuration.schema import BudgetConfig, SharedBudgetConfig
from epad.gateway.budget import Budgets, Refused, Reservation, SharedBudgets, Spend
from epad.gateway.errors import BudgetError
from epad.gateway.limits import MONEY_WINDOWS, WINDOWS

OWN = {
    "a": BudgetConfig(tokens_per_minute=100, tokens_per_day=700, usd_in_all=0.004, max_in_flight=5),
    "b": BudgetConfig(tokens_per_hour=300, tokens_in_all=2_000, usd_per_hour=0.000_9, max_in_flight=5),
    "c": BudgetConfig(requests_per_minute=4, max_in_flight=5),
}
GROUP = SharedBudgetConfig(tokens_per_minute=150, usd_per_day=0.001_5, max_in_flight=7)
EVERYONE = SharedBudgetConfig(tokens_per_month=1_500, usd_per_minute=0.000_7, requests_per_minute=9)
SHARED = SharedBudgets({"g": GROUP}, {"a": "g", "b": "g"}, EVERYONE)
MEMBERS = {"a": {"a"}, "b": {"b"}, "c": {"c"}, "group:g": {"a", "b"}, "all": {"a", "b", "c", "gone"}}
LIMITS = {**OWN, "group:g": GROUP, "all": EVERYONE}


@dataclass(frozen=True)
class Spent:
    subsystem: str
    at: float
    tokens: int
    microusd: int


class BudgetMachine(RuleBasedStateMachine):
    @initialize(start=st.floats(0, 1e7))
    def begin(self, start: float) -> None:
        self.now = start
        self.budgets = self.fresh()
        self.spends: list[Spent] = []
        self.begun: list[tuple[str, float]] = []
        self.open: list[Reservation] = []

    def fresh(self) -> Budgets:
        return Budgets(OWN, max_in_flight=9, shared=SHARED)

    @rule(name=st.sampled_from("abc"), tokens=st.integers(0, 120), microusd=st.integers(0, 500))
    def reserve(self, name: str, tokens: int, microusd: int) -> None:
        got = self.budgets.reserve(name, tokens, self.now, microusd)
        if isinstance(got, Reservation):
            self.open.append(got)
            self.begun.append((name, self.now))
        else:
            self.check_reason(got, tokens, microusd)

    def check_reason(self, got: Refused, tokens: int, microusd: int) -> None:
        """Refused for a reason: with expiry rounded up by one bucket, the limit named would be crossed."""
        shape = next((s for s in (*WINDOWS, *MONEY_WINDOWS) if s.limit == got.limit), None)
        if shape is None or got.permanent:
            assert got.permanent == (got.asked > got.allowed)
            return
        unit, asked = ("microusd", microusd) if shape.limit.startswith("microusd") else ("tokens", tokens)
        assert (
            self.spent(got.scope, unit, shape.seconds * (1 + 1 / shape.buckets) + 1e-3)
            + self.reserved(got.scope, unit)
            + asked
            > got.allowed
        )

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.floats(0, 1))
    def settle(self, data: st.DataObject, share: float) -> None:
        held = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        tokens, microusd = int(held.tokens * share), int(held.microusd * share)
        assert self.budgets.settle(held, tokens, self.now, microusd) == 0
        self.spends.append(Spent(held.subsystem, self.now, tokens, microusd))

    @rule(seconds=st.one_of(st.floats(0, 2), st.floats(0, 90), st.floats(0, 9_000), st.floats(0, 3e6)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def crash(self) -> None:
        """What was open is charged at its reservation, from when it began at the earliest; sums are kept."""
        for held in self.open:
            self.spends.append(Spent(held.subsystem, self.now, held.tokens, held.microusd))
        self.open = []
        self.budgets = self.fresh()
        self.budgets.restore(
            [Spend(s.subsystem, s.tokens, self.now - s.at, s.microusd, requests=0) for s in self.spends]
            + [Spend(name, 0, self.now - at, 0) for name, at in self.begun],
            self.now,
        )

    def spent(self, scope: str, unit: str, seconds: float) -> int:
        return sum(
            getattr(s, unit)
            for s in self.spends
            if s.subsystem in MEMBERS[scope] and s.at > self.now - seconds
        )

    def reserved(self, scope: str, unit: str) -> int:
        return sum(getattr(held, unit) for held in self.open if held.subsystem in MEMBERS[scope])

    @invariant()
    def no_scope_is_ever_over_in_any_window(self) -> None:
        for scope, limits in LIMITS.items():
            usages = self.budgets.snapshot(scope, self.now)
            for shape in (*WINDOWS, *MONEY_WINDOWS):
                unit, _, span = shape.limit.partition("_")
                limit = (
                    getattr(limits, shape.limit)
                    if unit == "tokens"
                    else round(getattr(limits, f"usd_{span}") * 1e6)
                )
                if not limit:
                    continue
                held = self.spent(scope, unit, shape.seconds) + self.reserved(scope, unit)
                assert held <= limit, (scope, shape.limit)
                assert held <= usages[shape.limit].used
                if shape.limit.endswith("in_all"):
                    assert held == usages[shape.limit].used

    @invariant()
    def no_cap_is_ever_passed(self) -> None:
        def open_in(scope: str) -> int:
            return sum(held.subsystem in MEMBERS[scope] for held in self.open)

        assert open_in("all") <= 9
        assert open_in("group:g") <= GROUP.max_in_flight
        assert all(open_in(name) <= 5 for name in "abc")
        recent = [name for name, at in self.begun if at > self.now - 60]
        assert len(recent) <= EVERYONE.requests_per_minute
        assert recent.count("c") <= OWN["c"].requests_per_minute


BudgetMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestBudgets = BudgetMachine.TestCase


def test_a_group_is_refused_when_its_members_together_have_spent_it() -> None:
    """Each is within its own budget; the scope that refuses is named, and who is not in the group goes on."""
    shared = SharedBudgets(
        {"team": SharedBudgetConfig(tokens_per_day=100)}, {"a": "team", "b": "team"}, SharedBudgetConfig()
    )
    budgets = Budgets({name: BudgetConfig(tokens_per_day=80) for name in "abc"}, 99, shared)
    for name in "ab":
        held = budgets.reserve(name, 50, 0.0)
        assert isinstance(held, Reservation)
        budgets.settle(held, 50, 0.0)
    refused = budgets.reserve("a", 1, 0.0)
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.limit, refused.used) == ("group:team", "tokens_per_day", 100)
    assert isinstance(budgets.reserve("c", 80, 0.0), Reservation)


def test_what_is_refused_in_one_scope_is_held_in_none() -> None:
    """A refusal by everyone's budget leaves the subsystem's own untouched."""
    budgets = Budgets(
        {"a": BudgetConfig(tokens_per_day=80, requests_per_minute=9)},
        99,
        SharedBudgets({}, {}, SharedBudgetConfig(usd_in_all=0.000_001)),
    )
    assert isinstance(budgets.reserve("a", 10, 0.0, 2), Refused)
    assert {limit: usage.used for limit, usage in budgets.snapshot("a", 0.0).items()} == {
        "tokens_per_day": 0,
        "requests_per_minute": 0,
    }


def test_no_waiting_helps_with_a_sum_over_all_time() -> None:
    """And a month is 31 days, however the calendar lies."""
    budgets = Budgets({"a": BudgetConfig(tokens_in_all=10), "b": BudgetConfig(tokens_per_month=10)}, 9)
    for name in "ab":
        held = budgets.reserve(name, 10, 0.0)
        assert isinstance(held, Reservation)
        budgets.settle(held, 10, 0.0)
    in_all = budgets.reserve("a", 1, 1e9)
    assert isinstance(in_all, Refused)
    assert in_all.retry_after_seconds == float("inf")
    assert isinstance(budgets.reserve("b", 1, 30.9 * 86_400), Refused)
    assert isinstance(budgets.reserve("b", 1, 31.1 * 86_400), Reservation)


def test_a_spend_above_its_reservation_counts_in_full_and_stops_the_subsystem() -> None:
    """The bound was wrong: until someone has looked, nothing more is reserved on its word."""
    budgets = Budgets({"a": BudgetConfig(tokens_per_day=1_000), "b": BudgetConfig()}, 9)
    held = budgets.reserve("a", 10, 0.0)
    assert isinstance(held, Reservation)
    assert budgets.settle(held, 100, 0.0) == 90
    assert budgets.snapshot("a", 0.0)["tokens_per_day"].used == 100
    refused = budgets.reserve("a", 1, 0.0)
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.used, refused.allowed) == ("overrun", 100, 10)
    assert budgets.foresee("a", 0.0) == refused
    assert isinstance(budgets.reserve("b", 1, 0.0), Reservation)
    budgets.forget("a")
    assert isinstance(budgets.reserve("a", 1, 0.0), Reservation)
    with pytest.raises(BudgetError, match="'nobody' has no budget"):
        budgets.snapshot("nobody", 0.0)
