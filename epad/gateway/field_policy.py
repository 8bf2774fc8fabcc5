"""What of a request's fields is refused: what a hard budget cannot bear at the server that is to be asked. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from epad.gateway import server_fields
from epad.gateway.dialects.dialect import Ask
from epad.gateway.servers import Server

# As much context as a client may wish for of Ollama without leave: for a model of 8 billion parameters it is 4 GiB.
FREE_CONTEXT_TOKENS = 32_768


@dataclass(frozen=True, slots=True)
class Asking:
    """A request's route and who asks: whether a limit in tokens or money applies, and one in money."""

    route: str
    hard: bool
    counts_money: bool
    unknown_passes: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """Why a request is refused, empty if it is not; else what its fields mean for its bounds.

    `hidden`: part of the answer is not shown, so that what was seen of it bounds nothing. `unbounded`: part of the
    prompt is not in the body.
    """

    refusal: str = ""
    hidden: bool = False
    unbounded: bool = False


def judge(
    asking: Asking, ask: Ask, server: Server, upstream: str, allowed: frozenset[str], context: int
) -> Judged:
    """Judge a request's fields as one upstream would take them; `context` is how much its model holds."""
    fields = server_fields.screen(
        server, asking.route, ask.fields.values, allowed, max(context, FREE_CONTEXT_TOKENS)
    )
    if not fields:
        return Judged()
    managing = [name for name in fields.manages if server_fields.written_instead(name) is None]
    refused = [*fields.lookalikes, *managing]
    if asking.hard:
        refused += [*fields.raises, *fields.server_tools, *fields.later]
    if asking.counts_money:
        refused += fields.price
    for name in refused:
        why = server_fields.why(server, asking.route, name)
        return Judged(f"{name} {why}; [upstreams.{upstream}] fields = [{name!r}] allows it there")
    if asking.hard and not asking.unknown_passes and fields.unknown:
        return Judged(
            f"{fields.unknown[0]} is on no list of what {server.name} takes, so a hard budget cannot bear it: "
            f"[upstreams.{upstream}] fields = [{fields.unknown[0]!r}] allows it there, "
            '[gateway] unknown_fields = "pass" everything'
        )
    return Judged("", bool(fields.hides), bool(fields.unbounded))


def rewritten(ask: Ask, server: Server, route: str, allowed: frozenset[str]) -> dict[str, bytes]:
    """The values that are written over those of the client, by their fields, so that it need not be refused."""
    edits = {}
    for name in REWRITABLE & ask.fields.values.keys() - allowed:
        if not server_fields.is_harmless(server, route, name, ask.fields.values[name]):
            edits[name] = server_fields.written_instead(name) or b"null"
    return edits


REWRITABLE = frozenset({"keep_alive"})
