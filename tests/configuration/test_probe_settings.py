"""What a probe would refuse is told with the file, the key and the bound: of every threshold of every probe."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from epad.configuration.checks import PROBES
from epad.configuration.fields import fields_of
from epad.configuration.load import ConfigError, load
from epad.configuration.probe_schema import ProbesConfig
from probes.bounds import Bound, edge_of, spoken
from probes.settings import ProbeSettings
from probes.token_burn.settings import MAX_BURN_WINDOWS, burn_bounds

SHIPPED = load().probes
LOW = {"gt", "ge", "above", "least"}
NUMBERS = (msgspec.inspect.IntType, msgspec.inspect.FloatType)


class Planted(NamedTuple):
    """A value that is beyond an edge: in which table, of which key, the edge, and whether it is too low.

    `bound` is what the probe says of it; empty for the schema's own.
    """

    table: str
    key: str
    value: float
    edge: str
    low: bool
    bound: str = ""


def number_fields(table: type) -> dict[str, msgspec.inspect.Type]:
    """The fields of a table that are numbers, with the schema's own bounds."""
    kinds = {name: msgspec.inspect.type_info(hint) for name, hint in fields_of(table).items()}
    bare = {
        name: kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
        for name, kind in kinds.items()
    }
    return {name: kind for name, kind in bare.items() if isinstance(kind, NUMBERS)}


def beyond(word: str, edge: float, *, whole: bool) -> float:
    """The nearest number on the wrong side, or a little further."""
    step = 1 if whole else max(abs(edge), 0.5) / 50
    match word:
        case "above" | "gt":
            return math.floor(edge) if whole else edge
        case "below" | "lt":
            return math.ceil(edge) if whole else edge
        case "least" | "ge":
            return math.ceil(edge) - 1 if whole else edge - step
        case _:
            return math.floor(edge) + 1 if whole else edge + step


def of_schema(table: str, config: type) -> Iterator[Planted]:
    for key, kind in number_fields(config).items():
        for word in ("gt", "ge", "lt", "le"):
            edge = getattr(kind, word)
            if edge is not None:
                whole = isinstance(kind, msgspec.inspect.IntType)
                yield Planted(table, key, beyond(word, edge, whole=whole), f"{edge:g}", word in LOW)


def of_bounds(table: str, config: type, settings: object, bounds: tuple[Bound, ...]) -> Iterator[Planted]:
    kinds = number_fields(config)
    for bound in bounds:
        for word in ("above", "least", "below", "most"):
            edge = getattr(bound, word)
            if edge is None:
                continue
            number, whole = edge_of(edge, settings), isinstance(kinds[bound.key], msgspec.inspect.IntType)
            value = beyond(word, number, whole=whole)
            yield Planted(table, bound.key, value, spoken(number), word in LOW, bound.in_words(settings))


def everything() -> list[Planted]:
    planted: list[Planted] = []
    for name in ProbesConfig.__struct_fields__:
        config = getattr(SHIPPED, name)
        planted += of_schema(f"probes.{name}", type(config))
        planted += of_bounds(f"probes.{name}", type(config), config, config.BOUNDS)
    for name, window in SHIPPED.token_burn.burn.items():
        table = f"probes.token_burn.burn.{name}"
        planted += of_schema(table, type(window))
        planted += of_bounds(table, type(window), window, burn_bounds(SHIPPED.token_burn.interval_seconds))
    return planted


def refused(tmp_path: Path, text: str) -> list[str]:
    """What is told of one file, each without the directory."""
    path = tmp_path / "epad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def names(text: str, edge: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(edge)}(?![\w.])", text) is not None


def by_schema(planted: Planted) -> list[str]:
    """The schema's own edges that a planted value is beyond too."""
    same = [p for p in PLANTED if (p.table, p.key, p.low) == (planted.table, planted.key, planted.low)]
    return [p.edge for p in same if not p.bound]


PLANTED = everything()


