"""Sort a request's fields by their effect at one kind of server: bound the output, multiply it, change the price.

The names come from two data files beside this one: `server_fields.toml`, which docs/server_fields.py derives from each
server's published fields, and `field_kinds.toml`, which gives the effect of each, and the evidence.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from msgspec import Raw, Struct

from epad.configuration.server_kinds import (
    CHAT,
    GENERIC,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_EMBEDDINGS,
    OLLAMA_GENERATE,
    RESPONSES,
    TEXT,
    Server,
)

OPTIONS = "options"
"""The route by which the fields of Ollama's `options` are sorted."""

# On these a cap that stands in `options` is cut; on all others that is a field like any other that holds some.
_WRITING_OPTIONS = frozenset({OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_EMBED, OLLAMA_EMBEDDINGS, CHAT, TEXT})
# Deeper than any client nests one object of extra fields in another.
_DEEPEST = 3
# A model is kept for as long as that by clients that mean no harm: Continue sends 30 minutes.
_LONGEST_KEPT_SECONDS = 3_600.0
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3_600.0}

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode


class Kind(StrEnum):
    """Names the effect of a field."""

    PLAIN = "plain"
    HIDES = "hides"
    CAP = "cap"
    CHOICES = "choices"
    RAISES = "raises"
    UNBOUNDED = "unbounded"
    SERVER_TOOL = "server_tool"
    PRICE = "price"
    MANAGES = "manages"
    LATER = "later"
    CARRIER = "carrier"
    UNKNOWN = "unknown"
    LOOKALIKE = "lookalike"


class Fields(Struct, frozen=True):
    """Holds a request's fields that are not plain, by their effect; each in the order in which it came.

    `lookalikes` are names that Go's JSON takes for one of these: `Max_Tokens`, or `max_toKens` with a Kelvin sign. With
    a field of `hides`, the seen part of a broken stream does not bound the made part.
    """

    caps: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    raises: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()
    server_tools: tuple[str, ...] = ()
    price: tuple[str, ...] = ()
    manages: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    lookalikes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell if there is anything that metering has to look at."""
        return self is not NOTHING

    def refused(self) -> tuple[str, ...]:
        """Return the fields that a hard budget cannot bear, those on no list apart."""
        return self.lookalikes + self.raises + self.server_tools + self.later + self.price + self.manages


NOTHING = Fields()

_METERED = frozenset({Kind.CAP, Kind.CHOICES})
_FIELD_OF = {kind: kind.value for kind in Kind} | {
    Kind.CAP: "caps", Kind.SERVER_TOOL: "server_tools", Kind.CARRIER: "carriers", Kind.LOOKALIKE: "lookalikes",
}  # fmt: skip
_JUDGED = frozenset(Kind) - _METERED - {Kind.PLAIN, Kind.CARRIER, Kind.UNKNOWN, Kind.LOOKALIKE}


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    kind: Kind
    why: str
    names: tuple[str, ...]
    servers: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    harmless: tuple[Any, ...] = ()

    @property
    def closeness(self) -> int:
        """Return how specific an entry's scope is: the most specific one counts."""
        return bool(self.servers) + bool(self.routes)

    def holds(self, server: str, route: str) -> bool:
        """Tell if it applies there. A field that is bad at one kind of server counts as bad at an unknown one."""
        worse = server == GENERIC.name and self.kind is not Kind.PLAIN
        there = not self.servers or server in self.servers or worse
        return there and (not self.routes or route in self.routes)


class _Table(Struct, frozen=True):
    entries: dict[str, _Entry]
    plain: frozenset[str]
    folded: frozenset[str]
    usual: frozenset[str]

    def kind(self, name: str) -> Kind:
        """Return the effect of a field that is not plain."""
        entry = self.entries.get(name)
        if entry is not None:
            return entry.kind
        return Kind.LOOKALIKE if name.casefold() in self.folded else Kind.UNKNOWN


def are_usual(server: Server, route: str, names: Iterable[str]) -> bool:
    """Say whether all fields are plain, or caps that epad writes over: then none has a value to be looked at."""
    return _table(server.name, route).usual.issuperset(names)


