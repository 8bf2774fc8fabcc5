"""Compute the cost of tokens, in whole micro-USD. Rounding is always up, and a reservation is at the dearest rate.

USD per million tokens is micro-USD per token, so a rate is kept as micro-USD per million tokens, an integer.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass

from epad.configuration.schema import PriceConfig

MICROUSD = 1_000_000
_PER_TOKENS = 1_000_000
_ANY_OUTPUT = 1 << 53
# Anthropic's published multiple of the input rate; that of five-minute writes is 1.25.
_HOUR_TO_INPUT = 2
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Counts tokens by their rates: `input` has no cached ones in it, `output` no reasoning.

    `cache_write_hour` are written to a cache that is kept for an hour; they are not among `cache_write`.
    """

    input: int = 0
    output: int = 0
    cached_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cache_write_hour: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """Holds one model's rates, in micro-USD per million tokens."""

    input: int
    output: int
    cached_read: int
    cache_write: int
    reasoning: int
    cache_write_hour: int | None = None
    """For writes that are kept for an hour; None: as `cache_write`."""

    def cost(self, count: TokenCount) -> int:
        """Return the cost of these tokens, in micro-USD."""
        return _up(
            count.input * self.input
            + count.output * self.output
            + count.cached_read * self.cached_read
            + count.cache_write * self.cache_write
            + count.reasoning * self.reasoning
            + count.cache_write_hour * self._hour_rate()
        )

    def at_most(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that so many tokens can cost, whatever they turn out to be."""
        return _up(input_tokens * self._dearest_input + output_tokens * max(self.output, self.reasoning))

    def affordable_output(self, input_tokens: int, amount_microusd: int) -> int:
        """The most output whose `at_most`, with this input, stays within the amount; -1 if the input alone does not."""
        left = amount_microusd * _PER_TOKENS - input_tokens * self._dearest_input
        if left < 0:
            return -1
        dearest = max(self.output, self.reasoning)
        return left // dearest if dearest else _ANY_OUTPUT

    @property
    def _dearest_input(self) -> int:
        return max(self.input, self.cached_read, self.cache_write, self._hour_rate())

    def _hour_rate(self) -> int:
        return self.cache_write if self.cache_write_hour is None else self.cache_write_hour


FREE = Price(0, 0, 0, 0, 0)


class Prices:
    """The price table: a model's own name first, else the pattern that says most of it."""

    def __init__(self, table: Mapping[str, PriceConfig]) -> None:
        self.configure(table)

    def configure(self, table: Mapping[str, PriceConfig]) -> None:
        """Go by this table from now on. A turn costs by the price at which it was admitted."""
        self._exact = {name: _price(config) for name, config in table.items() if not _WILDCARD.search(name)}
        patterns = sorted(
            table.keys() - self._exact.keys(), key=lambda pattern: (-_literal(pattern), pattern)
        )
        self._patterns = [
            (re.compile(fnmatch.translate(pattern)), _price(table[pattern])) for pattern in patterns
        ]

    def of(self, model: str) -> Price | None:
        """Return the price of a model; None if the table does not say."""
        exact = self._exact.get(model)
        if exact is not None:
            return exact
        return next((price for pattern, price in self._patterns if pattern.match(model)), None)


def microusd(usd: float) -> int:
    """Return an amount of the configuration as it is counted."""
    return round(usd * MICROUSD)


def dollars(amount_microusd: int) -> str:
    """Return an amount as people read it."""
    return f"${amount_microusd / MICROUSD:.6f}"


def _price(config: PriceConfig) -> Price:
    def rate(usd: float | None, otherwise: float) -> int:
        return microusd(otherwise if usd is None else usd)

    return Price(
        input=microusd(config.input),
        output=microusd(config.output),
        cached_read=rate(config.cached_read, config.input),
        cache_write=rate(config.cache_write, config.input),
        reasoning=rate(config.reasoning, config.output),
        cache_write_hour=microusd(_hour_usd(config)),
    )


def _hour_usd(config: PriceConfig) -> float:
    """Return the rate of one-hour cache writes, in USD.

    Left out beside a rate for cache writes it is Anthropic's, twice `input`, and no less than that rate: the price of a
    write that is kept longer is never guessed low. Without either, all cache writes cost as input.
    """
    if config.cache_write_hour is not None:
        return config.cache_write_hour
    if config.cache_write is None:
        return config.input
    return max(config.cache_write, _HOUR_TO_INPUT * config.input)


def _literal(pattern: str) -> int:
    """Return how many literal characters a pattern has."""
    return len(re.sub(r"\[[^\]]*\]|[*?]", "", pattern))


def _up(rated: int) -> int:
    return -(-rated // _PER_TOKENS)
