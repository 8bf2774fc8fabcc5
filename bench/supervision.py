"""What a supervisor of 100 children costs, and how soon a killed one is back; its peers in the same run."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from _harness import Row, run
from _supervisors import PEERS, Epad, Supervised

CHILDREN = 100
RESTART_GOAL_MS = 50.0
CPU_GOAL_PERCENT = 0.5
PSS_GOAL_MIB = 60.0
STATUS_GOAL_MS = 200.0
_SETTLE_SECONDS = 4.0


def living(mark: str) -> dict[int, str]:
    """Each living child's pid and its command; `mark` is in all of them."""
    found = {}
    for name in names():
        if mark in (command := command_of(name)):
            found[int(name)] = command
    return found


def names() -> set[str]:
    return {name for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 (twice as fast as Path)


def command_of(pid: str | int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def wait(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come up"
        time.sleep(0.05)


def restart_ms(mark: str) -> float:
    """Kill one child and look, every half millisecond, for a new process with its command."""
    pid, command = random.choice(list(living(mark).items()))
    old = names()
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    while time.perf_counter() - began < 30.0:
        if any(command_of(name) == command for name in names() - old):
            return (time.perf_counter() - began) * 1e3
        time.sleep(0.0005)
    return 30_000.0


def cpu_percent(pid: int, seconds: float) -> float:
    """The daemon's own CPU time, all threads, as a share of one core: wall time says nothing on a busy machine."""
    before = _cpu_nanoseconds(pid)
    began = time.monotonic()
    time.sleep(seconds)
    return (_cpu_nanoseconds(pid) - before) / 1e7 / (time.monotonic() - began)


def _cpu_nanoseconds(pid: int) -> int:
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def status_ms(command: list[str], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


@contextmanager
def running(system: Supervised) -> Iterator[int]:
    """Start it with its children; end it and whatever it leaves."""
    process = subprocess.Popen(system.command, stdout=system.log, stderr=system.log)
    try:
        wait(lambda: len(living(system.mark)) == CHILDREN and system.is_up())
        time.sleep(_SETTLE_SECONDS)
        yield process.pid
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        for pid in living(system.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def figures(system: Supervised, quick: bool) -> dict[str, float]:
    """Everything that is measured of one supervisor."""
    with running(system) as pid:
        cpu = statistics.median(cpu_percent(pid, 5.0 if quick else 10.0) for _ in range(1 if quick else 3))
        pss = pss_mib(pid)
        status = status_ms(system.status, 5 if quick else 30)
        restarts = []
        for _ in range(5 if quick else 40):
            restarts.append(restart_ms(system.mark))
            # At another moment of its own period each time: a tick of theirs is 1 or 5 seconds.
            time.sleep(random.uniform(0.05, 0.3))
            wait(lambda: len(living(system.mark)) == CHILDREN)
    return {
        "restart": statistics.median(restarts),
        "worst": max(restarts),
        "cpu": cpu,
        "pss": pss,
        "status": status,
    }


def measure(quick: bool) -> list[Row]:
    ours: dict[str, float] = {}
    theirs: dict[str, dict[str, float] | str] = {}
    for make in (Epad, *PEERS):
        with tempfile.TemporaryDirectory(prefix="epad-bench-", dir="/tmp") as directory:
            system = make(Path(directory), CHILDREN)
            if system.missing:
                theirs[system.name] = system.missing
            elif make is Epad:
                ours = figures(system, quick)
            else:
                theirs[system.name] = figures(system, quick)
    rounds = 5 if quick else 40
    return [
        _row(
            "a killed child's replacement is alive, median of 100 children",
            "restart",
            "ms",
            RESTART_GOAL_MS,
            ours,
            theirs,
            rounds,
        ),
        _row("a killed child's replacement is alive, worst", "worst", "ms", None, ours, theirs, rounds),
        _row(
            "idle CPU of the daemon with 100 children",
            "cpu",
            "% of a core",
            CPU_GOAL_PERCENT,
            ours,
            theirs,
            1 if quick else 3,
        ),
        _row("memory of the daemon with 100 children (PSS)", "pss", "MiB", PSS_GOAL_MIB, ours, theirs, 1),
        _row(
            "status on the command line with 100 children, median",
            "status",
            "ms",
            STATUS_GOAL_MS,
            ours,
            theirs,
            5 if quick else 30,
        ),
    ]


def _row(
    claim: str,
    key: str,
    unit: str,
    goal: float | None,
    ours: dict[str, float],
    theirs: dict[str, dict[str, float] | str],
    n: int,
) -> Row:
    peers = {name: found if isinstance(found, str) else found[key] for name, found in theirs.items()}
    return Row(
        claim=claim,
        value=ours[key],
        unit=unit,
        goal=f"at most {goal:g} {unit}" if goal is not None else "",
        met=ours[key] <= goal if goal is not None else None,
        peers=peers,
        n=n,
        command="python bench/supervision.py",
    )


if __name__ == "__main__":
    sys.exit(run("supervision", measure))