def sort_fields(
    server: Server, route: str, names: Iterable[str], allowed: frozenset[str] = frozenset()
) -> Fields:
    """Sort fields by their names alone. Those in `allowed` are plain here, unless they bound or multiply the output."""
    table = _table(server.name, route)
    found: _Found = {}
    for name in [name for name in names if name not in table.plain]:
        kind = table.kind(name)
        if name not in allowed or kind in _METERED:
            found[kind] = (*found.get(kind, ()), name)
    return _fields(found)


def screen(
    server: Server,
    route: str,
    values: Mapping[str, Raw],
    allowed: frozenset[str] = frozenset(),
    context: int = 0,
) -> Fields:
    """Sort fields, leave out those whose value changes nothing, and look into those that hold others.

    A nested field is named by its path, as in `options.num_ctx`. `context` is the model's loaded context, 0 if that is
    not known: a wish for no more than that asks for nothing new.
    """
    found: _Found = {}
    written = frozenset({"", f"{OPTIONS}."} if route in _WRITING_OPTIONS else {""})
    _screen(_Screening(server, allowed, context, written), route, values, "", found)
    return _fields(found)


class _Screening(Struct, frozen=True):
    """Holds the facts about the whole of one request; `written` are the places into which epad writes its caps."""

    server: Server
    allowed: frozenset[str]
    context: int
    written: frozenset[str]

    def is_written(self, path: str) -> bool:
        """Tell if epad's own value replaces the one there: elsewhere some server may read that."""
        return path in self.written


_Found = dict[Kind, tuple[str, ...]]


def _screen(request: _Screening, route: str, values: Mapping[str, Raw], path: str, found: _Found) -> None:
    table = _table(request.server.name, route)
    for name in [name for name in values if name not in table.plain]:
        kind = table.kind(name)
        if not request.allowed.isdisjoint({name, path + name}) and kind not in _METERED:
            continue
        if kind is Kind.CARRIER:
            kind = _look_into(request, route, name, values[name], path, found)
        elif kind in _METERED:
            if not request.is_written(path):
                kind = Kind.PLAIN if bytes(values[name]) == b"null" else Kind.RAISES
        elif kind is Kind.UNKNOWN and bytes(values[name]) == b"null":
            continue  # many clients write out what they leave unsaid
        elif kind in _JUDGED and is_harmless(request.server, route, name, values[name], request.context):
            continue
        if kind is not Kind.PLAIN:
            found[kind] = (*found.get(kind, ()), path + name)


