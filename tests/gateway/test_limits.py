"""One scope's limits, by exact examples: what is counted when, which limit is named, and how long it takes."""

from __future__ import annotations

import math

import pytest

from epad.configuration.schema import BudgetConfig, SharedBudgetConfig
from epad.gateway.limits import (
    IN_FLIGHT_RETRY_SECONDS,
    LONGEST_WINDOW_SECONDS,
    MONEY_WINDOWS,
    PARALLEL_SECONDS,
    REQUEST_SECONDS,
    UNKNOWN_PARALLEL,
    WINDOWS,
    Meter,
    Parallel,
    Refused,
    Scope,
    Sum,
    Usage,
    Window,
    WindowShape,
)

MINUTE, HOUR, DAY, MONTH, IN_ALL = WINDOWS
# Four buckets of ten seconds: what is spent in one leaves when the fifth after it begins.
SHORT = WindowShape("short", 40.0, 4)
LONG = WindowShape("long", 400.0, 4)


def test_the_windows_are_what_the_configuration_calls_them() -> None:
    spans = ["per_minute", "per_hour", "per_day", "per_month", "in_all"]
    assert [shape.limit for shape in WINDOWS] == [f"tokens_{span}" for span in spans]
    assert [shape.limit for shape in MONEY_WINDOWS] == [f"microusd_{span}" for span in spans]
    lengths = [60.0, 3_600.0, 86_400.0, 31 * 86_400.0, math.inf]
    assert [shape.seconds for shape in WINDOWS] == [shape.seconds for shape in MONEY_WINDOWS] == lengths
    assert [shape.seconds / shape.buckets for shape in WINDOWS] == [1.0, 30.0, 300.0, 3_600.0, math.inf]
    assert (LONGEST_WINDOW_SECONDS, REQUEST_SECONDS) == (31 * 86_400.0, 61.0)
    assert (IN_FLIGHT_RETRY_SECONDS, PARALLEL_SECONDS, UNKNOWN_PARALLEL) == (1.0, 60.0, 4)
    scope = Scope("a", BudgetConfig(requests_per_minute=1))
    scope.hold(0, 0, 0.0)
    refused = scope.crowded(0.0)
    assert refused == Refused("a", "requests_per_minute", 1, 1, 1, REQUEST_SECONDS)


def test_a_window_forgets_bucket_by_bucket() -> None:
    window = Window(SHORT)
    assert window.spent == 0
    for amount, at in ((1, 5.0), (2, 15.0), (4, 25.0), (8, 35.0), (16, 45.0)):
        window.add(amount, at, at)
    left = {}
    for now in (49.9, 50.0, 59.9, 60.0, 70.0, 80.0, 90.0):
        window.advance(now)
        left[now] = window.spent
    assert left == {49.9: 31, 50.0: 30, 59.9: 30, 60.0: 28, 70.0: 24, 80.0: 16, 90.0: 0}


@pytest.mark.parametrize("later", [90.0, 95.0, 140.0, 1e9])
def test_a_window_that_slept_longer_than_it_is_long_is_empty(later: float) -> None:
    """And counts as before."""
    window = Window(SHORT)
    for at in (0.0, 10.0, 20.0, 30.0, 40.0):
        window.add(1, at, at)
    window.advance(later)
    assert window.spent == 0
    window.add(3, later, later)
    window.advance(later + 39.9)
    assert window.spent == 3


def test_time_that_goes_backwards_stands_still() -> None:
    window = Window(SHORT)
    window.add(7, 100.0, 100.0)
    window.advance(20.0)
    assert window.spent == 7
    window.add(1, 20.0, 20.0)  # counted at its own time, which is older than the window
    assert window.spent == 7
    window.advance(149.9)
    assert window.spent == 7
    window.advance(150.0)
    assert window.spent == 0


def test_a_spend_that_is_older_than_the_window_is_not_counted_and_the_oldest_that_fits_is() -> None:
    window = Window(SHORT)
    window.add(1, 9.9, 50.0)
    assert window.spent == 0
    window.add(2, 10.0, 50.0)
    assert window.spent == 2
    window.advance(60.0)
    assert window.spent == 0


