"""The rows of bench/containment.py as they are played: a few of them, so that the bench cannot rot unseen."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from virtual_time import VirtualTime

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import containment
from _containment_honest import ROWS as HONEST
from _containment_rows import find
from _containment_runaway import DETECTOR, PLANTS, RUNAWAYS
from _containment_world import play

from epad.configuration.load import load

SMALL = 0.1


async def test_an_honest_row_is_served_to_its_end_beside_its_bystanders(virtual_time: VirtualTime) -> None:
    name = "self-consistency, k = 5, 1 at once, no seeds"
    seen = await play(virtual_time, find(name, SMALL))
    assert containment.is_clean(name, seen)
    assert seen["asked"] == seen["served"] > 0
    assert seen["outside_asked"] > 0
    assert seen["outside_refused"] == 0


async def test_a_runaway_is_held_and_what_it_cost_is_known(virtual_time: VirtualTime) -> None:
    seen = await play(virtual_time, find("one prompt in a tight loop, temperature 0", SMALL))
    assert seen["held"]
    assert 0 < (containment.ratio(seen) or 0) <= containment.WORST_GOAL


async def test_a_detector_that_only_tells_holds_nobody(virtual_time: VirtualTime) -> None:
    """The same row with its detector switched off, so that the one above is no proof of another's work."""
    row = find("one prompt in a tight loop, temperature 0+identical_prompts", SMALL)
    seen = await play(virtual_time, replace(row, limit=45.0))
    assert containment.ratio(seen) is None
    assert seen["spent"] > containment.WORST_GOAL * seen["oracle"]


async def test_a_detector_of_answers_that_only_tells_ends_none(virtual_time: VirtualTime) -> None:
    seen = await play(virtual_time, find("an answer that repeats one sentence+looping_output", SMALL))
    assert seen["held"] == []


@pytest.mark.parametrize("name", [
    "a service that its developer restarts eight times in two minutes",
    "a laptop whose lid is closed four times in an hour, and a service that loses its GPU by it",
])  # fmt: skip
async def test_what_happens_to_a_process_is_played(virtual_time: VirtualTime, name: str) -> None:
    """It ends by hand and by the lid, and is neither held nor told of."""
    seen = await play(virtual_time, find(name, SMALL))
    assert containment.is_clean(name, seen)
    assert seen["ends"] >= 4
    assert seen["phases"] == []


async def test_an_outage_and_its_end_are_played(virtual_time: VirtualTime) -> None:
    name = "two stock clients, the server gone for 40 s"
    seen = await play(virtual_time, find(name, SMALL))
    assert 0 < seen["served"] <= seen["asked"]
    assert containment.is_clean(name, seen)


def test_there_are_as_many_rows_as_are_claimed() -> None:
    assert len(HONEST) >= 45
    assert len(RUNAWAYS) >= 25
    assert {name for name in DETECTOR.values() if name} <= set(PLANTS)


@pytest.mark.parametrize("plant", PLANTS)
def test_every_plant_is_a_configuration(plant: str, tmp_path: Path) -> None:
    file = tmp_path / "epad.toml"
    file.write_text(PLANTS[plant])
    load(file)


@pytest.mark.parametrize(
    ("failures", "trials", "bound"),
    [(0, 10, 0.2589), (0, 60, 0.0487), (1, 10, 0.3942), (10, 10, 1.0), (3, 100, 0.0757)],
)
def test_the_upper_bound_is_clopper_and_pearsons(failures: int, trials: int, bound: float) -> None:
    assert containment.upper_bound(failures, trials) == pytest.approx(bound, abs=5e-4)


def _seen(**fields: Any) -> dict[str, Any]:
    return {"held": [], "refused_by_hold": 0, "contained_at": None, "oracle": 10.0, "spent": 0, **fields}


def test_a_cut_is_a_hold_but_where_one_may_be() -> None:
    cut = _seen(held=[[1.0, "agent", "cut", ""]])
    assert not containment.is_clean("streams of tables", cut)
    assert containment.is_clean("a small model whose poems stick now and then", cut)
    assert not containment.is_clean("streams of tables", _seen(refused_by_hold=1))
    assert not containment.is_clean("streams of tables", {"error": "it broke"})


def test_a_runaway_that_costs_more_than_before_names_an_honest_row_that_was_held() -> None:
    """It may be dearer for that row's sake; one that names none, or a row that was left alone, is not excused."""
    name = "one text embedded again and again"
    now = {name: _seen(contained_at=1.0, spent=80)}
    old = {name: _seen(contained_at=1.0, spent=30)}
    like = RUNAWAYS[name]().like
    for held, unstated, untrue in (([[1.0, "agent", "throttle", ""]], 0, True), ([], 0, False)):
        rows = containment._runaway_rows(now, {**old, like: _seen(held=held)}, "")
        assert [row.met for row in rows[-2:]] == [unstated == 0, untrue]
    plain = "one prompt in a tight loop, temperature 0"
    assert not containment._runaway_rows({plain: now[name]}, {plain: old[name]}, "")[-2].met


def test_every_row_that_excuses_another_is_there() -> None:
    named = {RUNAWAYS[name]().like for name in RUNAWAYS} - {""}
    assert named <= set(HONEST)


@pytest.mark.parametrize(
    ("now", "was", "worse"),
    [
        (3.0, 2.9, False),
        (3.1, 2.9, True),
        (0.9, 0.1, False),
        (1.1, 0.1, True),
        (None, 2.0, True),
        (9.0, None, False),
    ],
)
def test_worse_is_dearer_than_before_and_than_an_oracle(
    now: float | None, was: float | None, worse: bool
) -> None:
    assert containment.is_worse(now, was) is worse


def test_a_runaway_that_nobody_held_has_no_ratio() -> None:
    assert containment.ratio(_seen(spent=5)) is None
    assert containment.ratio(_seen(spent=25, contained_at=3.0)) == 2.5
    assert containment.ratio({"error": "it broke"}) is None
