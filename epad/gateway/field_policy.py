"""Decide which of a request's fields a hard budget cannot bear at the server to be asked. Pure."""

from __future__ import annotations

from msgspec import Struct

from epad.configuration.server_kinds import CHAT, OLLAMA_CHAT, OLLAMA_GENERATE, TEXT, Server
from epad.gateway import server_fields
from epad.gateway.dialects.dialect import Ask

# As much context as a client may wish for of Ollama without leave: for a model of 8 billion parameters it is 4 GiB.
FREE_CONTEXT_TOKENS = 32_768

# Where a cap among `options` is cut down like any other.
_CUT_OPTIONS = frozenset({CHAT, TEXT, OLLAMA_CHAT, OLLAMA_GENERATE})
_MOST_SHOWN = 80


class Asking(Struct, frozen=True, gc=False):
    """A request's route and who asks: whether a limit in tokens or money applies, and one in money."""

    route: str
    hard: bool
    counts_money: bool
    unknown_passes: bool


class Judged(Struct, frozen=True, gc=False):
    """Says why a request is refused, empty if it is not; else the effect of its fields on its bounds.

    `hidden`: part of the answer is not shown, so that the seen part bounds nothing. `unbounded`: part of the prompt is
    not in the body.
    """

    refusal: str = ""
    hidden: bool = False
    unbounded: bool = False


_FINE = Judged()


def judge(
    asking: Asking, ask: Ask, server: Server, upstream: str, allowed: frozenset[str], context: int
) -> Judged:
    """Judge a request's fields as one upstream would take them; `context` is how much its model holds."""
    if server_fields.are_usual(server, asking.route, ask.fields.values):
        return _FINE
    fields = server_fields.screen(
        server, asking.route, ask.fields.values, allowed, max(context, FREE_CONTEXT_TOKENS)
    )
    if not fields:
        return _FINE
    managing = [name for name in fields.manages if server_fields.written_instead(name) is None]
    refused, metered = [*fields.lookalikes, *managing], frozenset((*fields.choices, *fields.caps))
    if asking.hard:
        refused += [*fields.raises, *fields.server_tools, *fields.later]
    if asking.hard and ask.generates:
        refused += [name for name in fields.choices if not _is_counted(ask, name)]
        refused += [name for name in fields.caps if "." in name and asking.route not in _CUT_OPTIONS]
    if asking.counts_money:
        refused += fields.price
    for name in refused:
        why, shown = server_fields.why(server, asking.route, name), name[:_MOST_SHOWN]
        if name in metered:  # no list allows these: what is counted would not be what is made
            return Judged(f"{shown} {why}, and has no place on {asking.route}: leave it out")
        return Judged(f"{shown} {why}; [upstreams.{upstream}] fields = [{shown!r}] allows it there")
    if asking.hard and not asking.unknown_passes and fields.unknown:
        name = fields.unknown[0][:_MOST_SHOWN]
        return Judged(
            f"{name} is on no list of what {server.name} takes, so a hard budget cannot bear it: "
            f"[upstreams.{upstream}] fields = [{name!r}] allows it there, "
            '[gateway] unknown_fields = "pass" everything'
        )
    return Judged("", bool(fields.hides), bool(fields.unbounded))


def _is_counted(ask: Ask, name: str) -> bool:
    """Tell if the reservation covers as many answers as a field asks for; on most routes it covers one."""
    if ask.fields.raw(name).isdigit():
        return int(ask.fields.raw(name)) <= ask.choices
    return "." not in name and not ask.fields.has(name)


def rewritten(ask: Ask, server: Server, route: str, allowed: frozenset[str]) -> dict[str, bytes]:
    """The values that are written over those of the client, by their fields, so that it need not be refused."""
    edits: dict[str, bytes] = {}
    for name in REWRITABLE & ask.fields.values.keys() - allowed:
        if not server_fields.is_harmless(server, route, name, ask.fields.values[name]):
            edits[name] = server_fields.written_instead(name) or b"null"
    return edits


REWRITABLE = frozenset({"keep_alive"})
