"""`--set table.key=value`: a configuration with some thresholds changed, of those that can be tried on a recording."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from epad import EpadError
from epad.configuration.checks import PROBES, cross_check
from epad.configuration.fields import is_table, type_at, value_faults
from epad.configuration.schema import Config
from epad.configuration.toml_lines import key_text
from epad.formatting import amounts

REPLAYED = (
    "hysteresis.",
    "policy.",
    "containment.",
    "probes.token_burn.",
    "probes.cascade.blast_ratio",
    "budgets.global.",
    "groups.",
    "subsystems.",
)
"""What a recording can answer for: how findings and turns were judged. How anything was measured it cannot."""

Setting = tuple[tuple[str, ...], Any]


class SettingError(EpadError):
    """A `--set` that cannot be tried; the message says which and why."""


def parse(texts: Sequence[str]) -> list[Setting]:
    """Read `a.b.c=value`, the value as TOML (a bare word is a string), or as 20k in a budget. Raises SettingError."""
    return [_parse(text) for text in texts]


def _parse(text: str) -> Setting:
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise SettingError(
            f"{text!r}: give it as table.key=value, as in probes.token_burn.identical_prompts=4"
        )
    if not can_be_tried(path):
        raise SettingError(
            f"{key.strip()}: a recording does not hold what this measures; it can answer for "
            "hysteresis, policy, containment, probes.token_burn, probes.cascade.blast_ratio and budgets in tokens "
            "and requests"
        )
    try:
        return path, tomllib.loads(f"value = {value.strip()}")["value"]
    except ValueError:  # no TOML, or a number of more digits than Python reads
        return path, _amount(value.strip()) if "budget" in path or path[0] == "budgets" else value.strip()


def _amount(text: str) -> int | float | str:
    """Return an amount that is no TOML, as 20k; the text where it is none."""
    try:
        return amounts.read(text)
    except amounts.AmountError:
        return text


def can_be_tried(path: tuple[str, ...]) -> bool:
    """Tell if a recording can answer for the setting at this path."""
    key = ".".join(path)
    if path[0] in {"subsystems", "groups"} and path[2:3] != ("budget",):
        return False
    return key.startswith(REPLAYED) and not path[-1].startswith("usd_")


def apply(config: Config, settings: Sequence[Setting]) -> Config:
    """Return the configuration with these settings. Raises SettingError."""
    tables = msgspec.to_builtins(config)
    for path, value in settings:
        if path[0] == "hysteresis" and path[1] in PROBES:  # without a table of its own it goes by the default
            tables["hysteresis"].setdefault(path[1], dict(tables["hysteresis"]["default"]))
        _put(tables, path, value)
        hint = type_at(Config, path)
        for fault in () if is_table(hint) else value_faults(value, hint):
            raise SettingError(f"{key_text(path)}: {fault}")
    try:
        changed = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        raise SettingError(f"--set: {error}") from error
    # What was wrong before is no matter of these settings.
    known = {complaint.text for complaint in cross_check(config)}
    for complaint in cross_check(changed):
        if complaint.text not in known:
            raise SettingError(f"{key_text(complaint.key)}: {complaint.text}")
    return changed


def at_home(config: Config, settings: Sequence[Setting]) -> list[Setting]:
    """Return the settings whose subsystems and groups this configuration has: over a week, some come and go."""
    return [
        (path, value)
        for path, value in settings
        if path[0] not in {"subsystems", "groups"} or path[1] in getattr(config, path[0])
    ]


def _put(tables: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    table: Any = tables
    for depth, part in enumerate(path):
        if not isinstance(table, dict) or part not in table:
            near = difflib.get_close_matches(part, list(table) if isinstance(table, Mapping) else [], n=1)
            fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(table))}"
            raise SettingError(f"{'.'.join(path[: depth + 1])} is not a known key; {fix}")
        if depth < len(path) - 1:
            table = table[part]
    table[path[-1]] = value


def touches(settings: Sequence[Setting], *prefixes: tuple[str, ...]) -> bool:
    """Tell if a setting lies under one of these."""
    return any(path[: len(prefix)] == prefix for path, _ in settings for prefix in prefixes)
