"""Hold every runaway, soon, and no honest workload: a table of both, and the former code beside it.

`python bench/containment.py [--quick] [--json FILE] [--only=WORD] [--no-old]`. Each row is played by the real daemon
(gateway, probes, assessor, decider, supervisor) in virtual time, against a scripted model server. What is played stands
in `_containment_{honest,daily,trouble,runaway,excess}.py`; what an oracle would do, in `_containment_runaway.py`.
The rows that there were before the rooms moved are played by the code of OLD in a second column. Workloads
are synthetic, of shapes that real packages and real incidents have; no real model answers here.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _harness import Row, run

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]
from _containment_rows import HONEST, PLANTS, RUNAWAYS  # noqa: E402
from _containment_runaway import DETECTOR  # noqa: E402

OLD = "0965478"
OLD_ROWS = "0929843"
"""The last commit whose rows and scripted servers know the rooms of OLD; a row that came later has no old column."""
WORKERS = 2
QUICK_SHARE = 0.15
QUICK_EVERY = 4
"""Of the plants and of the old column's rows, so many are left out in a quick run."""

MEDIAN_GOAL, WORST_GOAL = 3.0, 10.0
Seen = Mapping[str, Any]


def upper_bound(failures: int, trials: int) -> float:
    """The upper 95 % bound of a rate (Clopper-Pearson, one-sided); with no failure, the rule of three made exact."""
    if failures >= trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        at_most = sum(
            math.comb(trials, k) * middle**k * (1 - middle) ** (trials - k) for k in range(failures + 1)
        )
        low, high = (middle, high) if at_most > 0.05 else (low, middle)
    return high


def play(names: Sequence[str], share: float, code: Path) -> dict[str, Seen]:
    """Play rows in processes of their own, with the `epad` and the rows that lie in `code`."""
    seen: dict[str, Seen] = {}

    def work(some: Sequence[str]) -> None:
        command = [sys.executable, str(code / "bench" / "_containment_rows.py"), str(share), *some]
        environment = {**os.environ, "PYTHONPATH": str(code)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                one = json.loads(line)
                seen[one["name"]] = one
                print(".", end="", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, [names[k::WORKERS] for k in range(WORKERS)]))
    print(file=sys.stderr)
    return {name: seen.get(name, {"error": "its process ended"}) for name in names}


def play_old(names: Sequence[str], share: float, directory: Path) -> dict[str, Seen]:
    """Play by the former code those rows that its time knew. Raises RuntimeError if not one of them was played."""
    for commit, parts in (
        (OLD, ("epad", "probes", "statemachine", "runners")),
        (OLD_ROWS, ("bench", "tests/support")),
    ):
        archive = subprocess.run(
            ["git", "archive", commit, *parts], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", str(directory)], input=archive.stdout, check=True)
    script = "import json, _containment_rows as rows; print(json.dumps([*rows.HONEST, *rows.RUNAWAYS]))"
    known = subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory / "bench",
        env={**os.environ, "PYTHONPATH": f"{directory}:{directory / 'bench'}"},
        check=True,
        capture_output=True,
        text=True,
    )
    there = set(json.loads(known.stdout))
    seen = play([name for name in names if name in there], share, directory)
    if seen and all(one.get("error") for one in seen.values()):
        raise RuntimeError(f"no row could be played by {OLD}: {next(iter(seen.values()))['error']}")
    return seen


def is_clean(name: str, seen: Seen) -> bool:
    """Whether an honest workload was left alone: no hold on it, no cut but where one may be."""
    may_be_cut = HONEST[name](24).may_be_cut
    holds = [hold for hold in seen.get("held", [["", "", "error"]]) if not (may_be_cut and hold[2] == "cut")]
    return not holds and not seen.get("refused_by_hold")


def ratio(seen: Seen) -> float | None:
    """What a runaway spent until it was held, in units of what an oracle lets through; None if it was not."""
    if seen.get("error") or seen["contained_at"] is None or not seen["oracle"]:
        return None
    return float(seen["spent"] / seen["oracle"])


def is_worse(now: float | None, was: float | None) -> bool:
    """Whether a runaway costs more than before, and more than an oracle lets through; a twentieth is noise."""
    return was is not None and (now is None or now > max(1.0, was * 1.05))


def _trouble(seen: Seen) -> str:
    return str(seen.get("error") or "; ".join(seen["troubles"][:2]) or "-")[:160]


def _print(honest: Mapping[str, Seen], runaways: Mapping[str, Seen], old: Mapping[str, Seen]) -> None:
    print("honest workload | asked | served | held | bystanders refused of | phases | old: held | why")
    for name, seen in honest.items():
        before = old.get(name)
        was = "-" if before is None else "no" if is_clean(name, before) else "HELD"
        held = "no" if is_clean(name, seen) else "HELD"
        outside = f"{seen.get('outside_refused')} of {seen.get('outside_asked')}"
        phases = ",".join(seen.get("phases", []))
        why = _trouble(seen) if held == "HELD" or phases else ""
        print(
            f"{name} | {seen.get('asked')} | {seen.get('served')} | {held} | {outside} | {phases} | {was} | {why}"
        )
    print("runaway | held after | by | spent | oracle's | ratio | old ratio | leak after")
    for name, seen in runaways.items():
        before, now = old.get(name), ratio(seen)
        was = "-" if before is None else _figure(ratio(before))
        print(
            f"{name} | {seen.get('contained_at')} | {','.join(seen.get('detectors', [])[:2])} | {seen.get('spent')} "
            f"{seen.get('unit')} | {seen.get('oracle')} | {_figure(now)} | {was} | {seen.get('later')} | "
            f"{'' if now is not None else _trouble(seen)}"
        )


