"""How soon each detector sees each runaway, and how often it sees one where there is none.

`python bench/detectors.py [--quick] [--json FILE]`. Days of ten agents on the manual clock, each with every
runaway planted once; tests/support/day_traffic.py says what is assumed of them. Synthetic: no real traffic was
seen. The seeds are none of those that the thresholds were looked at with (0 to 30).
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from _harness import Row, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from day_traffic import RUNAWAYS, Day, DayReport, Sighting

FIRST_SEED = 1_000
DAYS, QUICK_DAYS = 20, 3
AGENTS = 10
_ANY = "any"


def main(*, quick: bool) -> Sequence[Row]:
    """Play the days and print the table; a row for each runaway, one for the false alarms, one for the cost."""
    days = QUICK_DAYS if quick else DAYS
    started = time.process_time()
    reports = [asyncio.run(Day(FIRST_SEED + day, stop_when_seen=False).play()) for day in range(days)]
    seconds = time.process_time() - started
    _print_table(reports)
    command = "python bench/detectors.py" + (" --quick" if quick else "")
    rows = [_row(name, reports, command) for name in RUNAWAYS]
    alarms = sum(len(report.false_alarms) for report in reports)
    rows.append(
        Row(
            "false alarms a day, ten agents",
            alarms / days,
            "alarms",
            "0",
            alarms == 0,
            n=days,
            command=command,
        )
    )
    events = sum(report.events for report in reports)
    rows.append(
        Row(
            "CPU an event, all probes and the simulation together",
            seconds / events * 1e6,
            "us",
            "",
            None,
            n=events,
            command=command,
        )
    )
    return rows


def _row(name: str, reports: Sequence[DayReport], command: str) -> Row:
    firsts = [min(seen.values(), key=_seconds) for r in reports if (seen := r.sightings[name])]
    median = statistics.median(map(_seconds, firsts)) if firsts else None
    peers: dict[str, float | str] = {
        "slowest": max(map(_seconds, firsts), default=0.0),
        "median tokens charged by then": statistics.median(first.tokens for first in firsts) if firsts else 0,
        "seen": f"{len(firsts)} of {len(reports)}",
    }
    met = len(firsts) == len(reports)
    return Row(f"{name}: seen after", median, "s", "every time", met, peers, len(reports), command)


def _seconds(sighting: Sighting) -> float:
    return sighting.seconds


def _print_table(reports: Sequence[DayReport]) -> None:
    """Median detection time and how often it was seen, by detector and runaway; and false alarms a day."""
    detectors = sorted({d for r in reports for seen in r.sightings.values() for d in seen})
    alarms = Counter(why.partition(": ")[0] for r in reports for _, _, why in r.false_alarms)
    tokens = statistics.median(report.tokens for report in reports) / AGENTS / 1e6
    print(
        f"{len(reports)} days of {AGENTS} agents, {tokens:.1f} M tokens an agent and day; budgets are twice that\n"
    )
    print("| detector | false alarms/day | " + " | ".join(RUNAWAYS) + " |")
    print("|---" * (len(RUNAWAYS) + 2) + "|")
    for detector in [*detectors, *sorted(set(alarms) - set(detectors)), _ANY]:
        count = sum(alarms.values()) if detector == _ANY else alarms[detector]
        cells = [_cell(name, detector, reports) for name in RUNAWAYS]
        print(f"| {detector} | {count / len(reports):.2f} | " + " | ".join(cells) + " |")
    print()


def _cell(name: str, detector: str, reports: Sequence[DayReport]) -> str:
    seen = [
        min(r.sightings[name].values(), key=_seconds) if detector == _ANY else r.sightings[name][detector]
        for r in reports
        if r.sightings[name] and (detector == _ANY or detector in r.sightings[name])
    ]
    if not seen:
        return "-"
    share = "" if len(seen) == len(reports) else f" ({len(seen)}/{len(reports)})"
    tokens = statistics.median(sighting.tokens for sighting in seen) / 1_000
    return f"{statistics.median(map(_seconds, seen)):.0f} s, {tokens:.0f}k{share}"


if __name__ == "__main__":
    sys.exit(run("detectors", lambda quick: main(quick=quick)))