@pytest.mark.parametrize("planted", PLANTED, ids=lambda p: f"{p.table}.{p.key}={p.value:g}")
def test_a_value_beyond_a_bound_is_told_with_file_key_and_bound(tmp_path: Path, planted: Planted) -> None:
    """Whether the schema or the probe has it; where both have one, the schema's is told, and is as near."""
    told = refused(tmp_path, f"[{planted.table}]\n{planted.key} = {planted.value}\n")
    place = f"epad.toml:2: {planted.table}.{planted.key}: is "
    [line] = [line for line in told if line.startswith(place)]
    value, _, rest = line.removeprefix(place).partition("; " if "; give" in line else ", and ")
    assert float(value) == pytest.approx(planted.value)
    if rest.startswith("give "):
        assert any(names(rest, edge) for edge in (planted.edge, *by_schema(planted)))
    else:
        assert rest == planted.bound
        assert names(rest, planted.edge)


def test_every_number_of_every_probe_has_a_bound() -> None:
    """So that a new key without one is seen here."""
    bounded = {(planted.table, planted.key) for planted in everything()}
    numbers = {
        (f"probes.{name}", key)
        for name in ProbesConfig.__struct_fields__
        for key in number_fields(type(getattr(SHIPPED, name)))
    }
    assert len(numbers) > 60
    assert numbers <= bounded


def test_the_neighbour_that_was_set_is_the_place(tmp_path: Path) -> None:
    """A shipped key that another one was set against stands in no file of a person's."""
    told = refused(tmp_path, "[probes.token_burn]\n\nretry_warn_ratio = 0.6\n")
    words = "is 0.3, and must be at least retry_warn_ratio (0.6)"
    assert told == [f"epad.toml:3: probes.token_burn.retry_ratio: {words}"]


def test_the_reason_for_a_bound_is_told(tmp_path: Path) -> None:
    """A number alone does not say why another one is no use; and each key is told by itself."""
    ratio = "a number of at least 0 and below 1: more than all calls are never retries"
    told = refused(tmp_path, "[probes.token_burn]\nmin_calls = 1\nretry_ratio = 1.0\npile_up_ratio = inf\n")
    assert told == [
        "epad.toml:2: probes.token_burn.min_calls: is 1; give a whole number of at least 2: one call has no ratio",
        f"epad.toml:3: probes.token_burn.retry_ratio: is 1.0; give {ratio}",
        "epad.toml:4: probes.token_burn.pile_up_ratio: is inf; give a finite number",
    ]


def test_too_many_windows_and_names_of_no_detector(tmp_path: Path) -> None:
    """What is no number has its key and bound too."""
    windows = "".join(
        f"[probes.token_burn.burn.w{n}]\nseconds = 300\nday_share = 0.1\nrung = 'stop'\n" for n in range(7)
    )
    [told] = refused(tmp_path, windows)
    assert f"probes.token_burn.burn: is 11 windows, and must be at most {MAX_BURN_WINDOWS}: " in told
    [told] = refused(tmp_path, "[probes.token_burn.rungs]\nhard_limt = 'stop'\n")
    assert told.startswith(
        "epad.toml:2: probes.token_burn.rungs.hard_limt: is hard_limt, and must be the name of"
    )
    assert "appended_loop, busy_cusum, " in told


def test_every_probe_and_setting_has_one_home() -> None:
    """A probe's table is its own type; its defaults stand in default.toml alone, and only `enforce` has another."""
    shipped = tomllib.loads((resources.files("epad") / "default.toml").read_text())["probes"]
    for name, settings in SHIPPED.by_name().items():
        assert isinstance(settings, ProbeSettings)
        assert type(settings).__module__.startswith(f"probes.{name}")
        required = {item.name for item in msgspec.structs.fields(type(settings)) if item.required}
        assert required == {key for key in type(settings).__struct_fields__ if key != "enforce"}
        assert required == set(shipped[name]) - {"enforce"}


def test_the_names_of_findings_are_derived() -> None:
    """Those of the tables, what else their probes find, and what is found without a probe."""
    assert frozenset(ProbesConfig.__struct_fields__) < PROBES
    assert PROBES - set(ProbesConfig.__struct_fields__) == {
        "token_rate",
        "operator",
        "identity",
        "overrun",
        "decoy",
    }
    assert frozenset(load().containment) == PROBES
