"""Prices: whole micro-USD, the most specific name, and a reservation that nothing can cost more than."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from epad.configuration.load import ConfigError, load
from epad.configuration.schema import PriceConfig
from epad.gateway.charge import Bound, Charge, charge_stream
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.money import FREE, Price, Prices, TokenCount, dollars
from epad.ledger.record import UsageSource

RATES = st.integers(0, 600_000_000)
COUNTS = st.integers(0, 2_000_000)


def test_the_published_example_costs_what_the_bill_says() -> None:
    """1,000 in of which 800 cached, 500 out of which 200 reasoning, at 3 / 0.30 / 15 USD per million."""
    prices = Prices({"m": PriceConfig(input=3.0, output=15.0, cached_read=0.3)})
    price = prices.of("m")
    assert price is not None
    assert price.cost(TokenCount(input=200, output=300, cached_read=800, reasoning=200)) == 600 + 240 + 7_500
    usage = TokenUsage(1_000, 500, cached_read_tokens=800, reasoning_tokens=200)
    charge = charge_stream(usage, 0, Bound(2_000, 500))
    assert (charge.tokens, charge.cost(price)) == (1_500, 8_340)
    assert dollars(8_340) == "$0.008340"


PRICES = st.builds(Price, RATES, RATES, RATES, RATES, RATES, st.none() | RATES)
COUNTED = st.builds(TokenCount, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)


def input_of(count: TokenCount) -> int:
    return count.input + count.cached_read + count.cache_write + count.cache_write_hour


@given(PRICES, COUNTED, st.integers(0, 1_000), st.integers(0, 1_000))
def test_no_turn_within_its_bound_costs_more_than_was_reserved(
    price: Price, count: TokenCount, unread: int, unwritten: int
) -> None:
    """However the tokens split over the rates: cached, written for minutes or an hour, reasoned or none of it."""
    most = price.at_most(input_of(count) + unread, count.output + count.reasoning + unwritten)
    assert 0 <= price.cost(count) <= most


@given(PRICES, COUNTED)
def test_a_cost_is_the_exact_sum_rounded_up(price: Price, count: TokenCount) -> None:
    """Never below it, and by less than one micro-USD above."""
    hour = price.cache_write if price.cache_write_hour is None else price.cache_write_hour
    exact = Fraction(
        count.input * price.input
        + count.output * price.output
        + count.cached_read * price.cached_read
        + count.cache_write * price.cache_write
        + count.cache_write_hour * hour
        + count.reasoning * price.reasoning,
        1_000_000,
    )
    assert exact <= price.cost(count) < exact + 1


@given(PRICES, st.sampled_from(["input", "cached_read", "cache_write", "cache_write_hour"]), COUNTS)
def test_the_most_is_reached_by_the_dearest_way_to_read(price: Price, kind: str, tokens: int) -> None:
    """So a reservation is no larger than it must be, and none of the rates is left out of it."""
    ways = [
        price.cost(TokenCount(**{name: tokens}))
        for name in ("input", "cached_read", "cache_write", "cache_write_hour")
    ]
    assert price.at_most(tokens, 0) == max(ways) >= price.cost(TokenCount(**{kind: tokens}))


def test_anthropics_example_costs_what_its_price_list_says() -> None:
    """Sonnet: 3 in, 15 out, 0.30 read, 3.75 written for five minutes and 6 for an hour; the last need not be given."""
    count = TokenCount(input=10, output=100, cached_read=1_000, cache_write=10_000, cache_write_hour=100_000)
    expected = 30 + 1_500 + 300 + 37_500 + 600_000
    rates = PriceConfig(input=3.0, output=15.0, cached_read=0.3, cache_write=3.75)
    for hour in (None, 6.0):
        price = Prices({"m": structs.replace(rates, cache_write_hour=hour)}).of("m")
        assert price is not None
        assert price.cost(count) == expected
        assert price.at_most(1_000_000, 0) == 6_000_000
    charge = Charge(
        111_010, 100, UsageSource.USAGE, 1_000, cache_write_tokens=110_000, cache_write_hour_tokens=100_000
    )
    assert price is not None
    assert charge.cost(price) == expected


@pytest.mark.parametrize(
    ("written", "hour", "rate"),
    [
        (None, None, 3.0),  # nobody asks for writes: all of the input costs the same
        (3.75, None, 6.0),  # twice the input
        (6.0, None, 6.0),
        (9.0, None, 9.0),  # an hour is never cheaper than five minutes
        (3.75, 3.75, 3.75),  # as given, where the provider says so
        (None, 6.0, 6.0),
        (3.75, 0.0, 0.0),
    ],
)
def test_the_rate_of_an_hour_is_as_given_or_never_guessed_low(
    written: float | None, hour: float | None, rate: float
) -> None:
    """And a model whose writes have no price of their own reserves no more than before."""
    config = PriceConfig(input=3.0, output=15.0, cache_write=written, cache_write_hour=hour)
    price = Prices({"m": config}).of("m")
    assert price is not None
    assert price.cost(TokenCount(cache_write_hour=1_000)) == rate * 1_000
    assert price.at_most(1_000, 0) == max(3.0, written or 0.0, rate) * 1_000


def test_a_fraction_of_a_micro_usd_is_charged_as_a_whole_one() -> None:
    """Rounding down would let a million tiny turns through for nothing."""
    price = Prices({"m": PriceConfig(input=0.01, output=0.01)}).of("m")
    assert price is not None
    assert price.cost(TokenCount(input=1)) == 1
    assert price.cost(TokenCount(input=100)) == 1
    assert price.cost(TokenCount(input=101)) == 2
    assert FREE.cost(TokenCount(5, 5, 5, 5, 5, 5)) == 0


def test_the_most_specific_price_wins_in_whatever_order_it_is_given() -> None:
    """A model's own name, then the pattern with the most to say; none is None, which is not free."""
    table = {
        "*": PriceConfig(input=1.0, output=1.0),
        "gpt-*": PriceConfig(input=2.0, output=2.0),
        "gpt-4o*": PriceConfig(input=3.0, output=3.0),
        "gpt-4o-mini": PriceConfig(input=4.0, output=4.0),
    }
    for names in (list(table), list(reversed(table))):
        prices = Prices({name: table[name] for name in names})
        found = [prices.of(model) for model in ("gpt-4o-mini", "gpt-4o-2024", "gpt-3", "llama")]
        assert [price.input for price in found if price] == [4_000_000, 3_000_000, 2_000_000, 1_000_000]
    assert Prices({"gpt-*": table["*"]}).of("llama") is None


