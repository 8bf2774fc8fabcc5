"""An answer in which nothing is told: every field that must be there, with the plainest value of its type.

A double that starts from it needs no line for a field that its test is not about.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import (
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec

T = TypeVar("T")

_PLAIN: dict[object, Any] = {str: "", int: 0, float: 0.0, bool: False, Sequence: [], Mapping: {}}


def blank(answer: type[T]) -> T:
    """Return such an answer of a type of `epad/answers/`."""
    hints = get_type_hints(answer, include_extras=True)
    fields = {name: _plain(hint) for name, hint in hints.items() if get_origin(hint) is not NotRequired}
    return msgspec.convert(fields, answer)


def _plain(hint: Any) -> Any:
    if is_typeddict(hint):
        return blank(hint)
    origin = get_origin(hint) or hint
    if origin in {Union, types.UnionType}:
        return None if types.NoneType in get_args(hint) else _plain(get_args(hint)[0])
    return get_args(hint)[0] if origin is Literal else _PLAIN[origin]
