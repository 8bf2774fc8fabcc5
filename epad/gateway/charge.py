"""What a turn costs: the upstream's own count, ours where it gave none, or all that was reserved."""

from __future__ import annotations

from msgspec import Struct

from epad.gateway.dialects.dialect import TokenUsage
from epad.gateway.money import Price, TokenCount
from epad.ledger.record import UsageSource

# Statuses that an upstream, or a proxy before it, answers without having begun: 4xx beside these.
_NOT_BEGUN = frozenset({501, 502, 503})


class Bound(Struct, frozen=True):
    """The most tokens a turn can have, as reserved."""

    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Charge(Struct, frozen=True):
    """The tokens a turn is charged with, and where the numbers come from.

    `input_tokens` has the cached ones in it and `output_tokens` those of reasoning: they are tokens too. Where ours
    is the only count of the output, it is an estimate, and what is charged is the most that it can have been.
    """

    input_tokens: int
    output_tokens: int
    source: UsageSource
    cached_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    microusd: int = 0
    most_output_tokens: int = 0
    cache_write_hour_tokens: int = 0

    @property
    def charged_output_tokens(self) -> int:
        return max(self.output_tokens, self.most_output_tokens)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.charged_output_tokens

    def cost(self, price: Price) -> int:
        """What it costs, in micro-USD: where the upstream gave no count of its own, at the dearest rate."""
        if self.source is not UsageSource.USAGE:
            return price.at_most(self.input_tokens, self.charged_output_tokens)
        cached = self.cached_read_tokens + self.cache_write_tokens
        return price.cost(
            TokenCount(
                input=max(0, self.input_tokens - cached),
                output=max(0, self.output_tokens - self.reasoning_tokens),
                cached_read=self.cached_read_tokens,
                cache_write=max(0, self.cache_write_tokens - self.cache_write_hour_tokens),
                reasoning=self.reasoning_tokens,
                cache_write_hour=self.cache_write_hour_tokens,
            )
        )


NOTHING = Charge(0, 0, UsageSource.COUNTED)


def forfeit(bound: Bound) -> Charge:
    """Charge the whole reservation: what was spent is not known, and it was at most this."""
    return Charge(bound.input_tokens, bound.output_tokens, UsageSource.RESERVED)


def charge_stream(usage: TokenUsage | None, chunks: int, bound: Bound, most_tokens: int = 0) -> Charge:
    """Charge a streamed answer, whole or broken off.

    What the upstream did not count, its chunks do. But with speculative decoding a chunk has several tokens: charged
    is `most_tokens`, or what was reserved where that is less.
    """
    usage = usage or TokenUsage()
    if usage.input_tokens is not None and usage.output_tokens is not None:
        return Charge(
            usage.input_tokens,
            usage.output_tokens,
            UsageSource.USAGE,
            usage.cached_read_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
        )
    input_tokens = bound.input_tokens if usage.input_tokens is None else usage.input_tokens
    if usage.output_tokens is not None:
        return Charge(input_tokens, usage.output_tokens, UsageSource.COUNTED)
    return Charge(
        input_tokens,
        # The first and the last chunk often carry no token: our count is no evidence of an overrun.
        min(chunks, bound.output_tokens),
        UsageSource.COUNTED,
        most_output_tokens=min(most_tokens, bound.output_tokens),
    )


def charge_whole(usage: TokenUsage | None, status: int, bound: Bound) -> Charge:
    """Charge an answer that came in one piece. A failure in the middle of the work has cost something."""
    if usage is not None and usage.output_tokens is not None:
        return charge_stream(usage, 0, bound)
    if 400 <= status < 500 or status in _NOT_BEGUN:
        return NOTHING
    return forfeit(bound)
