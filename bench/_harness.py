"""What every benchmark shares: a claim as a row, printed as a table and written as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

Peers = dict[str, float | str]
"""What others have for the same claim: a figure, or one line why there is none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One claim, what was measured for it, and beside what. `met` is None where there is nothing to meet."""

    claim: str
    value: float | None
    unit: str
    goal: str
    met: bool | None
    peers: Peers = field(default_factory=dict)
    n: int = 0
    command: str = ""


def run(
    name: str,
    measure: Callable[[bool], Sequence[Row]],
    measure_peers: Callable[[bool], Mapping[str, Peers]] | None = None,
) -> int:
    """Measure, print the table, write `--json FILE`; the exit status is 1 if a goal was not met.

    With `--peers-only` only `measure_peers` is asked, and its figures are put beside the claims that FILE has.
    """
    parser = argparse.ArgumentParser(name)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and requests; says so")
    parser.add_argument("--json", metavar="FILE", type=Path)
    if measure_peers is not None:
        parser.add_argument(
            "--peers-only", action="store_true", help="measure the peers; FILE keeps its rows"
        )
    arguments = parser.parse_args()
    if measure_peers is not None and arguments.peers_only:
        return _run_peers(measure_peers(arguments.quick), arguments.json)
    rows = measure(arguments.quick)
    show(rows)
    if arguments.json is not None:
        write(arguments.json, name, rows, quick=arguments.quick)
    return int(any(row.met is False for row in rows))


def _run_peers(peers: Mapping[str, Peers], path: Path | None) -> int:
    for claim, figures in peers.items():
        print(f"{'peers':8} {claim}")
        _show_peers(figures)
    if path is not None:
        add_peers(path, peers)
    return 0


def add_peers(path: Path, peers: Mapping[str, Peers]) -> None:
    """Put figures of peers into a file of results, and leave everything else in it as it is.

    Raises ValueError for a claim that the file does not have: its rows are of another set of cases.
    """
    report = json.loads(path.read_text())
    rows = {row["claim"]: row for row in report["rows"]}
    if missing := sorted(peers.keys() - rows):
        raise ValueError(f"{path} has no row {missing[0]!r}; measure all of it again, without --peers-only")
    for claim, figures in peers.items():
        rows[claim]["peers"].update(figures)
    report["peers_measured_utc"] = datetime.now(tz=UTC).isoformat(timespec="seconds")
    report["peers_load_average_1_5_15_min"] = os.getloadavg()
    path.write_text(json.dumps(report, indent=1) + "\n")


def show(rows: Sequence[Row]) -> None:
    """Print one line a claim, and its peers below it."""
    for row in rows:
        value = "n/a" if row.value is None else f"{row.value:,.4g} {row.unit}"
        verdict = {True: "met", False: "NOT MET", None: "-"}[row.met]
        print(f"{verdict:8} {row.claim}: {value} (goal: {row.goal or 'none'}; n={row.n:,})")
        _show_peers(row.peers)


def _show_peers(peers: Peers) -> None:
    for peer, figure in peers.items():
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
