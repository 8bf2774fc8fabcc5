"""Budgets are exact: checked against a model that remembers every token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epad.configuration.schema import BudgetConfig, SharedBudgetConfig
from epad.gateway.budget import (
    WINDOWS,
    Budgets,
    Refused,
    Reservation,
    SharedBudgets,
    Spend,
    Window,
    WindowShape,
)
from epad.gateway.errors import BudgetError

LIMITS = BudgetConfig(tokens_per_minute=100, tokens_per_hour=400, tokens_per_day=900, max_in_flight=5)


@dataclass
class Model:
    """Every settled spend with its time, every open reservation: nothing is ever rounded or forgotten."""

    spends: list[tuple[float, int]] = field(default_factory=list)
    open: dict[int, Reservation] = field(default_factory=dict)

    def spent(self, seconds: float, end: float) -> int:
        return sum(tokens for at, tokens in self.spends if end - seconds < at <= end)

    def reserved(self) -> int:
        return sum(reservation.tokens for reservation in self.open.values())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "reserve", "sleep"]),
        st.integers(0, 130),
        st.floats(0, 40_000, allow_nan=False) | st.floats(0, 70) | st.floats(0, 2),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.floats(0, 1e6))
def test_no_window_wherever_laid_exceeds_its_limit(steps: list[Any], start: float) -> None:
    """Reserve, settle and wait in any order: spent and reserved stay within every limit of the naive model."""
    budgets, model, now = Budgets({"a": LIMITS}, max_in_flight=100), Model(), start
    limits = {"tokens_per_minute": 100, "tokens_per_hour": 400, "tokens_per_day": 900}
    for action, tokens, wait in steps:
        now += wait
        if action == "reserve":
            got = budgets.reserve("a", tokens, now)
            if isinstance(got, Reservation):
                model.open[got.number] = got
            elif got.limit != "max_in_flight" and not got.permanent:
                # Refused for a reason: with expiry rounded up by a bucket, it would have crossed the limit.
                shape = next(shape for shape in WINDOWS if shape.limit == got.limit)
                at_most = model.spent(shape.seconds * (1 + 1 / shape.buckets) + 1e-6, now) + model.reserved()
                assert at_most + tokens > limits[got.limit]
        elif action == "settle" and model.open:
            number = min(model.open)
            reservation = model.open.pop(number)
            spent = min(tokens, reservation.tokens)
            assert budgets.settle(reservation, spent, now) == 0
            model.spends.append((now, spent))
        for shape in WINDOWS[:3]:
            held = model.spent(shape.seconds, now) + model.reserved()
            assert held <= limits[shape.limit]
            assert budgets.snapshot("a", now)[shape.limit].used >= held
        assert len(model.open) <= LIMITS.max_in_flight


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 200), st.integers(1, 50)), min_size=1, max_size=20), st.integers(1, 200)
)
def test_waiting_as_long_as_told_is_enough(spends: list[Any], asked: int) -> None:
    """A refusal's Retry-After is true: asked again then, with nothing else happening, the request fits."""
    budgets, now = Budgets({"a": BudgetConfig(tokens_per_minute=200)}, max_in_flight=100), 0.0
    for wait, tokens in spends:
        now += wait
        reservation = budgets.reserve("a", tokens, now)
        if isinstance(reservation, Reservation):
            budgets.settle(reservation, tokens, now)
    refused = budgets.reserve("a", asked, now)
    if isinstance(refused, Refused):
        again = budgets.reserve("a", asked, now + refused.retry_after_seconds + 1e-6)
        assert isinstance(again, Reservation)


@given(
    st.lists(st.tuples(st.floats(0, 90_000), st.integers(0, 9)), max_size=40), st.sampled_from(WINDOWS[:4])
)
def test_a_window_never_counts_less_than_was_spent_in_it(spends: list[Any], shape) -> None:
    """Expiry errs towards counting too long, and by one bucket at most."""
    window, now, history = Window(shape), 0.0, []
    for wait, tokens in spends:
        now += wait
        window.add(tokens, now, now)
        history.append((now, tokens))
        truth = sum(tokens for at, tokens in history if at > now - shape.seconds)
        width = shape.seconds / shape.buckets
        at_most = sum(tokens for at, tokens in history if at > now - shape.seconds - width - 1e-6)
        assert truth <= window.spent <= at_most


def test_a_reservation_counts_until_it_is_settled() -> None:
    """However long a turn takes, what was reserved for it does not expire."""
    budgets = Budgets({"a": BudgetConfig(tokens_per_minute=100)}, max_in_flight=9)
    first = budgets.reserve("a", 80, 0.0)
    assert isinstance(first, Reservation)
    assert isinstance(budgets.reserve("a", 30, 10_000.0), Refused)
    budgets.settle(first, 10, 10_000.0)
    assert isinstance(budgets.reserve("a", 90, 10_000.0), Reservation)


