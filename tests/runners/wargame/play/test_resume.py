"""`kill -9` at any instant costs nothing but the rounds in flight; they are asked again, the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.wargame.commands.exits import Exit
from runners.wargame.scenario.library import load_grammar
from runners.wargame.store import Store

ENVIRONMENT = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"]}
ROUNDS = 60
SEED = 11


@pytest.fixture
def model_server() -> Iterator[str]:
    """A real embedded model server, slow enough that a kill finds rounds in flight."""
    with subprocess.Popen(
        [sys.executable, "-m", "runners.model", "--listen", "127.0.0.1:0", "--latency-ms", "3"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        yield f"http://{server.stdout.readline().split()[4].rstrip(':')}/v1"
        server.terminate()
        server.wait()


def command(base_url: str, store: Path) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "runners.wargame",
            "run",
            "--json",
            "--base-url",
            base_url,
            "--store",
            str(store),
        ),
        *(
            "--rounds",
            str(ROUNDS),
            "--seed",
            str(SEED),
            "--pairs-in-flight",
            "3",
            "--pause-limit-seconds",
            "20",
        ),
    ]


def outcomes(store: Path) -> dict[int, tuple[str, str, int]]:
    """What the store says of every round."""
    opened = Store(store, readonly=True)
    rows = opened.rows("SELECT idx, state, outcome, attempt FROM round")
    assert opened.rows("PRAGMA integrity_check") == [("ok",)]
    opened.close()
    assert len(rows) == len({row[0] for row in rows})
    return {idx: (state, outcome, attempt) for idx, state, outcome, attempt in rows}


def run_killed(base_url: str, store: Path, after_rounds: int) -> set[int]:
    """Start a run, kill it after it has reported so many rounds, and say which those were."""
    reported: set[int] = set()
    with subprocess.Popen(
        command(base_url, store), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            values = json.loads(line)
            if values["event"] == "round":
                reported.add(values["index"])
            if len(reported) == after_rounds:
                run.send_signal(signal.SIGKILL)
                break
        assert run.wait() == -signal.SIGKILL
    return reported


def test_killed_runs_lose_and_repeat_nothing(model_server: str, tmp_path: Path) -> None:
    """Three kills, one completion: every round once, none that was reported lost, all as in an unbroken run."""
    broken, unbroken = tmp_path / "broken.db", tmp_path / "unbroken.db"
    seen: set[int] = set()
    for after_rounds in (1, 7, 13):
        reported = run_killed(model_server, broken, after_rounds)
        assert not reported & seen, "a round that was reported was played again"
        seen |= reported
        assert seen <= outcomes(broken).keys()
    for store in (broken, unbroken):
        done = subprocess.run(command(model_server, store), env=ENVIRONMENT, check=False, capture_output=True)
        assert done.returncode == Exit.OK, done.stderr
    assert outcomes(broken) == outcomes(unbroken)
    assert outcomes(broken).keys() == set(range(ROUNDS))
    assert {state for state, _, _ in outcomes(broken).values()} == {"scored"}
    check_content(broken)


def check_content(path: Path) -> None:
    """Every stored turn is what (seed, index) says."""
    grammar, store = load_grammar(), Store(path, readonly=True)
    run = store.run()
    assert run is not None
    for index in range(ROUNDS):
        card = grammar.card(SEED, index, ("calibrate", "evaluate"))
        expected = tuple(
            grammar.turn(card.family, card.pair_seed, card.canary, card.label, n) for n in (1, 2, 3)
        )
        assert store.turns(run.run_id, index) == expected
    store.close()


def test_sigterm_is_an_orderly_stop(model_server: str, tmp_path: Path) -> None:
    """Told to stop, it exits 0 at once, says so in the store, and the next start goes on."""
    store = tmp_path / "w.db"
    with subprocess.Popen(
        command(model_server, store), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        while json.loads(run.stdout.readline())["event"] != "round":
            pass
        run.terminate()
        run.stdout.read()
        assert run.wait() == Exit.OK
    opened = Store(store, readonly=True)
    row = opened.run()
    opened.close()
    assert row is not None
    assert (row.state, row.detail) == ("stopped", "asked to stop")
    before = outcomes(store)
    assert 0 < len(before) < ROUNDS
