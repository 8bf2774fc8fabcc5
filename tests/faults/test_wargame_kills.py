"""`kill -9` a wargame at random instants, alone and under epad: every round once, none lost, tokens paid once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import apsw
import pytest
from installed import QUICK, Installation, installation
from wargame_model import Model, served

WARGAME = str(Path(sys.executable).parent / "wargame")
SEED = 5


def arguments(store: Path, rounds: int) -> list[str]:
    return [
        "run",
        "--rounds",
        str(rounds),
        "--seed",
        str(SEED),
        "--store",
        str(store),
        "--json",
        "--pairs-in-flight",
        "3",
    ]


def outcomes(store: Path) -> dict[int, tuple[str, str]]:
    """What the store says of every round; the file must be whole."""
    connection = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert connection.pragma("integrity_check") == "ok"
        rows = list(connection.execute("SELECT idx, state, outcome FROM round"))
    finally:
        connection.close()
    assert len(rows) == len({idx for idx, *_ in rows})
    return {idx: (state, outcome) for idx, state, outcome in rows}


def _has_finished(store: Path, rounds: int) -> bool:
    return len(finished(store)) >= rounds


def kill_at_random(command: list[str], store: Path, kills: int, rng: Random) -> None:
    """Start and kill again and again; what was final before a kill is as it was after it."""
    before: dict[int, tuple[str, str]] = {}
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        with process.stdout:
            # Instants are counted in what it has said, not in seconds: a busy machine would kill it at its start only.
            for _ in range(rng.randrange(12)):
                process.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
        after = outcomes(store)
        assert {idx: after.get(idx) for idx, found in before.items() if found[0] != "failed"} == {
            idx: found for idx, found in before.items() if found[0] != "failed"
        }
        before = after


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_alone_it_loses_and_repeats_nothing(tmp_path: Path, kills: int) -> None:
    """Killed at random instants and then left alone, it has every round once, all as in a run that nobody killed."""
    rounds = 40 * kills
    broken, whole = tmp_path / "broken.db", tmp_path / "whole.db"
    with served(Model()) as url:
        command = [WARGAME, *arguments(broken, rounds), "--base-url", f"{url}/v1"]
        kill_at_random(command, broken, kills, Random(kills))
        for store in (broken, whole):
            command = [WARGAME, *arguments(store, rounds), "--base-url", f"{url}/v1"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert outcomes(broken) == outcomes(whole)
    assert outcomes(broken).keys() == set(range(rounds))


# Crashes are what this test is made of: the probes are told to look on.
CONFIG = """
[probes.cascade]
window_seconds = 5.0
crashes = 256
row_crashes = 256
subsystems = 1000
[containment]
cascade = "open"
token_burn = "open"
progress = "open"
[hysteresis.token_burn]
raise_after = 0
[upstreams.stub]
url = "{url}"
dialects = ["openai"]
embedded = true
[subsystems.night]
command = {command}
notifies = true
[subsystems.night.restart]
intensity = 100000
backoff_seconds = 0.01
backoff_max_seconds = 0.05
[subsystems.night.budget]
max_in_flight = 64
"""


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def watched(model: Model, tmp_path: Path, kills: int) -> Iterator[tuple[Installation, Path]]:
    """A wargame that epad starts, whose models are asked through epad's gateway."""
    store = tmp_path / "night.db"
    with served(model) as url:
        command = json.dumps([str(WARGAME), *arguments(store, 30 * kills)])
        with installation(QUICK + CONFIG.format(url=url, command=command)) as one:
            yield one, store


@pytest.mark.parametrize(
    "kills",
    [
        4,
        pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)]),
    ],
)
def test_under_epad_it_is_restarted_and_pays_for_each_answer_once(
    watched: tuple[Installation, Path], model: Model, kills: int
) -> None:
    """Whatever was answered before a kill is answered again by the gateway, and the model never hears of it.

    Calls in flight at the kill are cut off by the gateway and asked again: fifteen at most, of three pairs.
    """
    house, store = watched
    rng = Random(kills)
    house.start()
    for _ in range(kills):
        wanted = min(30 * kills - 10, len(finished(store)) + rng.randrange(10))
        house.wait(partial(_has_finished, store, wanted), "some rounds")
        time.sleep(rng.uniform(0.0, 0.1))
        pid = house.subsystem("night")["pid"]
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    house.wait(lambda: len(finished(store)) == 30 * kills, "every round to be final")
    assert {state for state, _ in outcomes(store).values()} == {"scored"}
    twice = {digest: n for digest, n in model.answered.items() if n > 1}
    assert max(model.answered.values()) <= 1 + kills
    assert len(twice) <= 15 * kills, f"{len(twice)} of {len(model.answered)} answers were paid for again"


def finished(store: Path) -> list[int]:
    try:
        return [idx for idx, (state, _) in outcomes(store).items() if state != "failed"]
    except apsw.Error:
        return []
