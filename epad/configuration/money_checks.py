"""Prices and budgets held against each other: one price mistyped by a million has locked a user out for days.

A price given per token instead of per million tokens is a million times too small, and lets everything through;
one that was scaled twice is a million times too large, and refuses everything (litellm#20615).
"""

from __future__ import annotations

from collections.abc import Iterator

from epad.configuration.complaint import Complaint
from epad.configuration.schema import Config, LimitsConfig, PriceConfig
from epad.configuration.toml_lines import KeyPath

# USD per million tokens. The dearest model of 2026 asks 600, the cheapest embedding 0.01.
_DEAREST = 10_000.0
_CHEAPEST = 0.001
# Between the rates of one model; the widest in use (cached input against output) is about 40.
_WIDEST_RATIO = 100.0
_RATES = ("input", "output", "cached_read", "cache_write", "cache_write_hour", "reasoning")
_SPANS = ("per_minute", "per_hour", "per_day", "per_month", "in_all")


def check_money(config: Config) -> Iterator[Complaint]:
    """Yield every fault of prices, and of limits that could never matter."""
    for name, price in config.prices.items():
        yield from _check_price(("prices", name), price)
    for name, shared in config.budgets.items():
        yield from _check_budget(("budgets", name), shared, config)
    for name, group in config.groups.items():
        yield from _check_budget(("groups", name, "budget"), group.budget, config)
    for name, subsystem in config.subsystems.items():
        yield from _check_budget(("subsystems", name, "budget"), subsystem.budget, config)


def _check_price(path: KeyPath, price: PriceConfig) -> Iterator[Complaint]:
    rates: dict[str, float] = {key: usd for key in _RATES if (usd := getattr(price, key))}
    for key, usd in rates.items():
        if usd > _DEAREST:
            text = f"is {usd:g} USD per million tokens, over a cent a token; give USD per million tokens"
            yield Complaint((*path, key), text)
        elif usd < _CHEAPEST:
            per_million = f"{usd * 1e6:.6g}"
            text = f"is {usd:g}, which looks like a price per token; per million tokens that is {per_million}"
            yield Complaint((*path, key), text)
    if not rates:
        return
    cheap, dear = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    if rates[dear] > _WIDEST_RATIO * rates[cheap]:
        text = (
            f"is {rates[dear]:g}, more than {_WIDEST_RATIO:g} times {cheap}, which is {rates[cheap]:g}; "
            "correct the one that was mistyped"
        )
        yield Complaint((*path, dear), text, ((*path, cheap),))


def _check_budget(path: KeyPath, budget: LimitsConfig, config: Config) -> Iterator[Complaint]:
    for key in (f"usd_{span}" for span in _SPANS):
        usd: float = getattr(budget, key)
        if not usd:
            continue
        if round(usd * 1e6) < 1:
            yield Complaint(
                (*path, key), f"is {usd:g}, less than a millionth of a dollar; give at least 0.000001"
            )
        if not config.prices and not all(up.free or up.embedded for up in config.upstreams.values()):
            text = 'counts money, but there is no price; give [prices."MODEL"] input and output'
            yield Complaint((*path, key), text)