def test_when_an_amount_is_free_again_is_told_to_the_bucket() -> None:
    window = Window(SHORT)
    window.add(5, 3.0, 3.0)
    window.add(7, 18.0, 18.0)
    told = [window.seconds_until_freed(amount, 20.0) for amount in (1, 5, 6, 12, 13)]
    assert told == [30.0, 30.0, 40.0, 40.0, None]
    assert window.seconds_until_freed(1, 49.0) == 1.0
    assert window.seconds_until_freed(6, 50.0) == 10.0
    assert window.seconds_until_freed(8, 50.0) is None
    assert Window(SHORT).seconds_until_freed(1, 0.0) is None


def test_a_window_asked_late_has_advanced_before_it_answers() -> None:
    window = Window(SHORT)
    window.add(5, 3.0, 3.0)
    assert window.seconds_until_freed(5, 60.0) is None


def test_the_first_bucket_of_all_is_one_like_the_others() -> None:
    """What is ahead of it counts in it, and what is behind it in its own."""
    window = Window(SHORT)
    window.add(7, 15.0, 5.0)
    window.advance(15.0)
    assert window.spent == 7
    window.advance(50.0)
    assert window.spent == 0
    window = Window(SHORT)
    window.add(5, -35.0, 3.0)
    assert window.spent == 5
    assert window.seconds_until_freed(5, 3.0) == 7.0


def test_the_oldest_bucket_is_the_first_to_be_free() -> None:
    window = Window(SHORT)
    window.add(5, 3.0, 3.0)
    assert window.seconds_until_freed(5, 45.0) == 5.0


def test_the_least_of_all_limits_is_left_wherever_it_stands() -> None:
    assert Meter("a", {SHORT: 60, LONG: 100}).left(0.0) == 60
    assert Meter("a", {LONG: 100, SHORT: 60}).left(0.0) == 60


def test_nothing_leaves_a_sum() -> None:
    total = Sum(IN_ALL)
    assert total.spent == 0
    total.add(3, 0.0, 0.0)
    total.add(4, 1e9, 0.0)
    total.advance(1e12)
    assert total.spent == 7
    assert [total.seconds_until_freed(amount, 0.0) for amount in (6, 7, 8)] == [math.inf, math.inf, None]


def test_a_meter_without_limits_refuses_nothing() -> None:
    meter = Meter("a", {SHORT: 0})
    assert (meter.limited, meter.smallest, meter.left(0.0), meter.usage(0.0)) == (False, None, None, {})
    assert meter.too_large(10**9, 0.0) is None
    assert meter.refuses(10**9, 0.0) is None


def test_a_meter_counts_what_is_spent_and_what_is_reserved() -> None:
    meter = Meter("a", {SHORT: 100, LONG: 60})
    assert (meter.limited, meter.left(0.0)) == (True, 60)
    assert meter.smallest == Refused("a", LONG.limit, 60, 0, 0, 0.0, True)
    meter.reserved += 30
    meter.spend(20, 0.0, 0.0)
    assert meter.left(0.0) == 10
    assert meter.usage(0.0) == {"short": Usage(100, 50), "long": Usage(60, 50)}
    meter.settle(30, 5, 10.0)
    assert (meter.reserved, meter.left(10.0)) == (0, 35)
    assert meter.usage(50.0) == {"short": Usage(100, 5), "long": Usage(60, 25)}
    assert meter.left(500.0) == 60
    meter.spend(70, 500.0, 500.0)
    assert meter.left(500.0) == 0


def test_what_is_larger_than_a_limit_is_refused_for_good_and_by_the_first() -> None:
    meter = Meter("a", {SHORT: 100, LONG: 60})
    meter.reserved = 7
    meter.spend(5, 0.0, 0.0)
    assert meter.too_large(60, 0.0) is None
    assert meter.too_large(61, 0.0) == Refused("a", "long", 60, 12, 61, 0.0, True)
    assert meter.too_large(101, 0.0) == Refused("a", "short", 100, 12, 101, 0.0, True)
    assert meter.too_large(101, 50.0) == Refused("a", "short", 100, 7, 101, 0.0, True)


def test_the_limit_that_takes_longest_is_named() -> None:
    meter = Meter("a", {SHORT: 100, LONG: 100})
    meter.spend(90, 0.0, 0.0)
    assert meter.refuses(10, 0.0) is None
    assert meter.refuses(11, 0.0) == Refused("a", "long", 100, 90, 11, 500.0)
    meter.change({LONG: 100, SHORT: 100})
    assert meter.refuses(11, 0.0) == Refused("a", "long", 100, 90, 11, 500.0)
    assert meter.refuses(11, 60.0) == Refused("a", "long", 100, 90, 11, 440.0)
    assert meter.refuses(11, 500.0) is None


