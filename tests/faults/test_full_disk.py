"""The state directory's disk fills up: what is irreplaceable is saved, and can be started from."""

from __future__ import annotations

import contextlib
import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_load import CONFIG, Books, Upstream, under_load
from installed import QUICK, Installation, installation
from small_disk import Filler, make_read_only, tmpfs

SIZE = "96m"
SMALL = """
[lifeboat]
ballast_bytes = 16777216
"""
IRREPLACEABLE = {
    *("why.json", "journal.json", "anchor/head", "open_turns.json", "config.json", "ledger_tail.msgpack"),
    "END",
}


@contextlib.contextmanager
def small_disk(config: str) -> Iterator[Installation]:
    """An installation whose state lies on a file system of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="epad-") as directory,
        tmpfs(Path(directory) / "state", SIZE),
    ):
        house = Installation(Path(directory), QUICK + config + SMALL)
        try:
            yield house
        finally:
            house.clean_up()


def first_tier_seconds(house: Installation) -> list[float]:
    """How long each writing of the first tier took, as the daemon said."""
    lines = [line for line in house.log.read_text().splitlines() if '"lifeboat.first_tier"' in line]
    return [json.loads(line)["seconds"] for line in lines]


def fill_at_a_random_moment(seed: int) -> str:
    """One daemon, one load, one full disk; a line on what came of it."""
    dice = random.Random(seed)
    with Upstream() as upstream, small_disk(CONFIG.format(url=upstream.url)) as house:
        house.start()
        assert house.ctl("checkpoint", "create", "--reason", "before").returncode == 0
        house.wait((house.state / "lifeboat/ballast").exists, "the ballast")
        greedy = dice.random() < 0.5
        with under_load(house) as load:
            moment = dice.randrange(1, 400)
            house.wait(lambda: len(load.acknowledged) >= moment, "a random moment")
            told = dict(load.acknowledged)
            with Filler(house.state, greedy):
                tier = house.state / "lifeboat/first-tier"
                house.wait(lambda: first_tier_seconds(house), "the first tier")
                house.kill()
        for pid in house.children():
            os.kill(pid, 9)
        assert house.verify_ledger().returncode == 0
        assert lost(load.acknowledged, house) == {}
        assert_it_is_whole(house, tier)
        restore_elsewhere(house, tier, told)
        seconds = first_tier_seconds(house)
    how = "and goes on" if greedy else "once"
    return f"seed {seed}: filled {how} after {len(told)} turns, first tier in {seconds} s"


def assert_it_is_whole(house: Installation, tier: Path) -> None:
    inspected = house.ctl("-o", "json", "lifeboat", "inspect", str(tier))
    assert inspected.returncode == 0, inspected.stdout + inspected.stderr
    shown = json.loads(inspected.stdout)
    assert shown["whole"]
    names = [frame["name"] for frame in shown["frames"]]
    assert names[0] == "why.json"
    assert set(names) >= IRREPLACEABLE


def restore_elsewhere(house: Installation, tier: Path, told: dict[str, str]) -> None:
    """An empty state directory on a larger disk: every turn that was acknowledged is there, and it goes on."""
    with installation(house.config.read_text()) as other:
        order = ("lifeboat", "relaunch", "--from", str(tier), "--state", str(other.state))
        done = house.ctl(*order, "--reason", "a larger disk", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert other.verify_ledger().returncode == 0
        assert lost(told, other) == {}
        other.start()
        other.wait_phase("NORMAL")
        with under_load(other) as load:
            other.wait(lambda: bool(load.acknowledged), "a turn to be answered")
        assert other.stop() == 0
        assert other.verify_ledger().returncode == 0
        assert lost(told | load.acknowledged, other) == {}


def lost(told: dict[str, str], house: Installation) -> dict[str, str]:
    """Turns that were acknowledged and are not in the ledger; one that could not be closed is there, and open."""
    opened = Books.read(house.state / "ledger.db").opened
    return {name: turn for name, turn in told.items() if opened.get(turn) != name}


def test_a_disk_full_at_a_random_moment_leaves_a_whole_first_tier_to_start_from() -> None:
    """Under load, with a filler that stops or goes on: written, readable, verified; relaunched, nothing is lost."""
    print(f"\n{fill_at_a_random_moment(0)}")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_dozen_random_moments() -> None:
    """The same, often enough to meet the rare ones."""
    for seed in range(100, 124):
        print(f"\n{fill_at_a_random_moment(seed)}")


def test_a_disk_that_has_become_read_only_is_named_and_what_lies_on_it_can_be_started_from() -> None:
    """The daemon does not start on it; the bundle and the first tier are inspected and relaunched elsewhere."""
    with small_disk("") as house:
        house.start()
        house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] >= 1, "a chat turn")
        assert house.ctl("lifeboat", "enter", "--reason", "the disk has errors", "--yes").returncode == 0
        house.wait(lambda: bundles(house) != [], "the bundle")
        assert house.stop() == 0
        make_read_only(house.state)
        assert "Read-only file system" in house.start_refused()
        for source in (*bundles(house), house.state / "lifeboat/first-tier"):
            assert_inspected(house, source)
            with installation() as other:
                order = ("lifeboat", "relaunch", "--from", str(source), "--state", str(other.state))
                done = house.ctl(*order, "--reason", "another disk", "--yes")
                assert done.returncode == 0, done.stdout + done.stderr
                assert other.verify_ledger().returncode == 0


def bundles(house: Installation) -> list[Path]:
    """The lifeboat's, once it is verified."""
    return [
        mark.parent
        for mark in house.state.glob("checkpoints/*/VERIFIED")
        if (mark.parent / "REPORT.md").exists()
    ]


def assert_inspected(house: Installation, source: Path) -> None:
    inspected = house.ctl("lifeboat", "inspect", str(source))
    assert inspected.returncode == 0, inspected.stdout + inspected.stderr