def _look_into(request: _Screening, route: str, carrier: str, raw: Raw, path: str, found: _Found) -> Kind:
    """Sort the fields inside one that holds others; return its own effect, if it cannot be looked into."""
    if bytes(raw) in _NOTHING_SAID:
        return Kind.PLAIN
    try:
        values = _decode_object(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Kind.UNKNOWN
    if path.count(".") >= _DEEPEST:
        return Kind.UNKNOWN
    _screen(request, OPTIONS if carrier == OPTIONS else route, values, f"{path}{carrier}.", found)
    return Kind.PLAIN


def _fields(found: _Found) -> Fields:
    if not found:
        return NOTHING
    return Fields(**{_FIELD_OF[kind]: names for kind, names in found.items()})


def is_harmless(server: Server, route: str, name: str, raw: Raw | bytes, context: int = 0) -> bool:
    """Tell if a field changes nothing with this value, for any kind: null, or the default."""
    text = bytes(raw)
    if text == b"null":
        return True
    entry = _table(server.name, route).entries.get(name)
    if entry is None or entry.kind in _METERED:
        return False
    try:
        return _changes_nothing(entry, name, msgspec.json.decode(text), context)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _changes_nothing(entry: _Entry, name: str, value: object, context: int) -> bool:
    if name == "keep_alive":
        return 0 < _seconds(value) <= _LONGEST_KEPT_SECONDS
    if name == "num_ctx":
        return type(value) is int and 0 < value <= context
    if value is False and entry.kind is Kind.HIDES:  # not to be shown is what it says
        return False
    return _says_nothing(value) or any(_same(value, harmless) for harmless in entry.harmless)


_NOTHING_SAID = frozenset({b"null", b"{}", b'""', b"[]", b"false"})


def _says_nothing(value: object) -> bool:
    """Say whether a value is the absence of one; of an object, whether all that is in it is."""
    if isinstance(value, dict):
        return all(_says_nothing(part) for part in value.values())
    return value is None or value is False or value in ("", [])


def _same(value: object, harmless: object) -> bool:
    """Compare as JSON does, to which true is not 1."""
    return _encode(value) == _encode(harmless)


def _seconds(value: object) -> float:
    """Read how long a model is to be kept, as Go writes it or in seconds; below 0 is for ever, or was not read."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return -1.0
    for unit in ("ns", "us", "ms", "s", "m", "h"):
        number = value.removesuffix(unit)
        if number != value and number.replace(".", "", 1).isdecimal() and number.isascii():
            return float(number) * _SECONDS[unit]
    return float(value) if value.isascii() and value.isdecimal() else -1.0


_CLIENT_TOOLS = {
    CHAT: frozenset({"", "function", "custom"}),
    RESPONSES: frozenset({"", "function", "custom", "local_shell", "apply_patch"}),
}  # fmt: skip


def runs_at_client(route: str, tool: str) -> bool:
    """Say whether a tool of this type is run by who asks; others run at the server, which then asks the model again.

    So do Groq's `browser_search`, xAI's `live_search`, Mistral's `connector`, Moonshot's `builtin_function`, any `mcp`
    or `web_search`. Anthropic's are told apart where they are read.
    """
    return tool in _CLIENT_TOOLS.get(route, _CLIENT_TOOLS[CHAT])


def written_instead(name: str) -> bytes | None:
    """Return a substitute for a value that a budget cannot bear, so that its client need not be refused.

    Zed keeps every model for ever (`keep_alive: -1`); null is the server's own time. A model that is wanted in memory
    is then loaded for that long, and one that is not wanted goes after it.
    """
    return b"null" if name == "keep_alive" else None


def why(server: Server, route: str, name: str) -> str:
    """Describe a field's effect, as the end of a sentence begun by its name; a path is read by its last name."""
    carrier, _, last = name.rpartition(".")
    entry = _table(server.name, OPTIONS if carrier == OPTIONS else route).entries.get(last or name)
    if entry is None:
        entry = _table(server.name, route).entries.get(name)
    return entry.why if entry is not None else "is on no list of what a server takes"


@cache
def names_of(kind: Kind, route: str, server: Server = GENERIC) -> tuple[str, ...]:
    """Return the names of the fields of one kind, at a server of which nothing is known if none is given."""
    entries = _table(server.name, route).entries
    return tuple(sorted(name for name, entry in entries.items() if entry.kind is kind))


@cache
def published(server: str, route: str) -> frozenset[str]:
    """Return the fields that a kind of server publishes for a route; none if it publishes no list."""
    return frozenset(_lists().get(server, {}).get(route, {}).get("fields", ()))


@cache
def _lists() -> dict[str, dict[str, dict[str, list[str]]]]:
    return tomllib.loads(_data("server_fields.toml"))


@cache
def _entries() -> tuple[_Entry, ...]:
    return tuple(msgspec.convert(tomllib.loads(_data("field_kinds.toml"))["entries"], list[_Entry]))


@cache
def _table(server: str, route: str) -> _Table:
    """Return each field's effect at one kind of server; a generic one may be any, so there the worst counts."""
    chosen: dict[str, _Entry] = {}
    for entry in _entries():
        if not entry.holds(server, route):
            continue
        for name in entry.names:
            known = chosen.get(name)
            if known is None or entry.closeness > known.closeness:
                chosen[name] = entry
    plain = frozenset(name for name, entry in chosen.items() if entry.kind is Kind.PLAIN)
    folded = frozenset(name.casefold() for name in chosen if name not in plain or name in _OURS)
    caps = frozenset(name for name, entry in chosen.items() if entry.kind is Kind.CAP and "." not in name)
    return _Table(chosen, plain, folded, plain | caps)


# Plain, and yet what metering rests on: none of them may be said in another spelling.
_OURS = frozenset({
    "context", "input", "instructions", "messages", "model", "prompt", "stream", "stream_options", "suffix", "system",
})  # fmt: skip


def _data(name: str) -> str:
    return resources.files("epad.gateway").joinpath(name).read_text()