def test_of_two_limits_that_take_as_long_the_first_is_named() -> None:
    other = WindowShape("other", 40.0, 4)
    meter = Meter("a", {SHORT: 10, other: 10})
    meter.spend(10, 0.0, 0.0)
    refused = meter.refuses(1, 0.0)
    assert refused is not None
    assert (refused.limit, refused.retry_after_seconds, refused.permanent) == ("short", 50.0, False)


def test_what_is_reserved_may_be_given_back_at_any_time() -> None:
    """Where not even an empty window has room beside it, the end of a turn must bring it: ask again soon."""
    meter = Meter("a", {SHORT: 100})
    meter.reserved = 95
    meter.spend(3, 0.0, 0.0)
    assert meter.refuses(5, 0.0) == Refused("a", "short", 100, 98, 5, 50.0)
    assert meter.refuses(6, 0.0) == Refused("a", "short", 100, 98, 6, IN_FLIGHT_RETRY_SECONDS)


def test_a_window_that_is_new_is_told_once_what_was_spent_before() -> None:
    meter = Meter("a", {SHORT: 100})
    meter.told()
    meter.spend(10, 0.0, 0.0)
    meter.change({SHORT: 90, LONG: 80})
    meter.spent_before(30, 0.0, 0.0)
    assert meter.usage(0.0) == {"short": Usage(90, 10), "long": Usage(80, 30)}
    meter.change({SHORT: 70, LONG: 60})  # the change was broken off: the new window is still to be told
    meter.spent_before(1, 0.0, 0.0)
    assert meter.usage(0.0) == {"short": Usage(70, 10), "long": Usage(60, 31)}
    meter.told()
    meter.spent_before(9, 0.0, 0.0)
    assert meter.usage(0.0) == {"short": Usage(70, 10), "long": Usage(60, 31)}
    meter.change({LONG: 60})
    meter.change({SHORT: 70, LONG: 60})  # gone, and new again
    meter.spent_before(2, 0.0, 0.0)
    assert meter.usage(0.0) == {"short": Usage(70, 2), "long": Usage(60, 31)}


def test_a_spend_of_before_counts_at_its_time() -> None:
    meter = Meter("a", {SHORT: 100})
    meter.spent_before(30, 0.0, 40.0)
    assert meter.usage(49.0) == {"short": Usage(100, 30)}
    assert meter.usage(50.0) == {"short": Usage(100, 0)}


def test_as_many_turns_are_expected_as_were_under_way_of_late() -> None:
    parallel = Parallel()
    assert (parallel.known, parallel.expected(0), parallel.expected(7)) == (False, 4, 4)
    parallel.began(1, 0.0)
    assert parallel.expected(0) == 4  # none has ended: who asks at once is not seen yet
    parallel.ended()
    assert (parallel.known, parallel.expected(0), parallel.expected(1)) == (True, 1, 4)
    parallel.began(8, 10.0)
    assert [parallel.expected(others) for others in (0, 1, 7, 8, 9)] == [8, 7, 1, 4, 4]
    parallel.began(2, 69.9)  # fewer, within the minute
    assert parallel.expected(0) == 8
    parallel.began(2, 70.0)
    assert parallel.expected(0) == 2


def test_where_nothing_is_remembered_one_alone_is_expected_alone() -> None:
    parallel = Parallel()
    parallel.ended()
    assert (parallel.expected(0), parallel.expected(1)) == (1, 4)


def test_as_many_at_once_again_keep_it_for_another_minute() -> None:
    parallel = Parallel()
    parallel.ended()
    parallel.began(3, 0.0)
    parallel.began(3, 50.0)
    parallel.began(1, 109.0)
    assert parallel.expected(0) == 3
    parallel.began(1, 110.0)
    assert parallel.expected(0) == 1


LIMITS = BudgetConfig(tokens_per_minute=100, usd_per_hour=0.000_2, requests_per_minute=3, max_in_flight=2)


def test_a_scope_holds_and_settles_in_every_meter() -> None:
    scope = Scope("a", LIMITS)
    assert (scope.name, scope.in_flight, scope.waiting, scope.overrun) == ("a", 0, 0, None)
    scope.hold(40, 50, 0.0)
    assert scope.usage(0.0) == {
        "tokens_per_minute": Usage(100, 40),
        "microusd_per_hour": Usage(200, 50),
        "requests_per_minute": Usage(3, 1),
    }
    assert scope.in_flight == 1
    scope.settle((40, 50), (11, 22), 1.0)
    assert [use.used for use in scope.usage(1.0).values()] == [11, 22, 1]
    assert (scope.in_flight, scope.parallel.known) == (0, True)


