"""The fields of the configuration's types, and whether a value fits the type of its key."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from epad.configuration.describe import describe, reason, shown
from epad.configuration.toml_lines import KeyPath


def fields_of(struct: Any) -> dict[str, Any]:
    """Return the type of each field of a table, in the table's order; of a table that may be absent, the table's."""
    hints = get_type_hints(struct, include_extras=True)
    return {name: _table_or_none(hints[name]) for name in struct.__struct_fields__}


def _table_or_none(hint: Any) -> Any:
    given = [part for part in get_args(hint) if part is not NoneType]
    return given[0] if get_origin(hint) is UnionType and is_table(given[0]) else hint


def is_table(hint: Any) -> bool:
    """Tell if a key of this type is a table."""
    return get_origin(hint) is dict or (isinstance(hint, type) and issubclass(hint, msgspec.Struct))


def type_at(struct: Any, path: KeyPath) -> Any:
    """Return the type of the key at a path; None where the types know no such key."""
    hint = struct
    for key in path:
        if not is_table(hint):
            return None
        hint = get_args(hint)[1] if get_origin(hint) is dict else fields_of(hint).get(key)
    return hint


def fits(value: Any, hint: Any) -> bool:
    """Tell if a value is of a type, and within its bounds."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True


def value_faults(value: Any, hint: Any) -> Iterator[str]:
    """Yield the faults of one value: of each element of an array by itself, else of the whole."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    item = get_args(bare)[0] if get_origin(bare) is tuple else None
    bad = [e for e in value if not fits(e, item)] if item is not None and isinstance(value, list) else []
    for element in bad:
        yield f"holds {shown(element)}; each must be {describe(item)}"
    if not bad and not fits(value, hint):
        yield f"is {shown(value)}; give {describe(hint)}{reason(hint)}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"is {value}; give a finite number"