def test_what_exceeds_the_reservation_is_recorded_in_full() -> None:
    """An upstream that took more than was reserved is charged for all of it, and the excess is reported."""
    budgets = Budgets({"a": BudgetConfig(tokens_per_minute=100)}, max_in_flight=9)
    reservation = budgets.reserve("a", 40, 0.0)
    assert isinstance(reservation, Reservation)
    assert budgets.settle(reservation, 95, 0.0) == 55
    assert budgets.snapshot("a", 0.0)["tokens_per_minute"].used == 95
    assert isinstance(budgets.reserve("a", 6, 0.0), Refused)


def test_a_request_beyond_the_whole_limit_is_refused_for_good() -> None:
    """Waiting cannot help, and the refusal says so."""
    budgets = Budgets({"a": LIMITS}, max_in_flight=9)
    refused = budgets.reserve("a", 101, 0.0)
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.allowed, refused.asked, refused.permanent) == (
        "tokens_per_minute", 100, 101, True,
    )  # fmt: skip


def test_turns_in_flight_are_capped_alone_and_together() -> None:
    """Each subsystem has its cap and everyone together another; settling makes room."""
    budgets = Budgets({name: BudgetConfig(max_in_flight=2) for name in "ab"}, max_in_flight=3)
    held = [budgets.reserve("a", 1, 0.0), budgets.reserve("a", 1, 0.0), budgets.reserve("b", 1, 0.0)]
    own = budgets.reserve("a", 1, 0.0)
    everyone = budgets.reserve("b", 1, 0.0)
    assert isinstance(own, Refused)
    assert isinstance(everyone, Refused)
    assert (own.scope, everyone.scope) == ("a", "all")
    assert isinstance(held[0], Reservation)
    budgets.settle(held[0], 0, 0.0)
    assert isinstance(budgets.reserve("b", 1, 0.0), Reservation)


def test_spending_before_a_restart_counts_at_its_age() -> None:
    """A restart is no way around a budget, and no way to lose one either."""
    budgets = Budgets({"a": BudgetConfig(tokens_per_minute=100, tokens_per_hour=500)}, max_in_flight=9)
    now = 5_000.0
    budgets.restore(
        [Spend("a", 60, 30.0), Spend("a", 300, 600.0), Spend("a", 9, 4_000.0), Spend("gone", 5, 1.0)], now
    )
    snapshot = budgets.snapshot("a", now)
    assert (snapshot["tokens_per_minute"].used, snapshot["tokens_per_hour"].used) == (60, 360)
    assert isinstance(budgets.reserve("a", 41, now), Refused)
    assert isinstance(budgets.reserve("a", 100, now + 32), Reservation)


def test_settling_twice_is_a_fault() -> None:
    """A reservation has one end."""
    budgets = Budgets({"a": LIMITS}, max_in_flight=9)
    reservation = budgets.reserve("a", 1, 0.0)
    assert isinstance(reservation, Reservation)
    budgets.settle(reservation, 1, 0.0)
    with pytest.raises(BudgetError, match="settled"):
        budgets.settle(reservation, 1, 0.0)
    with pytest.raises(BudgetError, match="'b' has no budget"):
        budgets.reserve("b", 1, 0.0)


def test_a_changed_limit_keeps_what_was_spent_and_is_reserved() -> None:
    """Live, both ways: neither a fresh minute nor a lost reservation."""
    budgets = Budgets({"a": BudgetConfig(tokens_per_minute=100)}, max_in_flight=10)
    first = budgets.reserve("a", 30, 0.0)
    second = budgets.reserve("a", 30, 0.0)
    assert isinstance(first, Reservation)
    assert isinstance(second, Reservation)
    budgets.settle(first, 20, 0.0)
    budgets.configure({"a": BudgetConfig(tokens_per_minute=60)}, 10)
    assert isinstance(budgets.reserve("a", 20, 1.0), Refused)
    assert isinstance(budgets.reserve("a", 10, 1.0), Reservation)
    budgets.configure({"a": BudgetConfig(tokens_per_minute=200)}, 10)
    budgets.settle(second, 30, 2.0)
    assert budgets.snapshot("a", 2.0)["tokens_per_minute"] == (200, 60)


def test_a_window_that_is_limited_anew_is_told_what_was_spent_in_it() -> None:
    """By the ledger; the windows that counted already are not told twice."""
    budgets = Budgets({"a": BudgetConfig(tokens_per_minute=100)}, max_in_flight=10)
    budgets.restore([Spend("a", 40, 5.0)], 100.0)
    budgets.configure({"a": BudgetConfig(tokens_per_minute=100, tokens_per_day=500)}, 10)
    budgets.restore_fresh([Spend("a", 40, 5.0), Spend("a", 300, 3600.0)], 4000.0)
    usage = budgets.snapshot("a", 100.0)
    assert usage["tokens_per_minute"].used == 40
    assert usage["tokens_per_day"].used == 340


