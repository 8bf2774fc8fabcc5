"""How long a start takes, and how much memory, beside how much history there is; `--full` has ten million turns.

A ledger of a year's turns is written first, with as long a tail behind the newest seal as there can be. Each start is
a real daemon that reads the files from the disk, not from memory: what the kernel keeps of them is dropped before.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
from _harness import Row, run
from _startup_ledger import YearOfTurns

from epad.ledger.full_verification import verify_everything
from epad.ledger.paths import Places

FULL = "--full" in sys.argv
COMMAND = shlex.join(["python", "bench/startup.py", *sys.argv[1:]])
READY_GOALS = {10**6: 2.0, 10**7: 5.0}
EXPONENT_GOAL = 0.2
LINEAR_GOAL = 1.1
"""For what may take as long as there are records, behind the door."""
BYTES_GOAL = 1_100
"""A turn: docs/ledger.md promises that a year of ten million takes 11 GB."""
CONFIG = """
[gateway]
listen = "127.0.0.1:0"
[metrics]
listen = ""
[web]
listen = ""
[budgets.global]
tokens_per_month = 1000000000000
tokens_in_all = 1000000000000
requests_per_minute = 1000000
[subsystems.writer]
command = ["sleep", "inf"]
[subsystems.writer.budget]
tokens_per_day = 1000000000
tokens_per_hour = 1000000000
"""


@dataclass(frozen=True)
class Start:
    """One start: seconds until ready, what it took of a core until then, and its peak memory.

    `verified` are the seconds until all is checked: none where that was not waited for, infinite where it did not end.
    """

    ready: float
    core: float
    rss_mib: float
    pss_mib: float
    verified: float | None = None


class StartError(Exception):
    """The daemon ended, or was not ready in time."""


class Installed:
    """A state directory with its history, and the daemon that is started on it."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.config = directory / "epad.toml"
        self.config.write_text(CONFIG)
        self._address = str(directory / "notify")
        self._log = directory / "epad.log"
        self._environment = {**os.environ, "NOTIFY_SOCKET": self._address}

    def start(self, *, until_verified: bool = False, timeout: float = 600.0) -> Start:
        """Start it, cold, and end it in order. Raises StartError where it is not ready in time."""
        self._forget_files()
        command = [
            Path(sys.executable).with_name("epad"),
            "run",
            "--config",
            self.config,
            "--state",
            self.state,
        ]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, self._log.open("wb") as log:
            told.bind(self._address)
            told.settimeout(1.0)
            began = time.monotonic()
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
            watch = _Peak(process.pid)
            try:
                while not _is_ready(told):
                    if process.poll() is not None or time.monotonic() - began > timeout:
                        raise StartError(f"epad is not ready: {self._log.read_text()[-2_000:]}")
                ready = time.monotonic() - began
                core = _core_seconds(process.pid)
                verified = self._checked_after(began, timeout) if until_verified else None
                return Start(ready, core, _status_mib(process.pid, "VmHWM:"), watch.stop(), verified)
            finally:
                watch.stop()
                process.send_signal(signal.SIGTERM)
                process.wait(60)
                Path(self._address).unlink()

    def _checked_after(self, began: float, timeout: float) -> float:
        while self._unchecked():
            if time.monotonic() - began > timeout:
                return math.inf
            time.sleep(0.2)
        return time.monotonic() - began

    def _unchecked(self) -> int:
        ledger: dict[str, Any] = _status(self.state / "run/control.sock")["ledger"]
        return int(ledger["unchecked"]) if ledger["verdict"] != "unknown" else 1

    def _forget_files(self) -> None:
        for path in self.state.rglob("*"):
            with suppress(OSError):
                if path.is_file():
                    descriptor = os.open(path, os.O_RDONLY)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.close(descriptor)

    def forget_sums(self) -> None:
        """As a ledger from before there were any."""
        connection = apsw.Connection(str(self.state / "ledger.db"))
        connection.execute("DELETE FROM sums")
        connection.execute("DELETE FROM meta WHERE key = 'digest'")
        connection.close()


