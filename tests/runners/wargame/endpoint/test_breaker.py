"""A model that fails again and again is left alone until one probe succeeds."""

from __future__ import annotations

import pytest

from runners.wargame.endpoint.breaker import Breaker
from runners.wargame.outcomes import CallOutcome
from runners.wargame.settings import Limits

LIMITS = Limits(breaker_failures=3, pause_first_seconds=10.0, pause_max_seconds=35.0)


def failed(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        breaker.record(CallOutcome.HTTP_5XX, 500, "HTTP 500", now)


def test_opens_after_failures_in_a_row_only() -> None:
    """A success in between starts the count again."""
    breaker = Breaker("m", LIMITS)
    failed(breaker, 2)
    breaker.record(CallOutcome.OK, 200, "", 0.0)
    failed(breaker, 2)
    assert not breaker.is_open
    failed(breaker, 1, now=5.0)
    assert breaker.is_open
    assert breaker.retry_at == 15.0
    assert "m: http_5xx" in breaker.reason


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_decision_against_us_opens_at_once(status: int) -> None:
    """A quarantine or an empty budget is not argued with twenty times."""
    breaker = Breaker("m", LIMITS)
    breaker.record(CallOutcome.HTTP_4XX, status, "quarantined", 0.0)
    assert breaker.is_open


@pytest.mark.parametrize("outcome", [CallOutcome.EMPTY, CallOutcome.TRUNCATED])
def test_a_useless_answer_is_still_an_answer(outcome: CallOutcome) -> None:
    """An endpoint that answers badly is up; its rounds are void, not waited for."""
    breaker = Breaker("m", LIMITS)
    for _ in range(50):
        breaker.record(outcome, 200, "", 0.0)
    assert not breaker.is_open


@pytest.mark.parametrize("outcome", [CallOutcome.CIRCUIT_OPEN, CallOutcome.DEADLINE, CallOutcome.HTTP_429])
def test_what_says_nothing_of_the_model_does_not_count(outcome: CallOutcome) -> None:
    """Our own deadlines and a polite 429 neither open nor close."""
    breaker = Breaker("m", LIMITS)
    for _ in range(50):
        breaker.record(outcome, 0, "", 0.0)
    assert not breaker.is_open


def test_failed_probes_come_further_apart_and_a_good_one_closes() -> None:
    """Twice as long each time up to the limit; after a success everything is as at first."""
    breaker = Breaker("m", LIMITS)
    failed(breaker, 3)
    waits = []
    for _ in range(3):
        breaker.postpone(100.0)
        waits.append(breaker.retry_at - 100.0)
    assert waits == [20.0, 35.0, 35.0]
    breaker.record(CallOutcome.OK, 200, "", 200.0)
    assert not breaker.is_open
    failed(breaker, 3, now=300.0)
    assert breaker.retry_at == 310.0


def test_a_hold_lasts_as_long_as_the_server_asked() -> None:
    """Retry-After beyond a round's deadline becomes a pause of that length."""
    breaker = Breaker("m", LIMITS)
    breaker.hold(22.0, "HTTP 429", 100.0)
    assert breaker.is_open
    assert breaker.retry_at == 122.0
    breaker.postpone(122.0, asked_seconds=30.0)
    assert breaker.retry_at == 152.0


def test_no_server_sends_us_away_for_ever() -> None:
    """`Retry-After: 1000000000` was once a pause of 31 years; no pause is above the longest."""
    breaker = Breaker("m", LIMITS)
    breaker.hold(1e9, "HTTP 429", 100.0)
    assert breaker.retry_at == 135.0
    assert "asked to wait 1000000000 s" in breaker.reason
    breaker.postpone(135.0, asked_seconds=1e9)
    assert breaker.retry_at == 170.0


def test_who_says_when_to_come_back_is_asked_then() -> None:
    """Not after a pause that has doubled meanwhile, and not in the same instant either."""
    breaker = Breaker("m", LIMITS)
    breaker.hold(5.0, "HTTP 503", 100.0)
    for now in (105.0, 110.0, 115.0):
        breaker.postpone(now, asked_seconds=5.0)
        assert breaker.retry_at == now + 5.0
    breaker.postpone(120.0, asked_seconds=0.001)
    assert breaker.retry_at == 121.0