def test_a_change_that_was_broken_off_before_the_window_was_told_is_made_good_by_the_next() -> None:
    """The ledger could not be read for a moment; what was spent is not forgotten over that."""
    budgets = Budgets({"a": BudgetConfig()}, max_in_flight=10)
    daily = {"a": BudgetConfig(tokens_per_day=1000), "new": BudgetConfig(tokens_per_day=1000)}
    for _ in range(2):
        budgets.configure(daily, 10)
    budgets.restore_fresh([Spend("a", 900, 60.0), Spend("new", 700, 60.0)], 100.0)
    budgets.restore_fresh([Spend("a", 900, 60.0)], 100.0)
    assert budgets.snapshot("a", 100.0)["tokens_per_day"].used == 900
    assert budgets.snapshot("new", 100.0)["tokens_per_day"].used == 700
    assert isinstance(budgets.reserve("a", 900, 100.0), Refused)


def test_a_subsystem_that_comes_and_goes_is_neither_forgotten_nor_let_in() -> None:
    """Its turn in flight is still settled, nothing new is reserved, and coming back gives it no fresh budget."""
    limits = {"a": BudgetConfig(tokens_per_minute=100)}
    budgets = Budgets(limits, max_in_flight=10)
    turn = budgets.reserve("a", 90, 0.0)
    assert isinstance(turn, Reservation)
    budgets.configure({}, 10)
    assert not budgets.covers("a")
    with pytest.raises(BudgetError):
        budgets.reserve("a", 1, 0.0)
    budgets.settle(turn, 80, 1.0)
    budgets.configure(limits, 10)
    assert isinstance(budgets.reserve("a", 30, 2.0), Refused)


@pytest.mark.parametrize("shape", WINDOWS[:4], ids=lambda shape: shape.limit)
def test_a_window_keeps_a_spend_for_its_whole_length_and_a_bucket_at_most(shape: WindowShape) -> None:
    """Exactly: at the end of its length it counts still, wherever in its bucket it was spent."""
    width = shape.seconds / shape.buckets
    for into in (0.0, 0.5, 0.96875):
        at = (1_000 + into) * width
        window = Window(shape)
        window.add(7, at, at)
        window.advance(at + shape.seconds)
        assert window.spent == 7
        window.advance(at + shape.seconds + (1 - into) * width)
        assert window.spent == 0


@pytest.mark.parametrize("shape", WINDOWS[:4], ids=lambda shape: shape.limit)
def test_a_restored_spend_is_kept_as_long_as_one_of_this_life(shape: WindowShape) -> None:
    """At every age that still counts; one bucket older, and it is left out."""
    width = shape.seconds / shape.buckets
    now = 5_000 * width
    for buckets in range(shape.buckets + 2):
        window = Window(shape)
        window.add(7, now - buckets * width, now)
        assert window.spent == (7 if buckets <= shape.buckets else 0)
        if buckets <= shape.buckets:
            window.advance(now + (shape.buckets - buckets) * width)
            assert window.spent == 7
            window.advance(now + (shape.buckets + 1 - buckets) * width)
            assert window.spent == 0


def test_a_spend_from_the_future_counts_as_one_of_now() -> None:
    """Neither skipped nor kept beyond its window: it leaves when what is spent now does."""
    limits = {"a": BudgetConfig(tokens_per_minute=100, usd_per_minute=0.000_1, requests_per_minute=3)}
    for ahead in (-0.5, -1.0, -61.0, -1e9):
        budgets = Budgets(limits, max_in_flight=9)
        budgets.restore([Spend("a", 60, ahead, 70, requests=2)], 5_000.0)
        for at, used in ((5_000.0, (60, 70, 2)), (5_060.0, (60, 70, 2)), (5_061.0, (0, 0, 0))):
            usage = budgets.snapshot("a", at)
            assert tuple(u.used for u in usage.values()) == used, (ahead, at)
        budgets = Budgets({"a": BudgetConfig()}, max_in_flight=9)
        budgets.configure(limits, 9)
        budgets.restore_fresh([Spend("a", 60, ahead, 70, requests=2)], 5_000.0)
        assert tuple(u.used for u in budgets.snapshot("a", 5_061.0).values()) == (0, 0, 0)


def test_a_window_told_of_a_spend_ahead_of_it_counts_it_in_its_newest_bucket() -> None:
    """Not in one that is emptied when its own time comes: a minute later it would be forgotten too soon."""
    window = Window(WINDOWS[0])
    window.add(7, 100.0 + 59.0, 100.0)
    assert window.spent == 7
    window.advance(160.0)
    assert window.spent == 7
    window.advance(161.0)
    assert window.spent == 0
    window.add(9, 500.0, 170.0)
    window.advance(230.0)
    assert window.spent == 9
    window.advance(231.0)
    assert window.spent == 0


