"""Route a request to its upstream: its model, the servers, the effect of its fields there, and its largest size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from epad.gateway import headers
from epad.gateway import refusal as refuse
from epad.gateway.allowance import Wish, allow
from epad.gateway.arrival import Arrival
from epad.gateway.dialects.dialect import Ask, Endpoint
from epad.gateway.errors import RequestError
from epad.gateway.field_policy import REWRITABLE, Asking, Judged, judge, rewritten
from epad.gateway.http.request import Request
from epad.gateway.intake import Reading
from epad.gateway.money import FREE, Price
from epad.gateway.parts import GatewayParts
from epad.gateway.prompts import PromptBound, Prompts
from epad.gateway.refusal import RefusalError
from epad.gateway.route import Asker
from epad.gateway.tokenizing import Tokenizers
from epad.gateway.upstream import Route, Upstream

# A token of text with more bytes than that is rare.
_LONG_TOKEN_BYTES = 8
_UNBOUNDED = (
    "images, audio, search and chat templates can only be bounded by the model's context: "
    "set [upstreams.{}] context_tokens"
)


class Arriving(Struct, frozen=True):
    """A request whose body was read: who asks, on which route, and when it came."""

    request: Request
    subsystem: str
    endpoint: Endpoint
    at: float
    reading: Reading

    def route(self, parts: GatewayParts, prompts: Prompts) -> Arrival:
        """Say where it goes, and bound it. Raises RefusalError."""
        request, endpoint, name = self.request, self.endpoint, self.subsystem
        try:
            marks = headers.marks(request.fields)
        except RequestError as error:
            raise RefusalError(refuse.invalid_request(str(error))) from error
        dialect = endpoint.dialect.name
        ask = _named(parts, self.reading.ask, dialect)
        candidates, judged = _candidates(parts, name, endpoint, ask)
        if ask.wish == 0:
            ask = _with_least_output(ask, candidates, dialect)
        ask = _rewritten(ask, candidates, endpoint)
        bounded, bound = _bounded(prompts, candidates, dialect, ask, unbounded=judged.unbounded)
        return Arrival(
            subsystem=name,
            at=self.at,
            endpoint=endpoint,
            ask=ask,
            upstream=Route(bounded),
            prompt=bound,
            body=request.body,
            body_sha256=self.reading.body_sha256,
            idempotency_key=marks.idempotency_key,
            retry=marks.retry,
            asker=Asker(name, ask.model),
            conversation=marks.conversation or ask.history.conversation,
            price=_price(parts, name, ask.model, bounded),
            context_tokens=_context_left(bounded, dialect, ask, bound.tokens),
            hidden=judged.hidden,
            attempt=marks.attempt,
        )


def may_be_measured(
    arrival: Arrival, wish: Wish, parts: GatewayParts, prompts: Prompts, tokenizers: Tokenizers
) -> bool:
    """Tell if a tokenizer could count the prompt, and the prompt's bytes limit the wish."""
    if len(arrival.upstream.candidates) != 1 or arrival.prompt.by == "tokenizer":
        return False
    [upstream] = arrival.upstream.candidates
    if not tokenizers.may_count(upstream, arrival.endpoint.path):
        return False
    rooms = parts.budgets.rooms(arrival.subsystem, parts.clock.monotonic())
    short = wish.most < wish.tokens or allow(wish, rooms).tokens < wish.most
    return short and prompts.trusts(upstream, arrival.ask, "tokenizer")


async def measured(arrival: Arrival, tokenizers: Tokenizers) -> Arrival:
    """Return the request with its prompt counted by the tokenizer of the only server that it may go to."""
    [upstream], ask, route = arrival.upstream.candidates, arrival.ask, arrival.endpoint.path
    tokens = await tokenizers.count(upstream, route, ask)
    if tokens is None or tokens >= arrival.prompt.tokens:
        return arrival
    left = _context_left((upstream,), arrival.endpoint.dialect.name, ask, tokens)
    return structs.replace(arrival, prompt=PromptBound(tokens, "tokenizer"), context_tokens=left)


def _named(parts: GatewayParts, ask: Ask, dialect: str) -> Ask:
    """Return the request with the model that it is for; one that names none is for the only one there is."""
    if ask.model:
        return ask
    models = parts.upstreams.models(dialect)
    if not models and len(parts.upstreams.of(dialect)) == 1:
        return ask  # nothing lists what it serves; so it is the server's to say
    if len(models) != 1:
        known = f"; there are {', '.join(sorted(models)[:8])}" if models else ""
        message = f"model: a model's name is needed{known}"
        raise RefusalError(refuse.invalid_request(message), prompt_digest=ask.prompt_digest)
    return structs.replace(ask, model=models[0])