class _Peak:
    """The most that a process held of memory as its own share, looked at each 50 ms."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self._most

    def _look(self) -> None:
        path = Path(f"/proc/{self._pid}/smaps_rollup")
        while not self._over.wait(0.05):
            with suppress(OSError, StopIteration):
                lines = path.read_text().splitlines()
                kib = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                self._most = max(self._most, kib / 1024)


def _is_ready(told: socket.socket) -> bool:
    with suppress(TimeoutError):
        return b"READY=1" in told.recv(65_536)
    return False


def _status(control: Path) -> dict[str, Any]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(control))
    connection.request("GET", "/v1/status")
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def _core_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status_mib(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


@dataclass(frozen=True)
class Size:
    """What was measured with so many turns."""

    turns: int
    records: int
    starts: Sequence[Start]
    bytes_on_disk: int
    without_sums: float | None = None

    def middle(self, name: str) -> float:
        """Of all starts for which it was measured."""
        values = [getattr(start, name) for start in self.starts]
        return statistics.median(value for value in values if value is not None)

    def most(self, name: str) -> float:
        """Of all starts: one of them goes on until all is checked, and may keep what it reads."""
        most: float = max(getattr(start, name) for start in self.starts)
        return most


def measured(turns: int, directory: Path, rounds: int, *, before: bool) -> Size:
    """Write the ledger, check it, and start on it: once for the tables that are made at first, then to measure."""
    installed = Installed(directory)
    YearOfTurns(installed.state, turns, time.time()).write()
    places = Places.under(installed.state, {})
    report = verify_everything(places.anchor.parent / "ledger.db", places, full=turns <= 10**5)
    assert report.words() == "OK", report.words()
    size = sum(path.stat().st_size for path in installed.state.rglob("*") if path.is_file())
    installed.start()
    starts = [installed.start() for _ in range(rounds)]
    starts.append(installed.start(until_verified=True, timeout=3_600.0))
    without = None
    if before:
        installed.forget_sums()
        without = installed.start(timeout=1_800.0).ready
    return Size(turns, report.checked, starts, size, without)


def exponent(values: Mapping[int, float]) -> float:
    """The slope of the straight line through the logarithms: 0 does not grow, 1 grows as the turns do."""
    xs, ys = map(math.log, values.keys()), map(math.log, values.values())
    return statistics.linear_regression(list(xs), list(ys)).slope


def measure(quick: bool) -> list[Row]:
    """All sizes, then what they come to."""
    powers = (4, 5) if quick else (4, 5, 6, 7) if FULL else (4, 5, 6)
    with tempfile.TemporaryDirectory(prefix="epad-startup-", dir=os.environ.get("BENCH_DIR")) as scratch:
        sizes = []
        for power in powers:
            directory = Path(scratch, str(power))
            directory.mkdir()
            sizes.append(measured(10**power, directory, 1 if quick else 3, before=power < 7))
            print(sizes[-1], file=sys.stderr, flush=True)  # ten million turns take long to write
    return [*(ready_row(size) for size in sizes), *growth_rows(sizes), size_row(sizes[-1])]


def ready_row(size: Size) -> Row:
    """Met where it is ready in time, and checks all of it behind the door."""
    goal = READY_GOALS.get(size.turns, 2.0)
    ready, last = size.middle("ready"), size.starts[-1]
    peers: dict[str, float | str] = {
        "of a core until then, s": size.middle("core"),
        "all records checked behind the door after, s": _seconds(size.middle("verified")),
        "peak PSS until all is checked, MiB": last.pss_mib,
        "peak RSS until all is checked, MiB": last.rss_mib,
        "peak RSS until ready, median, MiB": statistics.median(start.rss_mib for start in size.starts[:-1]),
    }
    if size.without_sums is not None:
        peers["the same without sums, as before: ready after, s"] = size.without_sums
    return Row(
        f"from exec to ready, {size.turns:,} turns of a year behind it, files not in memory",
        ready,
        "s",
        f"<= {goal:g} s, and all is checked in the end",
        ready <= goal and math.isfinite(size.middle("verified")),
        peers,
        len(size.starts),
        COMMAND,
    )


def _seconds(value: float) -> float | str:
    return value if math.isfinite(value) else "never"


def growth_rows(sizes: Sequence[Size]) -> list[Row]:
    """What must not grow with history, and what may grow as it does."""
    goals = {
        "ready": ("time until ready", EXPONENT_GOAL),
        "core": ("processor time until ready", EXPONENT_GOAL),
        "rss_mib": ("peak RSS until all is checked", EXPONENT_GOAL),
        "pss_mib": ("peak PSS until all is checked", EXPONENT_GOAL),
        "verified": ("time until all is checked, behind the door", LINEAR_GOAL),
    }
    span = f"10^{round(math.log10(sizes[0].turns))} to 10^{round(math.log10(sizes[-1].turns))} turns"
    rows = []
    for name, (words, goal) in goals.items():
        memory = name in {"rss_mib", "pss_mib"}
        values = {size.turns: size.most(name) if memory else size.middle(name) for size in sizes}
        each = {f"{turns:,} turns": _seconds(value) for turns, value in values.items()}
        value = exponent(values) if all(map(math.isfinite, values.values())) else None
        met = value is not None and value < goal
        claim = f"growth exponent of {words}, {span}"
        rows.append(Row(claim, value, "", f"< {goal:g}", met, each, len(sizes), COMMAND))
    return rows


def size_row(size: Size) -> Row:
    """Compare what lies on the disk with what the docs promise for a year."""
    per_turn = size.bytes_on_disk / size.turns
    return Row(
        "ledger, segments and heads on the disk, a turn",
        per_turn,
        "B",
        f"<= {BYTES_GOAL:,} B (11 GB a year, docs/ledger.md)",
        per_turn <= BYTES_GOAL,
        {"a year of 10,000,000 turns, GB": per_turn / 100},
        size.turns,
        COMMAND,
    )


if __name__ == "__main__":
    if FULL:
        sys.argv.remove("--full")
    sys.exit(run("startup", measure))
