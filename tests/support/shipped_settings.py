"""The shipped settings, and settings that differ from them."""

from __future__ import annotations

from typing import Any

import msgspec

from epad.configuration.load import load
from epad.configuration.probe_schema import ProbesConfig
from probes.settings import ProbeSettings
from statemachine.assessor import Hysteresis

CONFIG = load()
PROBES: ProbesConfig = CONFIG.probes


def hysteresis(*values: float, **named: float) -> Hysteresis:
    """The default rule, but for these fields: the first ones, and those that are named."""
    first = dict(zip(Hysteresis.__struct_fields__, values, strict=False))
    return msgspec.structs.replace(CONFIG.hysteresis["default"], **first, **named)


def refused(settings: ProbeSettings, **changed: Any) -> list[str]:
    """The keys of a probe's table that are named if these are changed."""
    try:
        typed = msgspec.convert(msgspec.to_builtins(settings) | changed, type(settings))
    except msgspec.ValidationError as error:
        return [key for key in changed if f"`$.{key}" in str(error) or f"in `$.{key}" in str(error)]
    return [fault.key[0] for fault in typed.faults()]
