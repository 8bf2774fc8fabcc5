"""What a probe would refuse is told with the file, the key and the bound: of every threshold of every probe."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from epad.configuration.load import ConfigError, load
from epad.configuration.probe_schema import ProbesConfig
from epad.configuration.thresholds import MAKERS
from probes.bounds import Bound, edge_of, spoken
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
    info = msgspec.inspect.type_info(table)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.name: field.type for field in info.fields if isinstance(field.type, NUMBERS)}


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


def of_bounds(table: str, config: type, thresholds: object, bounds: tuple[Bound, ...]) -> Iterator[Planted]:
    kinds = number_fields(config)
    for bound in bounds:
        for word in ("above", "least", "below", "most"):
            edge = getattr(bound, word)
            if edge is None:
                continue
            number, whole = edge_of(edge, thresholds), isinstance(kinds[bound.key], msgspec.inspect.IntType)
            if number == math.inf:
                yield Planted(table, bound.key, number, "finite", word in LOW)
            else:
                value = beyond(word, number, whole=whole)
                yield Planted(
                    table, bound.key, value, spoken(number), word in LOW, bound.in_words(thresholds)
                )


def everything() -> list[Planted]:
    planted: list[Planted] = []
    for name in ProbesConfig.__struct_fields__:
        config = getattr(SHIPPED, name)
        planted += of_schema(f"probes.{name}", type(config))
        if name in MAKERS:
            thresholds = MAKERS[name](config)
            planted += of_bounds(
                f"probes.{name}", type(config), thresholds, getattr(thresholds, "BOUNDS", ())
            )
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
    words = "is 0.3, and must be at least retry_warn_ratio (0.6) and below 1: more than all calls are never retries"
    assert told == [f"epad.toml:3: probes.token_burn.retry_ratio: {words}"]


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