def _candidates(
    parts: GatewayParts, name: str, endpoint: Endpoint, ask: Ask
) -> tuple[list[Upstream], Judged]:
    """Return the upstreams that serve the model and may be asked with these fields. Raises RefusalError."""
    dialect = endpoint.dialect.name
    serving = parts.upstreams.routes(ask.model, dialect)
    if not serving:
        patterns = [p for each in parts.upstreams.of(dialect) for p in each.models]
        raise RefusalError(refuse.unknown_model(ask.model, dialect, patterns))
    asking = Asking(
        route=endpoint.path,
        hard=parts.budgets.limits_tokens(name),
        counts_money=parts.budgets.counts_money(name),
        unknown_passes=parts.config.unknown_fields == "pass",
    )
    candidates, all_judged = [], []
    for each in serving:
        server, context = each.server_for(dialect), each.context(ask.model)
        judged = judge(asking, ask, server, each.name, each.fields, context)
        all_judged.append(judged)
        if not judged.refusal:
            candidates.append(each)
    if not candidates:
        refusal = refuse.invalid_request(all_judged[0].refusal)
        raise RefusalError(refusal, prompt_digest=ask.prompt_digest)
    if len(all_judged) == 1:
        return candidates, all_judged[0]
    taken = [judged for judged in all_judged if not judged.refusal]
    hidden, unbounded = any(j.hidden for j in taken), any(j.unbounded for j in taken)
    return candidates, Judged("", hidden, unbounded)


def _bounded(
    prompts: Prompts, candidates: Sequence[Upstream], dialect: str, ask: Ask, *, unbounded: bool
) -> tuple[tuple[Upstream, ...], PromptBound]:
    """Return the upstreams on which something bounds the prompt, and the bound that holds on all of them.

    Raises RefusalError.
    """
    if unbounded and ask.prompt_bound:  # 0 is that of a request which only counts
        ask = structs.replace(ask, prompt_bound=None)
    if len(candidates) == 1 and (only := prompts.bound(candidates[0], dialect, ask)) is not None:
        return (candidates[0],), only
    bounds = [(each, prompts.bound(each, dialect, ask)) for each in candidates]
    bounded = [(each, bound) for each, bound in bounds if bound is not None]
    if not bounded:
        message = _UNBOUNDED.format(bounds[0][0].name)
        raise RefusalError(refuse.invalid_request(message), prompt_digest=ask.prompt_digest)
    largest = max((bound for _, bound in bounded), key=lambda bound: bound.tokens)
    return tuple(each for each, _ in bounded), largest


def _price(parts: GatewayParts, name: str, model: str, candidates: Iterable[Upstream]) -> Price:
    """Return the price of the model's tokens. Raises RefusalError if it is unknown and matters."""
    if all([upstream.free for upstream in candidates]):  # noqa: C419  as a generator it takes three times as long
        return FREE
    price = parts.prices.of(model)
    if price is None and parts.budgets.counts_money(name):
        raise RefusalError(refuse.not_priced(model))
    return price or FREE


def _with_least_output(ask: Ask, upstreams: Iterable[Upstream], dialect: str) -> Ask:
    """A request for its prompt alone as one for a token more, where no output may mean output without end."""
    if not ask.generates:
        return ask
    none = all([each.server_for(dialect).zero_cap_means_none for each in upstreams])  # noqa: C419
    return ask if none else structs.replace(ask, wish=1)


def _rewritten(ask: Ask, upstreams: Iterable[Upstream], endpoint: Endpoint) -> Ask:
    """Return the request without the fields that may be dropped instead of refused, at any of these servers."""
    edits: dict[str, bytes] = {}
    if REWRITABLE.isdisjoint(ask.fields.values):
        return ask
    for each in upstreams:
        edits |= rewritten(ask, each.server_for(endpoint.dialect.name), endpoint.path, each.fields)
    return structs.replace(ask, fields=ask.fields.replaced(edits)) if edits else ask


def _context_left(upstreams: Iterable[Upstream], dialect: str, ask: Ask, prompt_tokens: int) -> int:
    """Return the longest answer of a model, on the server that gives least; 0 if it is not known.

    Some servers reject a cap beyond the rest of the context, so there the prompt is subtracted.
    """
    left = []
    for each in upstreams:
        output, context = each.profile.most_output(ask.model), each.profile.room(ask.model)
        if output:
            left.append(output)
        context = max(context, ask.context_wish)
        if context:
            takes_any = each.server_for(dialect).takes_any_cap
            left.append(context if takes_any else _beside(context, ask, prompt_tokens))
    return min(left, default=0)


def _beside(context: int, ask: Ask, prompt_tokens: int) -> int:
    """Return the rest of a context beside a prompt of which only a bound is known.

    A client's own cap is cut no further than the longest tokens there are would require: it knows its model. If the
    bound leaves nothing, half of it is used: tokens of two bytes are rare, and a refused request is asked again.
    """
    each = -(-prompt_tokens // ask.prompts)
    if ask.wish is not None:
        each //= _LONG_TOKEN_BYTES
    return context - each if each < context else max(1, context - each // 2)
