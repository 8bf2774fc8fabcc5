"""How many small faults, planted in the rooms that count tokens and money or decide, the tests find.

`python bench/mutants.py [--room ROOM] [--count N] [--seed S] [--at-once N] [--quick] [--json FILE]`. mutmut 3 makes
the mutants, in a virtual environment of its own that is made at first use; `_mutants_run.py` runs the room's tests
against each. A room with more mutants than `--count` is sampled. A mutant that changes nothing that can be seen (an
equivalent one) counts as a survivor: the rate is what the tests found, and `EQUIVALENT` says why the others cannot be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _gateway_targets import CACHE
from _harness import Row, show, write
from _mutants_equivalent import EQUIVALENT, gone

MUTMUT = "mutmut==3.8.1"
ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "bench"
GOAL = 0.90
INSTALL_SECONDS = 600.0
# The number of a mutant that is none: no test may find it.
UNCHANGED = -1


@dataclass(frozen=True, slots=True)
class Room:
    """Files, and the tests that answer for them: patterns of paths, `tests` below the folder of tests."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    deselected: tuple[str, ...] = ()


def gateway(files: Sequence[str], tests: Sequence[str]) -> Room:
    """Return a room of the gateway."""
    return Room(tuple(f"epad/gateway/{name}" for name in files), tuple(f"gateway/{name}" for name in tests))


