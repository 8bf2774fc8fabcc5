"""A disk that takes nothing more does not keep a person from holding a runaway.

Every order that spends nothing is carried out and the phase moves; nothing is forwarded; what was decided is on the
disk in order once that takes it again, and a daemon that is killed then knows it.
"""

from __future__ import annotations

import contextlib
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import Installation
from small_disk import Filler, tmpfs
from turn_scene import Scene, turn_scene

TARGETS = """
[hysteresis.host]
clear_after_seconds = 4000
[probes.host]
interval_seconds = 3600  # it would see the full disk, and lead into the lifeboat by itself
[lifeboat]
ballast_bytes = 4194304
[subsystems.target]
command = ["sleep", "98765"]
[subsystems.other]
command = ["sleep", "98766"]
"""
REASON = ("--reason", "a test")
REFUSED = {403, 503}


@pytest.fixture
def scene() -> Iterator[Scene]:
    with (
        tempfile.TemporaryDirectory(prefix="epad-") as directory,
        tmpfs(Path(directory) / "state", "96m"),
    ):
        house = Installation(Path(directory))
        try:
            with turn_scene(house, TARGETS) as scene:
                yield scene
        finally:
            house.clean_up()


@contextlib.contextmanager
def full(house: Installation) -> Iterator[None]:
    with Filler(house.state, greedy=True):
        yield
    (house.state / "filler").unlink()


@contextlib.contextmanager
def failing(house: Installation) -> Iterator[None]:
    """No write of the daemon's reaches the disk: an I/O error each, as on one that has gone read-only."""
    assert house.process is not None
    soft, hard = resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


FAULTS = {"full": full, "failing": failing}


def order(house: Installation, *words: str) -> float:
    """Give an order that must be carried out; how long it took, for a person to read."""
    began = time.monotonic()
    done = house.ctl(*words, *REASON)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return time.monotonic() - began


def says_why(house: Installation) -> bool:
    return any("the journal cannot be written" in notice for notice in house.status()["notices"])


@pytest.mark.parametrize("fault", FAULTS)
def test_orders_are_carried_out_and_written_down_later(scene: Scene, fault: str) -> None:
    """Hold, pause, resume, release and hold again; then a kill."""
    house = scene.house
    house.wait(lambda: house.subsystem("other")["state"] == "running", "the subsystems")
    with FAULTS[fault](house):
        before = scene.stub.turns
        seconds = [order(house, "quarantine", "target")]
        assert house.status()["phase"] == "QUARANTINE"
        assert house.subsystem("target")["state"] == "quarantined"
        assert says_why(house)
        assert scene.ask() in REFUSED
        seconds += [order(house, *words) for words in (("pause", "other"), ("resume", "other"))]
        refused = house.ctl("restart", "other", *REASON)
        assert "not restarted: the journal cannot be written" in refused.stderr
        seconds += [order(house, "release", "target"), order(house, "quarantine", "target")]
        assert scene.ask() in REFUSED
        assert scene.stub.turns == before
    print(f"\n{fault}: orders answered in {', '.join(f'{each:.2f}' for each in seconds)} s")
    house.wait(lambda: not says_why(house), "the journal to be written")
    house.wait(lambda: scene.ask() == 200, "the gateway to open again")
    moves = [row["destination"] for row in house.ask("phase")["history"]]
    assert "QUARANTINE" in moves
    house.kill()
    scene.start()
    assert house.status()["phase"] == "QUARANTINE"
    assert house.subsystem("target")["state"] == "quarantined"
    assert house.subsystem("other")["state"] == "running"


def test_the_lifeboat_is_entered_on_a_full_disk(scene: Scene) -> None:
    """Everything is stopped; the way there is in the journal afterwards."""
    house = scene.house
    with full(house):
        seconds = order(house, "lifeboat", "enter", "--yes")
        house.wait_phase("LIFEBOAT")
        house.wait(
            lambda: {house.subsystem(name)["state"] for name in ("target", "other")} == {"stopped"},
            "the subsystems to be stopped",
        )
        assert scene.ask() in REFUSED
    print(f"\nlifeboat: answered in {seconds:.2f} s")
    house.wait(lambda: not says_why(house), "the journal to be written")
    house.kill()
    scene.start()
    assert house.status()["phase"] == "LIFEBOAT"
    assert scene.ask() in REFUSED
