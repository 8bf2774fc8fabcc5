"""A wargame that lives and gets nowhere: stopped, blocked, or before an endpoint that hangs. It finishes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import QUICK, Installation, installation
from wargame_model import Model, served

ROUNDS = 30

# The loop is blocked once, in mid-round, by something that never lets go: what a careless library does.
BLOCKING = """
import pathlib, sys, time
from runners.wargame.cli import main
from runners.wargame.play.round import Arena

played, mark = Arena.play, pathlib.Path({mark!r})

async def play(self, card, attempt, shared_turns=()):
    if card.index == 5 and not mark.exists():
        mark.touch()
        time.sleep(3600)
    return await played(self, card, attempt, shared_turns)

Arena.play = play
sys.exit(main(sys.argv[1:]))
"""
CONFIG = """
[containment]
cascade = "open"
token_burn = "open"
[upstreams.stub]
url = "{url}"
dialects = ["openai"]
embedded = true
[subsystems.night]
command = {command}
notifies = true
[subsystems.night.restart]
backoff_seconds = 0.05
"""


@contextlib.contextmanager
def night(directory: Path, url: str, *, blocking: bool, call_seconds: float = 2.0) -> Iterator[Installation]:
    """Epad with one wargame."""
    script = directory / "night.py"
    code = BLOCKING.format(mark=str(directory / "blocked")) if blocking else "import runners.wargame.__main__"
    script.write_text(code)
    start = [sys.executable, str(script)] if blocking else [sys.executable, "-m", "runners.wargame"]
    command = [
        *start,
        "run",
        "--rounds",
        str(ROUNDS),
        "--store",
        str(directory / "w.db"),
        "--call-seconds",
        str(call_seconds),
        "--pause-first-seconds",
        "3",
    ]
    # A quarantine that does not cure is outlasted in seconds instead of a quarter of an hour: then comes the restart.
    quick = QUICK.replace("[policy]\n", "[policy]\nquarantine_limit_seconds = 3.0\n")
    with installation(quick + CONFIG.format(url=url, command=json.dumps(command))) as house:
        house.start()
        yield house


def done(house: Installation) -> int:
    return int((house.subsystem("night")["progress"] or {"done": 0})["done"])


@pytest.mark.slow
def test_a_stopped_process_is_found_by_its_silence_and_finishes(tmp_path: Path) -> None:
    """SIGSTOP: the process is there, its socket is there, and nothing moves; epad starts it again."""
    model = Model()
    model.seconds = 0.1
    with served(model) as url, night(tmp_path, url, blocking=False) as house:
        house.wait(lambda: done(house) >= 2, "two rounds")
        os.kill(house.subsystem("night")["pid"], signal.SIGSTOP)
        house.wait(lambda: done(house) == ROUNDS, "every round")
        assert house.events("subsystem.exited")


@pytest.mark.slow
def test_a_blocked_loop_is_found_by_its_silence_and_finishes(tmp_path: Path) -> None:
    """The process takes no more than its time: it is killed, and the round is played by the next one."""
    with served(Model()) as url, night(tmp_path, url, blocking=True) as house:
        house.wait((tmp_path / "blocked").exists, "the loop to be blocked")
        house.wait(lambda: done(house) == ROUNDS, "every round")
        assert house.events("subsystem.exited")


def test_an_endpoint_that_hangs_is_waited_for_and_the_run_finishes(tmp_path: Path) -> None:
    """It says PAUSED instead of burning rounds, is alive all the while, and goes on by itself."""
    model = Model()
    with served(model) as url:
        model.broken = {"embedded-drift-defender": "hang", "embedded-grammar-attacker": "500"}
        # Twenty failures in a row are the pause, and each waits for so long.
        with night(tmp_path, url, blocking=False, call_seconds=1.0) as house:
            house.wait(lambda: "PAUSED" in json.dumps(house.subsystem("night")), "the pause")
            model.broken = {}
            model.ended.set()
            house.wait(lambda: done(house) == ROUNDS, "every round")
            assert house.subsystem("night")["tokens"]["turns"] > ROUNDS
            assert not house.events("subsystem.exited") or done(house) == ROUNDS