ROOMS = {
    "budget": gateway(
        ("budget.py", "admission.py", "allowance.py", "waiting.py"),
        (
            "test_budget_exact.py", "test_budget_limits.py", "test_budget.py", "test_admission.py",
            "test_allowance.py", "test_waiting.py",
        ),
    ),
    "limits": gateway(
        ("limits.py",), ("test_limits.py", "test_budget_exact.py", "test_budget_limits.py", "test_budget.py")
    ),
    "charge": gateway(("charge.py",), ("test_charge*.py",)),
    "money": gateway(("money.py",), ("test_money.py",)),
    # Those that go through a gateway and a socket find more, but take a minute for each that they do not find.
    "dialects": gateway(
        ("dialects/*.py",),
        (
            "dialects/test_*.py", "test_counts.py", "test_hearing.py", "test_loose.py", "test_events.py",
            "test_asks.py", "test_caps.py", "test_answers_read.py", "test_answers_streamed.py",
            "test_answers_passed.py", "test_dialects*.py", "test_history*.py", "test_reply.py", "test_shape.py",
            "test_quick_ways.py",
        ),
    ),
    "gate": Room(
        tuple(f"epad/gate/{name}.py" for name in ("tool_table", "tool_profile", "tool_risk", "tiers")),
        ("gate/test_tool_*.py", "gate/test_tiers.py"),
    ),
    "restart": Room(("epad/supervisor/restart.py",), ("supervisor/test_restart.py",)),
    "statemachine": Room(("statemachine/*.py",), ("statemachine/test_*.py",)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant that no test found, and why none can where that is known."""

    mutant: dict[str, Any]

    @property
    def shown(self) -> str:
        return f"{self.mutant['path']}:{self.mutant['line']}: {self.mutant['shown']} [{self.mutant['code']}]"

    @property
    def reason(self) -> str:
        """Why it is equivalent; told by the line's text and what becomes of it, since lines move."""
        line = self.mutant["path"], self.mutant["code"]
        return EQUIVALENT.get((*line, self.mutant["shown"])) or EQUIVALENT.get((*line, ""), "")


def tool() -> Path | str:
    """The interpreter that has mutmut, made if need be; else why there is none."""
    home = CACHE / MUTMUT.replace("==", "-")
    python, installed = home / "bin/python", home / "installed"
    if not installed.exists():
        try:
            venv.create(home, with_pip=True)
            command = [python, "-m", "pip", "install", "-q", MUTMUT]
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.SubprocessError):
            return f"skipped: {MUTMUT} does not install here"
        installed.touch()
    return python


def mutants(python: Path, room: Room, count: int, seed: int) -> tuple[int, list[dict[str, Any]]]:
    """How many mutants the room has, and the chosen ones."""
    paths = [path for pattern in room.files for path in sorted(ROOT.glob(pattern))]
    names = [str(path.relative_to(ROOT)) for path in paths]
    command = [python, HERE / "_mutants_list.py", str(count), str(seed), *names]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    answer = json.loads(listed)
    chosen = [
        each | {"id": number, "module": each["path"].removesuffix(".py").replace("/", ".")}
        for number, each in enumerate(answer["mutants"])
    ]
    # Those that differ in layout alone are found out as they are written: where all are, the number is exact.
    return max(answer["known"], len(chosen)) if len(chosen) == count else len(chosen), chosen


def run_mutants(room: Room, chosen: list[dict[str, Any]], examples: int, at_once: int) -> dict[int, str]:
    """What became of each mutant, by its number."""
    tests = [path for name in room.tests for path in sorted((ROOT / "tests").glob(name))]
    unchanged = chosen[0] | {"id": UNCHANGED, "start": 0, "end": 0, "text": ""}
    job = {
        "tests": [str(path.relative_to(ROOT)) for path in tests],
        "deselected": room.deselected,
        "examples": examples,
        "at_once": at_once,
        "mutants": [*chosen, unchanged],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        command = ["nice", "-n", "10", sys.executable, HERE / "_mutants_run.py", file.name]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        with running:
            states = dict(_told(running.stdout or (), chosen))
    if running.returncode:
        raise SystemExit(f"the tests of {', '.join(room.tests)} could not be run, see above")
    if states.pop(UNCHANGED) != "survived":
        raise SystemExit(
            "the tests fail without any mutant, in the way mutants are run: nothing of it counts"
        )
    return states


def _told(lines: Iterable[str], chosen: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """Yield what became of each mutant; say on standard error which ones survive as they do, and how many are done."""
    for number, line in enumerate(lines, 1):
        result = json.loads(line)
        shown = Survivor(chosen[result["id"]]).shown if result["state"] == "survived" else ""
        if result["id"] != UNCHANGED and (shown or number % 50 == 0):
            print(f"{number} of {len(chosen)} {shown}".rstrip(), file=sys.stderr, flush=True)
        yield result["id"], result["state"]


def wilson(found: int, tried: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z = 1.959964
    share, square = found / tried, z * z / tried
    middle = (share + square / 2) / (1 + square)
    half = z * (share * (1 - share) / tried + square / (4 * tried)) ** 0.5 / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def row(name: str, options: argparse.Namespace, python: Path) -> Row:
    """One room."""
    known, chosen = mutants(python, ROOMS[name], options.count, options.seed)
    states = run_mutants(ROOMS[name], chosen, options.examples, options.at_once)
    counted = Counter(states.values())
    survivors = [Survivor(each) for each in chosen if states[each["id"]] == "survived"]
    killed = len(chosen) - len(survivors)
    low, high = wilson(killed, len(chosen))
    equivalent = sum(bool(survivor.reason) for survivor in survivors)
    told: dict[str, float | str] = {
        "room": f"{known} mutants, {len(chosen)} run, {'all' if known == len(chosen) else f'seed {options.seed}'}",
        "killed": f"{killed}, {counted['timed out']} of them by running out of time",
        "95 % interval": f"{low:.1%} to {high:.1%}" + (" of all" if known > len(chosen) else ""),
        "survivors": f"{len(survivors)}, {equivalent} of them equivalent",
    }
    for number, survivor in enumerate(survivors, 1):
        told[f"survivor {number}"] = survivor.shown + (f" ({survivor.reason})" if survivor.reason else "")
    return Row(
        claim=f"mutants of {name} that its tests find",
        value=100 * killed / len(chosen),
        unit="%",
        goal=f">= {GOAL:.0%}",
        met=killed >= GOAL * len(chosen),
        peers=told,
        n=len(chosen),
        command=f"python bench/mutants.py --room {name} --count {options.count} --seed {options.seed}",
    )


def measure(options: argparse.Namespace) -> Sequence[Row]:
    """The rooms that are asked for; one row that says why where there is no tool."""
    python = tool()
    if isinstance(python, str):
        return [Row("mutants that the tests find", None, "%", f">= {GOAL:.0%}", None, {"mutmut": python})]
    names = list(ROOMS) if options.room == "all" else [options.room]
    return [row(name, options, python) for name in names]


def table(rows: Sequence[Row]) -> None:
    """The rooms below one another."""
    print(f"{'room':10} {'mutants':>8} {'killed':>8} {'rate':>8}  95 % interval")
    for each in rows:
        if each.value is not None:
            low, high = wilson(round(each.value * each.n / 100), each.n)
            killed = round(each.value * each.n / 100)
            print(
                f"{each.claim.split()[2]:10} {each.n:8} {killed:8} {each.value:7.1f}%  {low:.1%} to {high:.1%}"
            )


def main() -> int:
    """Measure, print, write; the exit status is 1 if a room is below the goal."""
    parser = argparse.ArgumentParser("mutants")
    parser.add_argument("--room", choices=[*ROOMS, "all"], default="all")
    parser.add_argument("--count", type=int, default=400, help="mutants a room, all where there are fewer")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--examples", type=int, default=25, help="of each random test")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="mutants")
    parser.add_argument("--quick", action="store_true", help="10 mutants of `money`")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.room, options.count = "money", 10
    for line in gone():
        print(f"_mutants_equivalent.py names a line that is there no more: {line}", file=sys.stderr)
    rows = measure(options)
    print(f"seed {options.seed}, {MUTMUT}")
    show(rows)
    table(rows)
    if options.json is not None:
        write(options.json, "mutants", rows, quick=options.quick)
    return int(any(each.met is False for each in rows))


if __name__ == "__main__":
    sys.exit(main())
