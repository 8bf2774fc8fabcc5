"""How much of the disk a child's log takes while the child prints as fast as it can, in several ways.

Each way runs alone under an installed daemon for a minute: the files are looked at every few milliseconds, as the disk
counts them (blocks, with what is reserved ahead and the index of times). After a third of the time the daemon is
killed and started again, after two thirds the log pump is killed. Beside the flood a quiet neighbour prints a line
every 50 ms.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from _harness import Row, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from installed import QUICK, Installation, installation

GOAL = 1.25
FULL_SECONDS, QUICK_SECONDS = 60.0, 6.0
LOOK_SECONDS = 0.003
LEAST_LOOKS_PER_SECOND = 10
"""With fewer, on a machine too busy to look, nothing was measured."""
PEER_SECONDS, PEER_LOOK_SECONDS = 4.0, 2.0
# What epad keeps by default, and the least that may be configured.
SIZES = {"10 MiB": (10_485_760, 3), "64 KiB": (65_536, 1)}

WRITERS = {
    "write(2), blocks of 1 MiB": "import os\nblock = b'x' * 1_048_575 + b'\\n'\nwhile True: os.write(1, block)",
    "writev(2), 256 parts of 4 KiB": (
        "import os\nparts = [b'x' * 4095 + b'\\n'] * 256\nwhile True: os.writev(1, parts)"
    ),
    "small lines (yes)": "import os\nos.execvp('yes', ['yes'])",
    "two processes, one dd of zeros, one of lines, to stderr": (
        "import os\nif os.fork(): os.execvp('dd', ['dd', 'if=/dev/zero', 'of=/dev/stderr', 'bs=1M'])\n"
        "lines = b'x' * 99 + b'\\n'\nwhile True: os.write(2, lines * 100)"
    ),
    "splice(2) from a file": (
        "import os, sys\nfile = os.open(sys.executable, os.O_RDONLY)\n"
        "while True: os.splice(file, 1, 1 << 20, offset_src=0)"
    ),
}
NEIGHBOUR = "import time\nwhile True:\n print(time.time(), flush=True)\n time.sleep(0.05)"


@dataclass(slots=True)
class Seen:
    """The worst of many looks, as parts of what is allowed; lags in seconds, in the order in which they were taken."""

    file: float = 0.0
    all_files: float = 0.0
    looks: int = 0
    printed_bytes: int = 0
    same_child: bool = True
    lags: list[float] = field(default_factory=list)


def subsystem(name: str, script: str, limits: str = "") -> str:
    command = f'command = ["{sys.executable}", "-S", "-c", """{script}"""]\n'.replace("\\", "\\\\")
    return f"[subsystems.{name}]\n{command}{limits}"


def sizes(logs: Path) -> list[int]:
    """What each file of the flood's log takes on the disk, with its index."""
    found: dict[str, int] = {}
    for path in logs.iterdir():
        if path.name.startswith("flood.log"):
            with suppress(FileNotFoundError):
                name = path.name.removesuffix(".times")
                found[name] = found.get(name, 0) + path.stat().st_blocks * 512
    return list(found.values())


def look(seen: Seen, house: Installation, max_bytes: int, keep: int) -> None:
    taken = sizes(house.state / "logs")
    seen.looks += 1
    seen.file = max(seen.file, max(taken, default=0) / max_bytes)
    seen.all_files = max(seen.all_files, sum(taken) / (max_bytes * (keep + 1)))


def lag(house: Installation) -> float:
    """How old the newest line of the neighbour is that can be read; up to 50 ms of it the neighbour slept."""
    with suppress(OSError, ValueError, IndexError):
        newest = (house.state / "logs/neighbour.log").read_text().split("\n")[-2]
        return max(0.0, time.time() - float(newest))
    return 0.0


def watch(house: Installation, seen: Seen, seconds: float, max_bytes: int, keep: int) -> None:
    deadline, next_lag = time.monotonic() + seconds, 0.0
    while time.monotonic() < deadline:
        look(seen, house, max_bytes, keep)
        if time.monotonic() >= next_lag:
            next_lag = time.monotonic() + 0.25
            seen.lags.append(lag(house))
        time.sleep(LOOK_SECONDS)


