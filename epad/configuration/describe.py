"""Types and values of the configuration, in the words of an error message."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

from msgspec.inspect import (
    BoolType,
    DictType,
    FloatType,
    IntType,
    LiteralType,
    Metadata,
    NoneType,
    StrType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from epad.configuration.schema import UpstreamConfig
from epad.configuration.sizes import SIZE_PATTERN
from epad.configuration.value_types import Address, CheckAddress, CheckUrl, Listener
from statemachine.value_types import WHY, Name

# Longer values are cut: the message says what is wrong, the file says the rest.
MAX_SHOWN = 60


def shown(value: Any) -> str:
    """Return a value as one would write it in TOML, cut short."""
    if isinstance(value, dict):
        return "a table"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def describe(hint: Any) -> str:
    """Describe the values that a type allows."""
    return _describe(type_info(hint))


def reason(hint: Any) -> str:
    """Return the reason for a type's bounds, as the end of a sentence about them; empty where it gives none."""
    kind = type_info(hint)
    why = (kind.extra or {}).get(WHY) if isinstance(kind, Metadata) else None
    return f": {why}" if why else ""


def _describe(kind: Type) -> str:
    kind = kind.type if isinstance(kind, Metadata) else kind
    words = f"a value of type {type(kind).__name__}"
    match kind:
        case IntType(ge=int(low), le=int(high)):
            words = f"a whole number from {low} to {high}"
        case IntType(ge=ge):
            words = "a whole number" + (f" of at least {ge}" if ge is not None else "")
        case FloatType():
            words = f"a number{_bounds(kind)}"
        case BoolType():
            words = "true or false"
        case DictType():
            words = "a table of names and texts"
        case UnionType(types=types):
            words = " or ".join(_describe(each) for each in types if not isinstance(each, NoneType))
        case LiteralType(values=values):
            words = f"one of {', '.join(json.dumps(value) for value in values)}"
        case StrType(pattern=pattern):
            words = _describe_text(pattern)
        case VarTupleType(item_type=item, min_length=least):
            words = f"an array of {least or 0} or more, each {_describe(item)}"
    return words


def _bounds(kind: FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:g} to {kind.le:g}"
    edges = {"above": kind.gt, "of at least": kind.ge, "below": kind.lt, "at most": kind.le}
    told = [f"{word} {edge:g}" for word, edge in edges.items() if edge is not None]
    return f" {' and '.join(told)}" if told else ""


def _describe_text(pattern: str | None) -> str:
    if pattern is None:
        return "text in quotes"
    known = {
        _pattern(Name): "a name of a-z, 0-9, _ and -, beginning with a letter, at most 32 long",
        _pattern(Address): 'an address "host:port", as in "127.0.0.1:8700"',
        _pattern(CheckAddress): 'an address "host:port", or "" for none',
        _pattern(CheckUrl): 'a URL that begins with "http://" or "https://", or "" for none',
        SIZE_PATTERN: 'a size such as "4GiB"',
        _pattern(Listener): 'a socket "unix:/path" or an address "host:port"',
        _pattern(get_type_hints(UpstreamConfig, include_extras=True)["url"]): (
            'a URL that begins with "http://", "https://" or "unix:/"'
        ),
    }
    return known.get(pattern, f"text that matches {pattern}")


def _pattern(hint: Any) -> str | None:
    kind = type_info(hint)
    return kind.pattern if isinstance(kind, StrType) else None
