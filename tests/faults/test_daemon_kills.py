"""`kill -9` of the daemon, again and again: its children notice nothing, none is doubled, none is forgotten."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from installed import EPAD, QUICK, Installation, installation, process_state

CHILDREN = 20
PROCESSES = CHILDREN + 3
# Its own number tells it from that of a test beside this one.
BARE = f"4243.{os.getpid()}"
# Four processes: the root, one in a session of its own, and a daemonised one that has dropped its environment.
FAMILY = f"setsid sleep 4242 & (setsid env -i sleep {BARE} &) ; sleep 4244"


def config() -> str:
    steady = (f'[subsystems.s{n}]\ncommand = ["sleep", "4241"]\n' for n in range(CHILDREN - 1))
    return "\n".join([QUICK, f'[subsystems.family]\ncommand = ["sh", "-c", "{FAMILY}"]', *steady])


def pids(house: Installation) -> dict[str, int]:
    return {s["name"]: s["pid"] for s in house.status()["subsystems"] if s["pid"]}


def tree(house: Installation) -> set[int]:
    """Every process of this installation: those that bear its mark, and the one that bears nothing."""
    return set(house.children()) | {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and is_the_bare_one(entry) and process_state(int(entry.name)) != "Z"
    }


def is_the_bare_one(entry: Path) -> bool:
    try:
        return (entry / "cmdline").read_bytes() == f"sleep\0{BARE}\0".encode()
    except OSError:
        return False


def is_up(house: Installation) -> bool:
    return len(pids(house)) == CHILDREN and len(tree(house)) == PROCESSES


def kill_at_random(house: Installation, chance: random.Random) -> None:
    """Start the daemon and kill it at some moment: before it listens, while it adopts, or in its daily work."""
    with house.log.open("ab") as log:
        house.process = subprocess.Popen(
            [EPAD, "run", "--config", house.config, "--state", house.state], stdout=log, stderr=log
        )
    time.sleep(chance.uniform(0.0, 1.5))
    house.kill()


def kills(rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    with installation(config()) as house:
        house.start()
        house.wait(lambda: is_up(house), "all children")
        before, everything = pids(house), tree(house)
        house.kill()
        for _ in range(rounds):
            kill_at_random(house, chance)
            assert tree(house) == everything, f"seed {seed}"
        house.start()
        assert pids(house) == before, f"seed {seed}"
        assert tree(house) == everything

        victim = before["s3"]
        os.kill(victim, signal.SIGKILL)
        house.wait(lambda: pids(house).get("s3", victim) != victim, "an exit to be noticed")
        assert len(tree(house)) == PROCESSES
        assert house.stop() == 0
        assert tree(house) == set()


@pytest.mark.parametrize("rounds", [4, pytest.param(12, marks=pytest.mark.long)])
def test_a_few_kills_at_random_moments(rounds: int) -> None:
    """20 children alive, same pids, none doubled, exits noticed; after stop nothing is left (peers: 5 become 10)."""
    kills(rounds, seed=random.randrange(1 << 30))


@pytest.mark.slow
def test_a_hundred_kills_at_random_moments() -> None:
    """The same, long enough to hit what a few miss."""
    kills(100, seed=random.randrange(1 << 30))
