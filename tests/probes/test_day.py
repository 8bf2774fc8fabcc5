"""A day of ten agents with every runaway planted: none is missed, and nobody else is accused."""

from __future__ import annotations

import pytest
from day_traffic import RUNAWAYS, Day

# Far above what bench/detectors.py measures, far below the 15 minutes that a runaway is given.
SEEN_WITHIN_SECONDS = {
    "tight identical loop": 45.0,
    "the same at a temperature": 420.0,
    "growing-prompt loop": 60.0,
    "growing, all different": 420.0,
    "retry storm": 5.0,
    "fan-out x40": 5.0,
    "looping stream": 30.0,
    "slow expensive loop": 900.0,
    "circling conversation": 300.0,
}


@pytest.mark.parametrize("seed", range(3))
async def test_no_runaway_is_missed_and_nobody_else_is_accused(seed: int) -> None:
    """Each is seen in its time, by whichever detector; and in the whole day there is no false alarm."""
    report = await Day(seed).play()
    assert report.false_alarms == []
    missed = [name for name in RUNAWAYS if not report.sightings[name]]
    assert missed == []
    late = {
        name: report.first(name)
        for name in RUNAWAYS
        if report.first(name)[1].seconds > SEEN_WITHIN_SECONDS[name]
    }
    assert late == {}


async def test_the_day_would_show_a_miss() -> None:
    """What runs for a moment only is seen by nobody: the table is not filled by itself."""
    day = Day(5, planted=("slow expensive loop",))
    day._events = [entry for entry in day._events if entry[0].subsystem == "agent5"]
    for running in day._running.values():
        running.until = running.at + 30.0
    report = await day.play()
    assert report.sightings["slow expensive loop"] == {}
