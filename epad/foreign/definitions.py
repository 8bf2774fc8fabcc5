"""Read the definitions of a foreign server's tools, digest them, and make those that agents see. Pure.

A digest covers everything that a server says of a tool. These alone do not change it: the order of keys, and of the
lists whose order means nothing (`required`, `enum`, `type`); how numbers are written; runs of blanks in descriptions
and titles.

Agents see the pinned definition: its description with the server named in front, bounded, and its schema without what
only decorates (titles, examples), hidden characters written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct

from epad.foreign.names import listed_name
from epad.gate.tool_risk import ToolRisk
from epad.tools.protocol import Definition
from epad.tools.shown import cut
from runners.tools.visible import visible, visible_value

MOST_TOOLS: Final = 512
MOST_NAME_CHARACTERS: Final = 256
MOST_DEFINITION_BYTES: Final = 64 << 10
MOST_SCHEMA_BYTES: Final = 16 << 10
MOST_DEPTH: Final = 32
MOST_DESCRIPTION: Final = 1_024
"""OpenAI's API takes no longer one."""
_MOST_INNER_DESCRIPTION: Final = 300
_blanks: Final = re.compile(r"[ \t\r\n]+")
_PROSE: Final = frozenset({"description", "title"})
_SETS: Final = frozenset({"required", "enum", "type"})
_LITERAL: Final = frozenset({"default", "const", "examples", "example"})
_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Tables of schemas by names that are the server's own: a property may be called `title` or `default`."""
_DECORATION: Final = frozenset({"title", "$schema", "$id", "$comment", "examples", "example", "deprecated"})
_ANY_OBJECT: Final[dict[str, object]] = {"type": "object", "properties": {}}


class Pinned(Struct, frozen=True):
    """Holds one tool as its server has defined it, in the form that is digested; `sha256` in hex."""

    name: str
    definition: dict[str, Any]
    sha256: str

    @property
    def texts(self) -> list[str]:
        """Return every text of it that a model or a person may read."""
        return list(_texts(self.definition))

    @property
    def claims(self) -> Mapping[str, object]:
        """Return what the server says of its tool's effects: a claim, and no more."""
        found = self.definition.get("annotations")
        return found if isinstance(found, dict) else {}


class UnfitError(ValueError):
    """A definition cannot be taken; the message says why."""


def read_tool(told: object) -> Pinned:
    """Return a tool as a server's list has it. Raises UnfitError."""
    if not isinstance(told, dict) or not isinstance(name := told.get("name"), str) or not name:
        raise UnfitError("a tool without a name")
    if len(name) > MOST_NAME_CHARACTERS:
        raise UnfitError(f"a tool's name has {len(name)} characters, more than {MOST_NAME_CHARACTERS}")
    if _depth(told) > MOST_DEPTH:
        raise UnfitError(f"{name[:80]!r} is nested deeper than {MOST_DEPTH}")
    schema = told.get("inputSchema")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise UnfitError(f"{name[:80]!r} has an inputSchema whose type is not object")
    canonical = {key: _canonical(value, key) for key, value in told.items()}
    encoded = _encoded(canonical)
    if len(encoded) > MOST_DEFINITION_BYTES:
        raise UnfitError(f"{name[:80]!r} takes {len(encoded)} bytes, more than {MOST_DEFINITION_BYTES}")
    return Pinned(name, msgspec.json.decode(encoded), sha256(encoded).hexdigest())


def digest_of(tools: Sequence[Pinned]) -> str:
    """Return the digest of a server's whole list, whatever its order, in hex."""
    lines = sorted(f"{one.sha256} {one.name}\n" for one in tools)
    return sha256("".join(lines).encode(errors="surrogatepass")).hexdigest()


def shown_definition(
    server: str, pinned: Pinned, risk: ToolRisk, seconds: float, *, leaves: bool = False
) -> Definition:
    """Return a pinned tool as agents see it, and as the gate knows it. `leaves`: its server reaches some host."""
    told = pinned.definition
    text = told.get("description")
    head = f"[foreign server {server}] "
    description = head + cut(visible(text if isinstance(text, str) else ""), MOST_DESCRIPTION - len(head))
    schema = _bounded_schema(told["inputSchema"])
    digest = sha256(f"{server}\0{pinned.sha256}\0{risk}".encode()).hexdigest()
    output = told.get("outputSchema")
    return Definition(
        listed_name(server, pinned.name),
        server,
        description,
        risk,
        seconds,
        schema,
        output if isinstance(output, dict) else {},
        digest,
        untrusted=True,
        leaves=leaves,
        server=server,
    )


def _bounded_schema(schema: Mapping[str, Any]) -> dict[str, object]:
    """Return a schema without decoration; one that is still too long takes any object, and its server checks it."""
    plain = visible_value(_undecorated(schema))
    if len(msgspec.json.encode(plain)) > MOST_SCHEMA_BYTES:
        return dict(_ANY_OBJECT)
    shown: dict[str, object] = plain
    return shown


def _undecorated(value: Any, *, by_name: bool = False) -> Any:
    if isinstance(value, list):
        return [_undecorated(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept: dict[str, Any] = {}
    for key, inner in value.items():
        if not by_name and key in _DECORATION:
            continue
        if not by_name and key == "description" and isinstance(inner, str):
            kept[key] = cut(inner, _MOST_INNER_DESCRIPTION)
        elif not by_name and key in _LITERAL:
            kept[key] = inner
        else:
            kept[key] = _undecorated(inner, by_name=not by_name and key in _BY_NAME)
    return kept


def _canonical(value: Any, key: str, *, by_name: bool = False) -> Any:
    """Return a value in the form that is digested. `by_name`: the keys of this table are the server's own names."""
    if isinstance(value, dict):
        own = not by_name and key in _BY_NAME
        literal = not by_name and key in _LITERAL
        return {
            name: inner if literal else _canonical(inner, "" if own else name, by_name=own)
            for name, inner in value.items()
        }
    if isinstance(value, str):
        return _blanks.sub(" ", value).strip() if key in _PROSE else value
    if isinstance(value, list):
        items = [_canonical(each, "") for each in value]
        return sorted(items, key=_encoded) if key in _SETS else items
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return int(value)
    return value


def _encoded(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, order="sorted")
    except (UnicodeEncodeError, RecursionError) as error:
        raise UnfitError(f"a definition that is no text: {error}") from error


def _depth(value: object) -> int:
    """Return how deep a value is nested, level by level: a recursion would end where a hostile one wants it to."""
    level, depth = [value], 0
    while level and depth <= MOST_DEPTH:
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        depth += 1
    return depth


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
