"""What children print, under the installed daemon: kept within its size, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from installed import QUICK, Installation, installation

PYTHON = f'command = ["{sys.executable}", "-S", "-c", """%s"""]\n'
TICKER = "import itertools, time\nfor n in itertools.count():\n print(n, flush=True)\n time.sleep(0.02)"
FLOOD = "import os\nblock = b'x' * 1_048_575 + b'\\n'\nwhile True: os.write(1, block)"
SABOTEUR = """
import os, sys
os.unlink(os.environ["EPAD_STATE"] + "/logs/it.pipe")
if not os.path.exists("again"):
    open("again", "w").close()
    sys.exit(1)
block = b'x' * 1_048_576
while True: os.write(1, block)
"""
MOST_LOST = 50
pytestmark = pytest.mark.usefixtures("on_the_disk")  # where a log gives back room in its midst
LIMITS = "log = { max_bytes = 65536, keep = 1 }\n"


def subsystem(name: str, source: str, rest: str = "") -> str:
    return f"[subsystems.{name}]\n" + PYTHON % source.replace("\\", "\\\\") + rest


def pump_of(house: Installation) -> int:
    """Which process pumps the logs of this daemon's children."""
    pid = pumps_of(house)
    assert len(pid) == 1, pid
    return pid[0]


def pumps_of(house: Installation) -> list[int]:
    words = f"epad.supervisor.pump\0{house.state / 'logs'}\0".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if words in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def counted(house: Installation, pumps_killed: int = 0) -> int:
    """Return how far a ticker's log has come. Every number up to there follows the one before.

    A pump that is killed between its reading and its writing loses what it has read (`pump.READ_BYTES`): of a
    child that prints a line each 20 ms, a line or two.
    """
    path = house.state / "logs/it.log"
    text = path.read_text() if path.exists() else ""
    numbers = [int(line) for line in text.split("\n")[:-1]]
    steps = [after - before for before, after in pairwise([-1, *numbers])]
    gaps = [step for step in steps if step != 1]
    assert len(gaps) <= pumps_killed, gaps
    assert all(2 <= gap <= MOST_LOST for gap in gaps), gaps
    return numbers[-1] if numbers else -1


def until(true: Callable[[], object], what: str) -> None:
    """Wait for what needs no daemon."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def fits(house: Installation) -> bool:
    """Whether there were two files; neither ever takes more than its size."""
    taken = []
    for name in ("it.log", "it.log.1"):
        with suppress(FileNotFoundError):  # in the middle of a rotation
            taken.append((house.state / "logs" / name).stat().st_blocks * 512)
    assert all(size <= 81_920 for size in taken), taken
    return len(taken) == 2


def test_children_keep_logging_whoever_is_killed() -> None:
    """The daemon, its pump, both: the child keeps its pid, no line is logged twice, none is lost with the daemon."""
    with installation(QUICK + subsystem("it", TICKER)) as house:
        house.start()
        house.wait(lambda: counted(house) > 5, "the first lines")
        pid, before = house.subsystem("it")["pid"], counted(house)
        house.kill()
        until(lambda: counted(house) > before + 20, "lines without a daemon")
        first = pump_of(house)
        house.start()
        house.wait(lambda: first not in (them := pumps_of(house)) and len(them) == 1, "the new daemon's pump")
        second, before = pump_of(house), counted(house)
        os.kill(second, signal.SIGKILL)
        house.wait(lambda: counted(house, 1) > before + 20, "lines through the next pump")
        house.kill()
        os.kill(pump_of(house), signal.SIGKILL)
        before = counted(house, 2)
        house.start()
        house.wait(lambda: counted(house, 2) > before + 20, "lines of after both")
        it = house.subsystem("it")
        assert (it["pid"], it["restarts"]) == (pid, 0)
        assert house.stop() == 0
        until(lambda: not pumps_of(house), "the pump to end with them")


def test_a_stopped_pump_is_replaced() -> None:
    """It says every two seconds that it lives; one that does not is ended, so that no child waits for ever."""
    with installation(QUICK + subsystem("it", TICKER)) as house:
        house.start()
        house.wait(lambda: counted(house) > 5, "the first lines")
        first = pump_of(house)
        os.kill(first, signal.SIGSTOP)
        before = counted(house)
        house.wait(lambda: counted(house, 1) > before + 20, "lines through the next pump")
        assert first not in pumps_of(house)
        assert "it said nothing for 20 s" in house.log.read_text()


def test_a_flood_stays_within_its_size_over_a_restart_of_the_daemon() -> None:
    """Before, while there is no daemon, and after; it is told as what it is, and not as a full disk."""
    with installation(QUICK + subsystem("it", FLOOD, LIMITS)) as house:
        house.start()
        house.wait(lambda: fits(house), "a rotation")
        for deed in (house.kill, house.start):
            deed()
            for _ in range(200):
                fits(house)
        house.wait(lambda: "child_log.dropped" in house.log.read_text(), "a word about it")
        said = [line for line in house.log.read_text().splitlines() if "child_log.dropped" in line]
        assert all("more was printed than is kept" in line for line in said)
        assert "the disk is full" not in "".join(said)
        assert house.stop() == 0


def test_a_child_that_deletes_its_pipe_and_dies_is_limited_all_the_same() -> None:
    """The pipe is made anew before its next start, and again while it prints."""
    quick = "restart = { backoff_seconds = 0.001 }\n"
    with installation(QUICK + subsystem("it", SABOTEUR, LIMITS + quick)) as house:
        house.start()
        house.wait(lambda: fits(house), "a rotation")
        for _ in range(200):
            fits(house)
        assert house.subsystem("it")["restarts"] == 1
        house.wait((house.state / "logs/it.pipe").is_fifo, "a pipe for the next")
        assert house.stop() == 0
