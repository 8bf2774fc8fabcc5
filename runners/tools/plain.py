"""Make a value of JSON's kinds from a parsed one, counting as it is made: an alias may stand for a million nodes."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any, Final

from runners.tools.signature import ToolError

MOST_NODES: Final = 100_000
MOST_DEPTH: Final = 100
_BIGGEST: Final = 1 << 63


def plain(value: Any) -> Any:
    """Return the value in JSON's kinds. Raises ToolError for one with too many nodes, or that holds itself."""
    return _Maker().make(value, 0)


class _Maker:
    """Counts the nodes of one value."""

    def __init__(self) -> None:
        self._left = MOST_NODES

    def make(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ToolError(
                f"the value has over {MOST_NODES} nodes, with its aliases", "parse a smaller document"
            )
        if depth > MOST_DEPTH:
            raise ToolError(
                f"the value is nested over {MOST_DEPTH} deep, or holds itself", "give a flatter document"
            )
        match value:
            case Mapping():
                return {_key(key): self.make(item, depth + 1) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.make(item, depth + 1) for item in value]
            case _:
                return _scalar(value)


def _key(value: Any) -> str:
    match value:
        case str():
            return _text(value)
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case _:
            return _text(str(_scalar(value)))


def _scalar(value: Any) -> Any:
    match value:
        case str():
            return _text(value)
        case None | bool():
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case int():
            # A number that most readers of JSON would round is told as a text.
            return value if -_BIGGEST <= value < _BIGGEST else _digits(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case _:
            return base64.b64encode(value).decode() if isinstance(value, bytes) else _text(str(value))


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise ToolError("a whole number has over 4,300 digits", "write it as a text") from None


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ToolError(
            f"a text has half a character at position {error.start}", "a lone surrogate: remove it"
        ) from None
    return value
