"""Read a configuration as an earlier epad has recorded it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from epad.configuration.load import load
from epad.configuration.schema import Config


def read_recorded(body: bytes | msgspec.Raw) -> Config:
    """Return a recorded configuration, whose epad may not have had every key: those it lacks are as shipped.

    Raises msgspec.ValidationError for one with a key that there is no more.
    """
    tables: dict[str, Any] = msgspec.json.decode(body)
    _fill(tables, Config, _shipped())
    return msgspec.convert(tables, Config)


@functools.cache
def _shipped() -> dict[str, Any]:
    tables: dict[str, Any] = msgspec.to_builtins(load())
    return tables


def _fill(table: dict[str, Any], kind: type[msgspec.Struct], shipped: Mapping[str, Any]) -> None:
    for item in msgspec.structs.fields(kind):
        if item.name not in table:
            if item.required and item.name in shipped:
                table[item.name] = shipped[item.name]
        elif isinstance(item.type, type) and issubclass(item.type, msgspec.Struct):
            _fill(table[item.name], item.type, shipped.get(item.name, {}))
