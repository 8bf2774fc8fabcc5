"""The state directory's disk fills up: what is irreplaceable is saved, and can be started from."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import QUICK, Installation, installation

SIZE = "96m"
CONFIG = (
    QUICK
    + """
[lifeboat]
first_tier_bytes = 1048576
ballast_bytes = 16777216
"""
)


@pytest.fixture
def small_disk() -> Iterator[Installation]:
    """An installation whose state lies on a file system of its own."""
    with tempfile.TemporaryDirectory(prefix="epad-", dir="/tmp") as directory:
        state = Path(directory) / "state"
        state.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "none", state], check=False
        )
        if mounted.returncode:
            pytest.skip("no mount here")
        house = Installation(Path(directory), CONFIG)
        try:
            yield house
        finally:
            house.clean_up()
            subprocess.run(["umount", "-l", state], check=False)


def fill(directory: Path) -> None:
    """Take every last block, as a runaway log would."""
    with (directory / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


@pytest.mark.timeout(300)
def test_a_full_disk_ends_in_the_lifeboat_whose_first_tier_is_whole_and_a_relaunch_elsewhere_works(
    small_disk: Installation,
) -> None:
    """At a random moment under load; the ballast makes the room that the rest needs."""
    house = small_disk
    house.start()
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] >= 1, "a chat turn")
    assert house.ctl("checkpoint", "create", "--reason", "before").returncode == 0
    house.wait((house.state / "lifeboat/ballast").exists, "the ballast")
    wanted = house.status()["ledger"]["records"] + random.Random().randrange(1, 20)
    house.wait(lambda: house.status()["ledger"]["records"] >= wanted, "a random moment")
    fill(house.state)
    tier = house.state / "lifeboat/first-tier"
    inspect = ("-o", "json", "lifeboat", "inspect", str(tier))
    house.wait(lambda: house.ctl(*inspect).returncode == 0, "the first tier", 120)
    shown = json.loads(house.ctl(*inspect).stdout)
    names = [frame["name"] for frame in shown["frames"]]
    assert names[0] == "why.json"
    assert {"journal.json", "anchor/head", "open_turns.json", "config.json", "ledger_tail.msgpack"} <= set(
        names
    )
    assert shown["whole"]
    house.kill()
    for pid in house.children():
        os.kill(pid, 9)
    with installation() as other:
        order = ("lifeboat", "relaunch", "--from", str(tier), "--state", str(other.state))
        done = house.ctl(*order, "--reason", "a larger disk")
        assert done.returncode == 0, done.stdout + done.stderr
        assert other.verify_ledger().returncode == 0
        other.start()
        other.wait_phase("NORMAL")
        other.wait(lambda: other.status()["ledger"]["records"] >= wanted, "the ledger to go on")
        assert other.verify_ledger().returncode == 0
