"""Compute a turn's charge.

- An upstream's own usage is believed only upward. A count is final if it stands in a whole answer, or comes with or
  after the last text of a stream that came to its end; and is above 0 if any text came, and not below an earlier
  count of the same stream. A count of 0 beside text is no count.
- A final count is charged. It is raised by the largest of the earlier counts, by a total that exceeds its parts
  (reasoning beside the output), and for the other choices if the server counts one of `n`: by the bytes of text of
  each other choice, of which a token takes one or more, each at most its cap, and all at most the reservation. A
  total alone is charged at the dearest.
- Without one, the most that is possible is charged. For a stream of a server that shows all it makes, that is the
  bytes received, at least its chunks, at most the reservation. Else all of the reserved output is: the server may
  have thought unseen, or it is not known. An input that was not counted, or with 0 where text came, is its bound.
  Counts that came are the least in every case, even beyond the reservation.
- A stream that ran over its cap uncounted costs no less than its chunks (`epad.gateway.relay`).
- An error in place of an answer (with status 200, or as a stream's first event) costs nothing, unless it counts
  something itself. So does a refusal of the upstream's (4xx) and a failure before it began (501 to 503).
- A number that cannot be a count costs the whole reservation, and is reported.
"""

from __future__ import annotations

from msgspec import Struct, structs

from epad.gateway.dialects.seen import Seen
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.money import Price, TokenCount
from epad.ledger.record import UsageSource

# Statuses that an upstream, or a proxy before it, answers without having begun: 4xx beside these.
_NOT_BEGUN = frozenset({501, 502, 503})
USAGE, RESERVED = UsageSource.USAGE, UsageSource.RESERVED  # see `epad/gateway/health.py`


class Bound(Struct, frozen=True):
    """The most tokens a turn can have, as reserved."""

    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Terms(Struct, frozen=True):
    """Holds the bounds of a turn's cost, and the knowledge about its server.

    `cap` bounds the output of each of the `choices`; `hides_choices`: some of them may never be shown (best_of).
    `counts_all`: the usage is of all choices, and so of all `prompts`.
    """

    bound: Bound
    cap: int
    choices: int = 1
    shows_all: bool = False
    counts_all: bool = False
    hides_choices: bool = False
    prompts: int = 1


class Charge(Struct, frozen=True):
    """Holds the tokens a turn is charged with, and the source of the numbers.

    `input_tokens` has the cached ones in it and `output_tokens` those of reasoning: they are tokens too. If ours is the
    only count of the output, it is an estimate, and the charge is the most that is possible. `unsplit`: the number of
    input tokens among them is not known.
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
    unsplit: bool = False

    @property
    def charged_output_tokens(self) -> int:
        output, most = self.output_tokens, self.most_output_tokens
        return max(output, most)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.charged_output_tokens

    def cost(self, price: Price) -> int:
        """Return its cost, in micro-USD: without a count of the upstream's own, at the dearest rate."""
        if self.unsplit:
            return max(price.at_most(self.tokens, 0), price.at_most(0, self.tokens))
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
    """Charge the whole reservation: the spent amount is not known, and it was at most this."""
    return Charge(bound.input_tokens, bound.output_tokens, UsageSource.RESERVED)