def pump_of(house: Installation) -> int:
    words = f"epad.supervisor.pump\0{house.state / 'logs'}\0".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if words in (entry / "cmdline").read_bytes():
                return int(entry.name)
    raise RuntimeError("there is no log pump")


def written(pid: int) -> int:
    """How many bytes a process has handed to write calls; 0 for what splices."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    return 0


def flood(script: str, seconds: float, max_bytes: int, keep: int) -> Seen:
    seen = Seen()
    limits = f"log = {{ max_bytes = {max_bytes}, keep = {keep} }}\n"
    config = QUICK + subsystem("flood", script, limits) + subsystem("neighbour", NEIGHBOUR)
    with installation(config) as house:
        house.start()
        pid = house.subsystem("flood")["pid"]
        began, at = written(pid), time.monotonic()
        watch(house, seen, seconds / 3, max_bytes, keep)
        seen.printed_bytes = round((written(pid) - began) / (time.monotonic() - at))
        house.kill()
        house.start()
        watch(house, seen, seconds / 3, max_bytes, keep)
        os.kill(pump_of(house), signal.SIGKILL)
        watch(house, seen, seconds / 3, max_bytes, keep)
        after = house.subsystem("flood")
        seen.same_child = (after["pid"], after["restarts"]) == (pid, 0)
        house.stop()
    return seen


def peer(max_bytes: int) -> float:
    """The same flood into a file that is copied away and truncated between two looks, as logrotate does."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "it.log")
        with path.open("ab") as log:
            child = subprocess.Popen([sys.executable, "-c", WRITERS["write(2), blocks of 1 MiB"]], stdout=log)
        worst, deadline = 0.0, time.monotonic() + PEER_SECONDS
        next_look = time.monotonic() + PEER_LOOK_SECONDS
        while time.monotonic() < deadline:
            worst = max(worst, path.stat().st_blocks * 512 / max_bytes)
            if time.monotonic() >= next_look:
                next_look += PEER_LOOK_SECONDS
                os.truncate(path, 0)
            time.sleep(LOOK_SECONDS)
        child.kill()
        child.wait()
    return worst


def measure(quick: bool) -> list[Row]:
    """One row a way of printing, for each size; the least size for the first way alone."""
    seconds = QUICK_SECONDS if quick else FULL_SECONDS
    beside = peer(SIZES["10 MiB"][0])
    rows = []
    for number, (way, script) in enumerate(WRITERS.items()):
        for size, (max_bytes, keep) in list(SIZES.items())[: 2 if number == 0 else 1]:
            seen = flood(script, seconds, max_bytes, keep)
            rows.append(_row(f"{way}, {size}", seen, beside, seconds))
    return rows


def _row(way: str, seen: Seen, beside: float, seconds: float) -> Row:
    return Row(
        claim=f"a child's log stays within its size, {seconds:g} s as fast as it can: {way}",
        value=seen.file,
        unit="x max_bytes, the largest file on the disk",
        goal=f"at most {GOAL:g}, daemon and pump killed meanwhile, the child alive",
        met=max(seen.file, seen.all_files) <= GOAL
        and seen.same_child
        and seen.looks > LEAST_LOOKS_PER_SECOND * seconds,
        peers={
            "all files together (x max_bytes x (keep + 1))": seen.all_files,
            f"truncated every {PEER_LOOK_SECONDS:g} s instead, {PEER_SECONDS:g} s (x max_bytes)": beside,
            "printed by its first process (MB/s; a splice is not counted)": seen.printed_bytes / 1e6,
            "age of a quiet neighbour's newest line, median (s)": statistics.median(seen.lags),
            "the same, the worst: while the pump was killed (s)": max(seen.lags),
        },
        n=seen.looks,
        command="python bench/log_limit.py",
    )


if __name__ == "__main__":
    sys.exit(run("log_limit", measure))
