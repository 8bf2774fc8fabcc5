"""Rounds on a local Ray of two workers come out as they do here, and a dead worker costs its round alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS

from runners.wargame.cli import main
from runners.wargame.store import Store

pytest.importorskip("ray", reason="the extra `ray` is not installed: nothing is played on a cluster")

SCRIPT = """
import asyncio, os, sys
import ray
from runners.wargame.cli import main
from runners.wargame.play import ray_player

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
if "--die" in sys.argv:
    played = ray_player.play_round

    def play_round(errand, card, attempt, shared_turns):
        if card.index == 3 and attempt == 1:
            os._exit(1)
        return played(errand, card, attempt, shared_turns)

    ray_player.play_round = play_round
arguments = ["run", "--executor", "ray", "--rounds", "8", "--quiet", "--store", sys.argv[1], "--control-pairs", "1"]
sys.exit(main(arguments + ["--pairs-in-flight", "2"]))
"""


def on_ray(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Play in a process of its own: Ray changes signal handlers and warns."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(store), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
    )


def outcomes(path: Path) -> dict[int, tuple[str, str, int]]:
    store = Store(path, readonly=True)
    rows = store.rows("SELECT idx, state, outcome, attempt FROM round")
    store.close()
    return {idx: (state, outcome, attempt) for idx, state, outcome, attempt in rows}


def test_a_cluster_plays_the_same_rounds(tmp_path: Path) -> None:
    """Same seed, same questions, same verdicts: the store cannot tell who played."""
    there, here = tmp_path / "there.db", tmp_path / "here.db"
    done = on_ray(there)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert main(["run", "--rounds", "8", "--quiet", "--store", str(here), "--control-pairs", "1"]) == 0
    assert outcomes(there) == outcomes(here)


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_round_and_the_next_attempt_scores_it(tmp_path: Path) -> None:
    """The run goes on; the round is tried again and counted once."""
    done = on_ray(tmp_path / "w.db", "--die")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    found = outcomes(tmp_path / "w.db")
    assert {state for state, *_ in found.values()} == {"scored"}
    assert found[3][2] == 2