def charge_stream(usage: TokenUsage | None, chunks: int, bound: Bound, most_tokens: int = 0) -> Charge:
    """Charge by the upstream's counts, as far as it gave any; chunks count the uncounted output.

    But with speculative decoding a chunk has several tokens: charged is `most_tokens`, or the reservation if that is
    less.
    """
    usage = usage or TokenUsage()
    if usage.input_tokens is not None and usage.output_tokens is not None:
        return Charge(
            usage.input_tokens,
            usage.output_tokens,
            USAGE,
            usage.cached_read_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
            cache_write_hour_tokens=usage.cache_write_hour_tokens,
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


def charge_answer(seen: Seen, terms: Terms) -> Charge:
    """Charge an answer of status 200, whole or as far as it came."""
    if seen.absurd:
        return _forfeit_at_least(seen, terms.bound)
    if seen.nothing_came and not seen.counts_something:
        return NOTHING
    if seen.final:
        return _charge_final(seen, terms)
    return _charge_most(seen, terms)


def charge_status(seen: Seen, status: int, terms: Terms) -> Charge:
    """Charge an answer in one piece, of any status. A failure in the middle of the work has cost something."""
    if status < 400:
        return charge_answer(seen, terms)
    if seen.absurd:
        return _forfeit_at_least(seen, terms.bound)
    if seen.usage is not None and seen.usage.output_tokens is not None and seen.counts_something:
        return charge_stream(seen.usage, 0, terms.bound)
    if status < 500 or status in _NOT_BEGUN:
        return NOTHING
    return forfeit(terms.bound)


def _charge_final(seen: Seen, terms: Terms) -> Charge:
    usage, bound = seen.usage or TokenUsage(), terms.bound
    if usage.input_tokens is None and usage.output_tokens is None:
        if _counts_one_prompt(seen.total_tokens, terms):
            return _charge_most(seen, terms)  # as if it was a count of the first
        total = seen.total_tokens or 0
        of_input = total if not bound.output_tokens else 0
        return Charge(of_input, total - of_input, UsageSource.COUNTED, unsplit=True)
    charge = _for_every_prompt(charge_stream(_of_a_prompt(usage, seen), 0, bound), terms)
    most = _for_every_choice(charge.output_tokens, seen, terms)
    if most == charge.output_tokens:
        return charge
    return structs.replace(charge, source=UsageSource.COUNTED, most_output_tokens=most)


def _charge_most(seen: Seen, terms: Terms) -> Charge:
    """Charge the most that an answer without a final count can have cost; its counted part is the least."""
    usage, bound = _of_a_prompt(seen.usage or TokenUsage(), seen), terms.bound
    counted = max(usage.output_tokens or 0, (seen.total_tokens or 0) - bound.input_tokens)
    if not seen.streamed and counted <= bound.output_tokens:
        tokens = bound.input_tokens if usage.input_tokens is None else usage.input_tokens
        return _for_every_prompt(Charge(tokens, bound.output_tokens, UsageSource.RESERVED), terms)
    most = bound.output_tokens
    if seen.streamed and terms.shows_all and seen.bounded:
        most = seen.unread_bytes + sum(min(size, terms.cap) for size in seen.choice_bytes)
    uncounted = structs.replace(usage, output_tokens=None)
    charge = _for_every_prompt(charge_stream(uncounted, seen.chunks, bound, most), terms)
    return structs.replace(charge, output_tokens=max(charge.output_tokens, counted))


def _of_a_prompt(usage: TokenUsage, seen: Seen) -> TokenUsage:
    """Return the usage without an input of 0 where something was said: nothing is said to no prompt."""
    if usage.input_tokens == 0 and seen.said_bytes:
        return structs.replace(usage, input_tokens=None)
    return usage


def _for_every_prompt(charge: Charge, terms: Terms) -> Charge:
    """Return the charge with the bound of all prompts for its input, where the server may have counted one of them."""
    if charge.input_tokens >= terms.bound.input_tokens or not _counts_one_prompt(charge.input_tokens, terms):
        return charge
    source = UsageSource.COUNTED if charge.source is UsageSource.USAGE else charge.source
    return structs.replace(charge, input_tokens=terms.bound.input_tokens, source=source)


def _counts_one_prompt(counted: int | None, terms: Terms) -> bool:
    """Say whether a count may be of one of several prompts.

    Vectors of several texts come from servers that add them all up, so there only a count of less than a token for
    each is taken for one.
    """
    if terms.prompts <= 1 or terms.counts_all:
        return False
    return bool(terms.bound.output_tokens) or (counted or 0) < terms.prompts


def _for_every_choice(output: int, seen: Seen, terms: Terms) -> int:
    """Return the most tokens that all choices have, where the server may have counted one of them.

    Which one it counted is not known: the others are all but the shortest. An output of more tokens than any choice
    has bytes was made unseen in part, so that the others may have been made up to their cap.
    """
    sizes = seen.choice_bytes
    made = terms.choices if terms.hides_choices else max(1, len(sizes))
    if terms.counts_all or made <= 1 or not terms.bound.output_tokens:
        return output
    if not sizes or output > max(sizes) or not seen.bounded:
        others = (made - 1) * terms.cap
    else:
        capped = [min(size, terms.cap) for size in sizes]
        others = sum(capped) - min(capped) + seen.unread_bytes + max(0, made - len(sizes)) * terms.cap
    return max(output, min(output + others, terms.bound.output_tokens))


def _forfeit_at_least(seen: Seen, bound: Bound) -> Charge:
    """Charge the whole reservation, and no less than the counts that can be some."""
    usage = seen.usage or TokenUsage()
    return Charge(
        max(bound.input_tokens, usage.input_tokens or 0),
        max(bound.output_tokens, usage.output_tokens or 0),
        UsageSource.RESERVED,
    )