def test_what_the_upstream_did_not_count_is_charged_at_the_dearest_rate() -> None:
    """An estimate never profits from a discount."""
    price = Price(1_000_000, 2_000_000, 100_000, 1_250_000, 3_000_000)
    assert Charge(100, 10, UsageSource.RESERVED).cost(price) == 125 + 30
    assert charge_stream(None, 99, Bound(100, 10)).tokens == 110
    most = charge_stream(None, 2, Bound(100, 10), most_tokens=8)
    assert (most.output_tokens, most.tokens, most.cost(price)) == (2, 108, 125 + 24)
    assert charge_stream(None, 2, Bound(100, 10), most_tokens=99).tokens == 110
    assert charge_stream(TokenUsage(100, 3), 2, Bound(100, 10), most_tokens=99).tokens == 103


@pytest.mark.parametrize(
    ("price", "prompt", "amount", "output"),
    [
        # 2 micro-USD a token of input, 10 of output: of 100 the prompt takes 60.
        (Price(2_000_000, 10_000_000, 0, 0, 0), 30, 100, 4),
        (Price(2_000_000, 10_000_000, 0, 0, 0), 30, 109, 4),
        (Price(2_000_000, 10_000_000, 0, 0, 0), 30, 110, 5),
        (Price(2_000_000, 10_000_000, 0, 0, 0), 50, 100, 0),
        (Price(2_000_000, 10_000_000, 0, 0, 0), 51, 100, -1),
        (Price(2_000_000, 10_000_000, 0, 0, 20_000_000), 30, 100, 2),  # reasoning is dearer than text
        (Price(0, 0, 2_000_000, 0, 10_000_000), 30, 100, 4),  # each rate of the input may be the dearest
        (Price(0, 0, 0, 2_000_000, 10_000_000), 30, 100, 4),
        (Price(0, 0, 0, 0, 10_000_000, 2_000_000), 30, 100, 4),
        (Price(2_000_000, 0, 0, 0, 0), 30, 100, 1 << 53),  # output for nothing: there is no end to it
        (Price(2_000_000, 0, 0, 0, 0), 51, 100, -1),
        (Price(2_000_000, 0, 0, 0, 1), 30, 100, 40_000_000),
    ],
)
def test_an_amount_buys_so_much_output_and_no_token_more(
    price: Price, prompt: int, amount: int, output: int
) -> None:
    assert price.affordable_output(prompt, amount) == output
    if 0 <= output < 1 << 53:
        assert price.at_most(prompt, output) <= amount < price.at_most(prompt, output + 1)


