"""The rows of bench/startup.py: each is met by starts that do not grow with history, and by no other."""

from __future__ import annotations

import json
import math
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import _harness
import startup
from _harness import Row

READY_4, READY_5, READY_6, READY, CORE, RSS, PSS, VERIFIED, SIZE = range(9)


def sizes(change: Callable[[startup.Size], startup.Size] = lambda size: size) -> list[startup.Size]:
    """Three sizes as a good epad has them, each changed by the plant."""
    start = startup.Start(1.0, 0.8, 72.0, 56.0)
    last = replace(start, verified=2.0, rss_mib=74.0)
    return [
        change(startup.Size(10**power, 2 * 10**power, [start, start, start, last], 900 * 10**power))
        for power in (4, 5, 6)
    ]


def rows(planted: list[startup.Size]) -> list[Row]:
    return [
        *map(startup.ready_row, planted),
        *startup.growth_rows(planted),
        startup.size_row(planted[-1]),
    ]


def not_met(planted: list[startup.Size]) -> set[int]:
    return {number for number, row in enumerate(rows(planted)) if row.met is not True}


def each_start(**changes: Callable[[int, Any], float | None]) -> Callable[[startup.Size], startup.Size]:
    """Change what was measured of each start, given the number of turns."""

    def change(size: startup.Size) -> startup.Size:
        def changed(start: startup.Start) -> startup.Start:
            new = {name: by(size.turns, getattr(start, name)) for name, by in changes.items()}
            return replace(start, **{name: value for name, value in new.items() if value is not None})

        return replace(size, starts=[changed(start) for start in size.starts])

    return change


def test_a_start_that_does_not_grow_meets_every_row() -> None:
    """And the report of it is JSON that any reader takes."""
    assert not_met(sizes()) == set()
    assert len(rows(sizes())) == SIZE + 1


PLANTS: dict[str, tuple[Callable[[startup.Size], startup.Size], set[int]]] = {
    "each record is read before the door opens": (
        each_start(
            ready=lambda turns, ready: ready + turns * 2e-5, core=lambda turns, core: core + turns * 2e-5
        ),
        {READY_5, READY_6, READY, CORE},
    ),
    "each start takes three seconds": (each_start(ready=lambda _, __: 3.0), {READY_4, READY_5, READY_6}),
    "each open turn stays in memory": (
        each_start(
            rss_mib=lambda turns, mib: mib + turns * 4e-4, pss_mib=lambda turns, mib: mib + turns * 4e-4
        ),
        {RSS, PSS},
    ),
    "the check keeps what it has read": (
        lambda size: replace(
            size,
            starts=[
                *size.starts[:-1],
                replace(size.starts[-1], rss_mib=74.0 + size.turns * 4e-4, pss_mib=56.0 + size.turns * 4e-4),
            ],
        ),
        {RSS, PSS},
    ),
    "the check never ends": (
        each_start(verified=lambda _, verified: math.inf if verified else verified),
        {READY_4, READY_5, READY_6, VERIFIED},
    ),
    "the check looks at each record as often as there are records": (
        each_start(verified=lambda turns, verified: turns**1.5 / 1e6 if verified else verified),
        {VERIFIED},
    ),
    "each record is written thrice": (
        lambda size: replace(size, bytes_on_disk=3 * size.bytes_on_disk),
        {SIZE},
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_growth_turns_its_rows_red_and_no_other(plant: str) -> None:
    change, red = PLANTS[plant]
    assert not_met(sizes(change)) == red


def test_every_row_has_a_plant() -> None:
    """A row that nothing turns red would say nothing."""
    assert set().union(*(red for _, red in PLANTS.values())) == set(range(SIZE + 1))


def test_what_is_not_known_is_no_broken_json(tmp_path: Path) -> None:
    """Neither a size that was not started without sums, nor a check that did not end."""
    planted = sizes(PLANTS["the check never ends"][0])
    _harness.write(tmp_path / "it.json", "startup", rows(planted), quick=True)

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    report = json.loads((tmp_path / "it.json").read_text(), parse_constant=refused)
    assert len(report["rows"]) == SIZE + 1


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no such key >&2; exit 2", "no such key"),
        ("kill -9 $$", "not ready"),
        ("exec sleep 60", "not ready"),
    ],
)
def test_a_daemon_that_does_not_get_ready_is_told_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    """At once where it has ended: the bench once waited ten minutes for one that was dead."""
    epad = tmp_path / "epad"
    epad.write_text(f"#!/bin/sh\n{script}\n")
    epad.chmod(epad.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "state").mkdir()
    with pytest.raises(startup.StartError, match=said):
        startup.Installed(tmp_path).start(timeout=2.0 if "sleep" in script else 600.0)
    assert not (tmp_path / "notify").exists()