def _figure(value: float | None) -> str:
    return "MISSED" if value is None else f"{value:.2f}"


def _plant_rows(plants: Mapping[str, Seen], command: str) -> list[Row]:
    rows = []
    for name, seen in plants.items():
        runaway, _, plant = name.partition("+")
        value = ratio(seen)
        red = value is None or value > WORST_GOAL
        rows.append(
            Row(
                f"without {plant}: {runaway}",
                value,
                "x",
                "red",
                red,
                {"held": str(seen.get("detectors"))},
                1,
                command,
            )
        )
    return rows


def measure(*, quick: bool) -> Sequence[Row]:
    """Play every row by both codes, the plants by this one; print the table and sum it up."""
    share = QUICK_SHARE if quick else 1.0
    only = _option("--only")
    honest_names = [name for name in HONEST if only in name]
    runaway_names = [name for name in RUNAWAYS if only in name]
    plant_names = [f"{name}+{DETECTOR[name]}" for name in runaway_names if DETECTOR[name] in PLANTS]
    if quick:
        plant_names = plant_names[::QUICK_EVERY]
    command = "python bench/containment.py" + (" --quick" if quick else "")
    now = play([*honest_names, *runaway_names, *plant_names], share, ROOT)
    old: dict[str, Seen] = {}
    if "--no-old" not in _OPTIONS:
        with tempfile.TemporaryDirectory() as directory:
            names = [*honest_names, *runaway_names]
            old = play_old(names[::QUICK_EVERY] if quick else names, share, Path(directory))
    honest = {name: now[name] for name in honest_names}
    runaways = {name: now[name] for name in runaway_names}
    _print(honest, runaways, old)
    rows = _honest_rows(honest, old, command) + _runaway_rows(runaways, old, command)
    return rows + _plant_rows({name: now[name] for name in plant_names}, command)


def _honest_rows(honest: Mapping[str, Seen], old: Mapping[str, Seen], command: str) -> list[Row]:
    held = [name for name, seen in honest.items() if not is_clean(name, seen)]
    before = [name for name, seen in old.items() if name in HONEST and not is_clean(name, seen)]
    of_old = f"{len(before)} of {sum(name in HONEST for name in old)}"
    outside = sum(seen.get("outside_asked", 0) for seen in honest.values())
    refused = sum(
        seen.get("outside_refused", 0) + len(seen.get("outsiders_held", [])) for seen in honest.values()
    )
    abnormal = [
        name for name, seen in honest.items() if any(phase != "NORMAL" for phase in seen.get("phases", []))
    ]
    asked = sum(seen.get("asked", 0) for seen in honest.values())
    n = len(honest)
    return [
        Row("honest workloads held", len(held), "workloads", "0", not held,
            {"old": of_old, "upper 95 % bound": f"{upper_bound(len(held), max(n, 1)):.1%} of workloads",
             "requests": asked, "which": "; ".join(held)}, n, command),
        Row("bystanders refused or held", refused, "requests", "0", refused == 0,
            {"upper 95 % bound": f"{upper_bound(refused, max(outside, 1)):.3%} of requests"}, outside, command),
        Row("honest workloads that left NORMAL", len(abnormal), "workloads", "0", not abnormal,
            {"which": "; ".join(abnormal)}, n, command),
    ]  # fmt: skip


def _runaway_rows(runaways: Mapping[str, Seen], old: Mapping[str, Seen], command: str) -> list[Row]:
    ratios = {name: ratio(seen) for name, seen in runaways.items()}
    missed = [name for name, value in ratios.items() if value is None]
    found = [value for value in ratios.values() if value is not None]
    worse = [name for name in runaways if name in old and is_worse(ratios[name], ratio(old[name]))]
    like = {name: RUNAWAYS[name]().like for name in worse}
    stated = {name: row for name, row in like.items() if row}
    untrue = [row for row in stated.values() if row in old and is_clean(row, old[row])]
    unstated = [name for name in worse if name not in stated]
    n = len(runaways)
    return [
        Row("runaways missed", len(missed), "runaways", "0", not missed, {"which": "; ".join(missed)}, n, command),
        Row("spent until held, of an oracle's: median", statistics.median(found) if found else None, "x",
            f"<= {MEDIAN_GOAL:g}", bool(found) and statistics.median(found) <= MEDIAN_GOAL, {}, n, command),
        Row("spent until held, of an oracle's: worst", max(found, default=None), "x", f"<= {WORST_GOAL:g}",
            bool(found) and max(found) <= WORST_GOAL,
            {name: value for name, value in ratios.items() if value is not None and value > WORST_GOAL}, n, command),
        Row("runaways that cost more than before, and more than an oracle's, for no honest row's sake",
            len(unstated), "runaways", "0", not unstated, {"which": "; ".join(unstated)}, n, command),
        Row("runaways that cost more than before, since an honest row looks the same, and was held before",
            len(stated), "runaways", "each names one that was held", not untrue,
            {**stated, "was not held before": "; ".join(untrue)}, n, command),
    ]  # fmt: skip


_OPTIONS = [word for word in sys.argv[1:] if word == "--no-old" or word.startswith("--only=")]


def _option(name: str) -> str:
    return next((word.partition("=")[2] for word in _OPTIONS if word.startswith(name)), "")


if __name__ == "__main__":
    sys.argv = [word for word in sys.argv if word not in _OPTIONS]
    sys.exit(run("containment", lambda quick: measure(quick=quick)))