def test_an_overrun_in_money_alone_stops_the_subsystem() -> None:
    """The price was wrong, not the tokens; one micro-USD is enough, and none too many is none."""
    limits = {"a": BudgetConfig(usd_per_day=1.0), "b": BudgetConfig()}
    for microusd, stops in ((50, False), (51, True)):
        budgets = Budgets(limits, max_in_flight=9)
        held = budgets.reserve("a", 10, 0.0, 50)
        assert isinstance(held, Reservation)
        assert budgets.settle(held, 10, 0.0, microusd) == 0
        refused = budgets.reserve("a", 1, 0.0, 1)
        assert isinstance(refused, Refused) is stops
        assert (budgets.overrun("a") is not None) is stops
        assert isinstance(budgets.reserve("b", 1, 0.0), Reservation)


def removed(groups: dict[str, str]) -> SharedBudgets:
    """Everyone's budget and a team's, and who is, or was, in the team."""
    limits = SharedBudgetConfig(tokens_per_day=100, usd_per_day=0.000_1, requests_per_minute=10)
    return SharedBudgets({"team": limits, "other": limits}, groups, limits)


def test_what_a_removed_subsystem_spent_counts_for_its_group_and_for_everyone() -> None:
    """A restart without it gives nobody a fresh day; who was in no group, or in one that is gone, counts for all."""
    shared = removed({"gone": "team", "stays": "team", "lone": "", "lost": "dissolved"})
    budgets = Budgets({"stays": BudgetConfig()}, 9, shared)
    names = ("gone", "lone", "lost", "unknown")
    budgets.restore([Spend(name, 10, 5.0, 11) for name in names], 1_000.0)
    counted = {
        scope: [use.used for use in budgets.snapshot(scope, 1_000.0).values()] for scope in budgets.scopes
    }
    assert counted == {"all": [40, 44, 4], "group:team": [10, 11, 1], "group:other": [0, 0, 0], "stays": []}
    assert isinstance(budgets.reserve("stays", 61, 1_000.0), Refused)


def test_a_limit_that_is_new_is_told_what_a_removed_subsystem_spent() -> None:
    """As after a restart, and only once in each scope."""
    budgets = Budgets(
        {"gone": BudgetConfig(), "stays": BudgetConfig()}, 9, SharedBudgets({}, {}, SharedBudgetConfig())
    )
    budgets.configure({"stays": BudgetConfig()}, 9, removed({"gone": "team", "stays": "team"}))
    for _ in range(2):
        budgets.restore_fresh([Spend("gone", 10, 5.0, 11)], 1_000.0)
    for scope in ("all", "group:team"):
        assert [use.used for use in budgets.snapshot(scope, 1_000.0).values()] == [10, 11, 1]


def test_a_subsystem_taken_out_and_put_back_counts_nothing_twice() -> None:
    """Its own windows went on counting; only those that have no limit yet are told."""
    limits = {"a": BudgetConfig(tokens_per_day=100)}
    budgets = Budgets(limits, 9, removed({"a": "team"}))
    held = budgets.reserve("a", 30, 1_000.0)
    assert isinstance(held, Reservation)
    budgets.settle(held, 30, 1_000.0)
    for configured in ({}, limits):
        budgets.configure(configured, 9, removed({"a": "team"} if configured else {}))
        budgets.restore_fresh([Spend("a", 30, 0.0)], 1_000.0)
    for scope in ("a", "group:team", "all"):
        assert budgets.snapshot(scope, 1_000.0)["tokens_per_day"].used == 30


def test_the_smallest_limit_of_all_that_apply_is_the_largest_possible_request() -> None:
    """A subsystem's own, its group's or everyone's; money and requests bound no tokens."""
    shared = SharedBudgets(
        {"g": SharedBudgetConfig(tokens_per_day=70)},
        {"a": "g"},
        SharedBudgetConfig(tokens_per_hour=90, usd_per_day=0.01),
    )
    budgets = Budgets(
        {"a": BudgetConfig(tokens_per_minute=80), "b": BudgetConfig(requests_per_minute=1)}, 8, shared
    )
    found = {name: budgets.largest(name) for name in ("a", "b")}
    assert found["a"] is not None
    assert (found["a"].scope, found["a"].limit, found["a"].allowed) == ("group:g", "tokens_per_day", 70)
    assert found["b"] is not None
    assert (found["b"].scope, found["b"].limit, found["b"].allowed) == ("all", "tokens_per_hour", 90)
    assert Budgets({"a": BudgetConfig()}, 8).largest("a") is None