def test_a_price_whose_pattern_says_more_of_the_name_wins() -> None:
    """What stands for any character says nothing, however many there are of it; of two that say as much, by name."""
    table = {"m[0-9][0-9]?": 1, "m1*": 2, "m?": 3, "m*": 4, "n?": 5, "[ab]": 6, "a": 7, "z[0-9]x": 8, "z*": 9}
    prices = Prices({name: PriceConfig(input=usd, output=usd) for name, usd in table.items()})
    names = {
        "m11x": 2,
        "m22x": 4,
        "mx": 4,
        "nx": 5,
        "b": 6,
        "a": 7,
        "z1x": 8,
        "zx": 9,
        "M1": None,
        "n": None,
        "nxx": None,
    }
    found = {name: price.input if (price := prices.of(name)) else None for name in names}
    assert found == {name: usd and usd * 1_000_000 for name, usd in names.items()}


def test_each_rate_is_as_configured_or_that_of_what_it_is_a_kind_of() -> None:
    """Cached input costs as input, and reasoning as output, where the configuration says no other rate."""
    plain = Prices({"m": PriceConfig(input=3.0, output=15.0)}).of("m")
    assert plain == Price(3_000_000, 15_000_000, 3_000_000, 3_000_000, 15_000_000, 3_000_000)
    rates = PriceConfig(
        input=3.0, output=15.0, cached_read=0.3, cache_write=3.75, reasoning=20.0, cache_write_hour=6.5
    )
    assert Prices({"m": rates}).of("m") == Price(
        3_000_000, 15_000_000, 300_000, 3_750_000, 20_000_000, 6_500_000
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("input = -1\noutput = 1", "prices.m.input: is -1; give a number from 0 to 1e+09"),
        (
            "input = 0.0000025\noutput = 10.0",
            "prices.m.input: is 2.5e-06, which looks like a price per token",
        ),
        (
            "input = 2500000\noutput = 1000000",
            "prices.m.input: is 2.5e+06 USD per million tokens, over a cent",
        ),
        ("input = 0.15\noutput = 60.0", "prices.m.output: is 60, more than 100 times input, which is 0.15"),
        ("input = 0.15", "prices.m.output: is missing; give a number"),
        (
            "input = 3.0\noutput = 15.0\ncache_write_hour = 0.000006",
            "prices.m.cache_write_hour: is 6e-06, which looks like a price per token; per million tokens that is 6",
        ),
    ],
)
def test_a_price_that_cannot_be_right_is_refused_with_the_fix(tmp_path: Path, text: str, told: str) -> None:
    """A million times too much locks the house out for days, a million times too little lets it burn."""
    path = tmp_path / "epad.toml"
    path.write_text(f"[prices.m]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert any(told in str(problem) for problem in caught.value.problems), str(caught.value)


def test_real_price_lists_pass(tmp_path: Path) -> None:
    """From the dearest to the cheapest there are, with cached and written rates far apart."""
    path = tmp_path / "epad.toml"
    path.write_text(
        "[prices.'o1-pro']\ninput = 150\noutput = 600\n"
        "[prices.'claude-*']\ninput = 3\noutput = 15\ncached_read = 0.3\ncache_write = 3.75\ncache_write_hour = 6\n"
        "[prices.'deepseek-*']\ninput = 0.28\noutput = 0.42\ncached_read = 0.028\n"
        "[prices.'embed']\ninput = 0.01\noutput = 0\n"
    )
    assert len(load(path).prices) == 4
