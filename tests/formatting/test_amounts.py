"""Budgets as text: each unit as people say it, and the limit that matters first."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.answers.status import Use
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
    windows: dict[str, Use] = {
        "tokens_per_minute": {"used": 10, "limit": 100},
        "tokens_per_day": {"used": 90, "limit": 100},
        "tokens_per_hour": {"used": 9, "limit": 0},
        "max_in_flight": {"used": 8, "limit": 8},
    }
    assert amounts.fullest(windows) == "90/100 per day (+1)"
    assert amounts.every(windows) == "10/100 per minute, 90/100 per day, 8/8 in flight"
    assert amounts.fullest({"max_in_flight": {"used": 8, "limit": 8}}) == "-"
    assert amounts.every({}) == "-"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("20k", 20_000),
        ("20K", 20_000),
        ("2M", 2_000_000),
        ("1.5M", 1_500_000),
        ("0.001k", 1),
        ("1.50M", 1_500_000),
        ("200000", 200_000),
        ("1_000", 1_000),
        ("2.5", 2.5),
        ("-1", -1),
    ],
)
def test_an_amount_is_read_as_people_type_it(text: str, number: float) -> None:
    """Short or in full."""
    assert amounts.read(text) == number
    assert type(amounts.read(text)) is type(number)


WRONG = [
    "",
    "k",
    "M",
    ".k",
    "5.k",
    ".5M",
    "20kk",
    "20 k",
    "-1k",
    "1_0k",
    "1e3k",
    "2m",
    "2G",
    "lots",
    "\u0662k",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_amount_is_refused_with_examples(text: str) -> None:
    """Nothing is guessed: 2m may be thousandths."""
    with pytest.raises(amounts.AmountError, match=r"is no amount; give a number, with k for thousands or M"):
        amounts.read(text)


def test_a_part_of_a_token_is_refused() -> None:
    """No one who types 1.2345k means 1234 and a half."""
    with pytest.raises(amounts.AmountError, match=r"'1\.2345k' is no whole number"):
        amounts.read("1.2345k")


@given(st.integers(0, 10**13), st.sampled_from(sorted(amounts.SHORT_FOR)))
def test_every_whole_number_has_a_short_form_that_is_read_as_it(number: int, unit: str) -> None:
    """To the last digit, which floating point would not do."""
    short = Decimal(number) / amounts.SHORT_FOR[unit]
    assert amounts.read(f"{short:f}{unit}") == number


@given(st.text(max_size=12) | st.from_regex(r"[0-9._]{0,8}[kKM]?", fullmatch=True))
def test_whatever_is_typed_is_an_amount_or_refused(text: str) -> None:
    """A number comes of it, or the one error."""
    number: float | None = None
    with contextlib.suppress(amounts.AmountError):
        number = amounts.read(text)
    assert text[-1:] not in amounts.SHORT_FOR or number is None or isinstance(number, int)
