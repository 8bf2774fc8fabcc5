"""Budgets as text: each unit as people say it, and the limit that matters first."""

from __future__ import annotations

import pytest

from epad.formatting import amounts


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9_999, "9999"), (10_000, "10k"), (9_999_999, "10000k"), (10_000_000, "10M")],
)
def test_counts(number: int, text: str) -> None:
    """Short enough for a column."""
    assert amounts.count(number) == text


@pytest.mark.parametrize(
    ("name", "used", "limit", "text"),
    [
        ("tokens_per_minute", 1_500, 6_000, "1500/6000 per minute"),
        ("tokens_in_all", 10_000, 2_000_000, "10k/2000k in all"),
        ("microusd_per_day", 120_000, 5_000_000, "$0.12/$5.00 per day"),
        ("microusd_per_month", 1, 1_234_500_000, "<$0.01/$1,234.50 per month"),
        ("microusd_per_hour", 0, 5_000_000, "$0.00/$5.00 per hour"),
        ("requests_per_minute", 3, 60, "3/60 requests per minute"),
        ("max_in_flight", 2, 8, "2/8 in flight"),
    ],
)
def test_a_limit_is_shown_in_its_own_unit(name: str, used: int, limit: int, text: str) -> None:
    """Tokens, dollars, requests and turns are told apart."""
    assert amounts.used_of_limit(name, {"used": used, "limit": limit}) == text


def test_the_fullest_limit_stands_for_all() -> None:
    """What will refuse first is shown; how many more there are is said; a cap on turns is no budget."""
    windows = {
        "tokens_per_minute": {"used": 10, "limit": 100},
        "tokens_per_day": {"used": 90, "limit": 100},
        "tokens_per_hour": {"used": 9, "limit": 0},
        "max_in_flight": {"used": 8, "limit": 8},
    }
    assert amounts.fullest(windows) == "90/100 per day (+1)"
    assert amounts.every(windows) == "10/100 per minute, 90/100 per day, 8/8 in flight"
    assert amounts.fullest({"max_in_flight": {"used": 8, "limit": 8}}) == "-"
    assert amounts.every({}) == "-"
