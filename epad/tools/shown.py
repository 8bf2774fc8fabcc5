"""Show what an agent wrote to a person who decides by it: bounded, in one line, every hidden character visible. Pure.

A character that is not seen, or changes how its neighbours are seen, is shown as its number: controls, line breaks,
bidirectional marks, tags, blanks that are no space, and marks that sit on another character.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

MOST_CHARACTERS: Final = 4_000
"""Of all arguments of one call."""
_MOST_OF_TEXT: Final = 800
_MOST_OF_NAME: Final = 100
_MOST_ITEMS: Final = 20
_MOST_DEPTH: Final = 6
_MOST_BITS: Final = 256
_SITS_ON_ANOTHER: Final = frozenset({"Mn", "Me"})
_SEEN_AS_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def visible(text: str) -> str:
    """Return a text in one line, with each hidden character as its number, and each backslash as two."""
    return _numbered(text.replace("\\", "\\\\"))


def seen(text: str) -> str:
    """Return a text of JSON, whose backslashes are its own, with each hidden character as its number."""
    return _numbered(text)


def shown_arguments(arguments: Mapping[str, object]) -> str:
    """Return arguments as JSON in one line; what is left out is counted in its place."""
    return cut(
        _numbered(json.dumps(_cut_value(arguments, 0), ensure_ascii=False, default=str)), MOST_CHARACTERS
    )


def cut(text: str, most: int) -> str:
    """Cut the middle out of a text that has more characters, and say how many went."""
    if len(text) <= most:
        return text
    left = most - 40
    head = left * 3 // 4
    tail = left - head
    return f"{text[:head]}…(+{len(text) - left} characters)…{text[-tail:]}"


def _numbered(text: str) -> str:
    return "".join(one if _is_seen(one) else _number(one) for one in text)


def _number(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _is_seen(character: str) -> bool:
    return (
        character.isprintable()
        and character not in _SEEN_AS_BLANK
        and unicodedata.category(character) not in _SITS_ON_ANOTHER
    )


def _cut_value(value: object, depth: int) -> Any:
    match value:
        case str():
            return cut(value, _MOST_OF_TEXT)
        case Mapping() | list() | tuple() if depth >= _MOST_DEPTH:
            return "…(nested deeper)"
        case Mapping():
            kept: dict[str, Any] = {
                cut(str(name), _MOST_OF_NAME): _cut_value(item, depth + 1)
                for name, item in islice(value.items(), _MOST_ITEMS)
            }
            return kept if len(value) <= _MOST_ITEMS else {**kept, "…": f"+{len(value) - _MOST_ITEMS} more"}
        case list() | tuple():
            items = [_cut_value(item, depth + 1) for item in value[:_MOST_ITEMS]]
            return items if len(value) <= _MOST_ITEMS else [*items, f"…(+{len(value) - _MOST_ITEMS} more)"]
        case int() if value.bit_length() > _MOST_BITS:
            return "…(a number of many digits)"
        case _:
            return value
