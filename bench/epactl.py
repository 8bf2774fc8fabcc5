"""How long a person waits for `epactl status`, beside an interpreter that does nothing."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from _harness import Row, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from installed import EPACTL, installation

GOAL_MS = 150.0
HELP_GOAL_MS = 120.0


def seconds(command: Sequence[str | Path]) -> tuple[float, float]:
    """By the clock, and of the processor: on a busy machine only the second is the program's own."""
    used, began = _processor_seconds(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began, _processor_seconds() - used


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def median_ms(measured: list[tuple[float, float]]) -> tuple[float, float]:
    """The middle of each kind of time."""
    clock, processor = zip(*measured, strict=True)
    return statistics.median(clock) * 1e3, statistics.median(processor) * 1e3


def measure(quick: bool) -> list[Row]:
    """Interleave the two, so that whatever else the machine does falls on both."""
    rounds = 20 if quick else 100
    status_seconds, nothing_seconds, help_seconds = [], [], []
    with installation() as house:
        house.start()
        status = [EPACTL, "--socket", house.state / "run/control.sock", "status"]
        for _ in range(rounds):
            status_seconds.append(seconds(status))
            help_seconds.append(seconds([EPACTL, "--help"]))
            nothing_seconds.append(seconds([sys.executable, "-c", "pass"]))
        house.stop()
    value, value_cpu = median_ms(status_seconds)
    nothing, nothing_cpu = median_ms(nothing_seconds)
    helped, helped_cpu = median_ms(help_seconds)
    return [
        Row(
            claim="`epactl status` answers a person at once (median, three subsystems)",
            value=value,
            unit="ms",
            goal=f"at most {GOAL_MS:.0f} ms",
            met=value <= GOAL_MS,
            peers={
                "python -c pass, same interpreter (ms)": nothing,
                "ratio": value / nothing,
                "processor time (ms)": value_cpu,
                "python -c pass, processor time (ms)": nothing_cpu,
            },
            n=rounds,
            command="python bench/epactl.py",
        ),
        Row(
            claim="`epactl --help` is there at once (median)",
            value=helped,
            unit="ms",
            goal=f"at most {HELP_GOAL_MS:.0f} ms",
            met=helped <= HELP_GOAL_MS,
            peers={
                "python -c pass, same interpreter (ms)": nothing,
                "ratio": helped / nothing,
                "processor time (ms)": helped_cpu,
                "python -c pass, processor time (ms)": nothing_cpu,
            },
            n=rounds,
            command="python bench/epactl.py",
        ),
    ]


if __name__ == "__main__":
    sys.exit(run("epactl", measure))