def test_turns_that_wait_are_expected_beside_those_in_flight() -> None:
    scope = Scope("a", BudgetConfig())
    scope.waiting = 5
    scope.hold(1, 1, 0.0)
    scope.settle((1, 1), (1, 1), 0.0)
    assert scope.parallel.expected(0) == 6


def test_a_scope_is_crowded_by_turns_in_flight_or_by_those_that_began() -> None:
    scope = Scope("a", LIMITS)
    for _ in range(2):
        assert scope.crowded(0.0) is None
        scope.hold(1, 1, 0.0)
    assert scope.crowded(0.0) == Refused("a", "max_in_flight", 2, 2, 1, 1.0)
    scope.settle((1, 1), (1, 1), 0.0)
    assert scope.crowded(0.0) is None
    scope.hold(1, 1, 30.0)
    scope.settle((1, 1), (1, 1), 30.0)
    assert scope.crowded(30.0) == Refused("a", "requests_per_minute", 3, 3, 1, 31.0)
    assert scope.crowded(61.0) is None
    assert Scope("free", SharedBudgetConfig()).crowded(0.0) is None


def test_what_no_waiting_helps_with_comes_first() -> None:
    """An overrun, then what is too large, in tokens or money, then the crowd, then what takes longest."""
    scope = Scope("a", LIMITS)
    scope.hold(90, 150, 0.0)
    scope.settle((90, 150), (90, 150), 0.0)
    assert scope.refuses(10, 50, 0.0) is None
    by_tokens = Refused("a", "tokens_per_minute", 100, 90, 11, 61.0)
    by_money = Refused("a", "microusd_per_hour", 200, 150, 51, 3_630.0)
    assert scope.refuses(11, 50, 0.0) == by_tokens
    assert scope.refuses(10, 51, 0.0) == by_money
    assert scope.refuses(11, 51, 0.0) == by_money
    for _ in range(2):
        scope.hold(1, 1, 0.0)
    crowd = scope.refuses(11, 51, 0.0)
    assert crowd is not None
    assert crowd.limit == "max_in_flight"
    money = scope.refuses(1, 201, 0.0)
    tokens = scope.refuses(101, 201, 0.0)
    assert money == Refused("a", "microusd_per_hour", 200, 152, 201, 0.0, True)
    assert tokens == Refused("a", "tokens_per_minute", 100, 92, 101, 0.0, True)
    scope.overrun = Refused("a", "overrun", 1, 2, 0, 0.0, True)
    assert scope.refuses(101, 201, 0.0) is scope.overrun


def test_the_longer_of_two_waits_is_told_whichever_it_is() -> None:
    scope = Scope("a", BudgetConfig(tokens_per_day=10, usd_per_minute=0.000_01))
    scope.hold(10, 10, 0.0)
    scope.settle((10, 10), (10, 10), 0.0)
    refused = scope.refuses(1, 1, 0.0)
    assert refused is not None
    assert (refused.limit, refused.retry_after_seconds) == ("tokens_per_day", 86_700.0)


def test_a_scope_whose_limits_change_keeps_its_counts() -> None:
    scope = Scope("a", LIMITS)
    scope.hold(40, 50, 0.0)
    changed = BudgetConfig(
        tokens_per_minute=50, usd_per_hour=0.000_06, requests_per_minute=2, max_in_flight=1, usd_in_all=0.5
    )
    scope.change(changed)
    assert scope.usage(0.0) == {
        "tokens_per_minute": Usage(50, 40),
        "microusd_per_hour": Usage(60, 50),
        "microusd_in_all": Usage(500_000, 50),  # what is reserved counts in every window, a new one too
        "requests_per_minute": Usage(2, 1),
    }
    assert scope.crowded(0.0) == Refused("a", "max_in_flight", 1, 1, 1, 1.0)


def test_a_scope_that_was_told_is_told_no_more() -> None:
    """Of tokens, money and requests."""
    scope = Scope("a", LIMITS)
    for told in (False, True):
        for meter in (scope.tokens, scope.money, scope.requests):
            meter.spent_before(1, 0.0, 0.0)
        assert [use.used for use in scope.usage(0.0).values()] == [1, 1, 1], told
        scope.told()
