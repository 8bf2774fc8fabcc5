"""What every benchmark shares: a claim as a row, printed as a table and written as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One claim, what was measured for it, and beside what. `met` is None where there is nothing to meet."""

    claim: str
    value: float | None
    unit: str
    goal: str
    met: bool | None
    peers: dict[str, float | str] = field(default_factory=dict)
    n: int = 0
    command: str = ""


def run(name: str, measure: Callable[[bool], Sequence[Row]]) -> int:
    """Measure, print the table, write `--json FILE`; the exit status is 1 if a goal was not met."""
    parser = argparse.ArgumentParser(name)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and requests; says so")
    parser.add_argument("--json", metavar="FILE", type=Path)
    arguments = parser.parse_args()
    rows = measure(arguments.quick)
    show(rows)
    if arguments.json is not None:
        write(arguments.json, name, rows, quick=arguments.quick)
    return int(any(row.met is False for row in rows))


def show(rows: Sequence[Row]) -> None:
    """Print one line a claim, and its peers below it."""
    for row in rows:
        value = "n/a" if row.value is None else f"{row.value:,.4g} {row.unit}"
        verdict = {True: "met", False: "NOT MET", None: "-"}[row.met]
        print(f"{verdict:8} {row.claim}: {value} (goal: {row.goal or 'none'}; n={row.n:,})")
        for peer, figure in row.peers.items():
            print(f"{'':12}{peer}: {figure if isinstance(figure, str) else format(figure, ',.4g')}")


def write(path: Path, name: str, rows: Sequence[Row], *, quick: bool) -> None:
    """Write the rows with what they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "bench": name,
        "quick": quick,
        "measured_utc": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_average_1_5_15_min": os.getloadavg(),
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
