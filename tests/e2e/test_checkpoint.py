"""Checkpoints as an operator knows them: made, listed, verified, restored; and none promoted from a damaged store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from datastore_world import Store
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS

CONFIG = """
[probes.datastore]
interval_seconds = 0.2
core_share = 1.0
[hysteresis.datastore]
raise_after = 1
out_of = 1
clear_after_seconds = 1.0
flap_window_seconds = 3600.0
flap_hold_max_seconds = 600.0

[datastores.memory]
path = "{directory}/memory.db"

[subsystems.keeper]
command = ["{python}", "{directory}/keeper.py"]
notifies = true
state = {{ files = ["notes.txt"], checkpoint_signal = "SIGUSR1", deadline_seconds = 20.0 }}
"""
KEEPER = """
import pathlib, signal, time
from os import environ
from runners.contract import Contract
contract = Contract.from_environment(environ)
def save(*_):
    pathlib.Path("notes.txt").write_text("what it held in memory")
    contract.saved()
signal.signal(signal.SIGUSR1, save)
contract.ready("holding")
while True:
    time.sleep(60)
"""


@pytest.fixture
def store_and_house() -> Iterator[tuple[Store, Installation]]:
    with installation() as house:
        (house.directory / "keeper.py").write_text(KEEPER)
        house.config.write_text(QUICK + CONFIG.format(directory=house.directory, python=sys.executable))
        store = Store(house.directory / "memory.db")
        store.rest()
        yield store, house
        store.close()


def bundles(house: Installation) -> list[dict[str, object]]:
    found: list[dict[str, object]] = house.ask("checkpoint", "list", "--state", str(house.state))
    return found


def test_a_checkpoint_is_made_listed_verified_and_restored(
    store_and_house: tuple[Store, Installation],
) -> None:
    """Signed, with what a process held in memory; read by sha256sum; put back under a dead daemon, which starts."""
    _, house = store_and_house
    house.start()
    house.wait(lambda: house.subsystem("keeper")["state"] == "running", "the keeper to run")
    assert house.ctl("checkpoint", "create", "--reason", "before the upgrade").returncode == 0
    (bundle,) = bundles(house)
    assert (bundle["verified"], bundle["signed"], bundle["lost"]) == (True, True, [])
    path = house.state / "checkpoints" / str(bundle["id"])
    assert (path / "subsystems/keeper/notes.txt").read_text() == "what it held in memory"
    subprocess.run(
        ["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=path, check=True, timeout=PATIENCE_SECONDS
    )
    state = ("--state", str(house.state))
    assert "sound" in house.ctl("checkpoint", "verify", *state).stdout

    refused = house.ctl("checkpoint", "restore", "--yes", *state)
    assert (refused.returncode, "stop it" in refused.stderr) == (1, True)
    look = house.directory / "look"
    assert house.ctl("checkpoint", "restore", "--to", str(look), *state).returncode == 0
    assert (look / "datastores/memory/memory.db").stat().st_size > 10_000

    assert house.stop() == 0
    for name in ("ledger.db", "state.db"):
        (house.state / name).write_bytes(b"destroyed")
    assert house.ctl("checkpoint", "restore", *state).returncode == 2
    elsewhere = house.ctl("checkpoint", "restore", "--yes", *state)
    assert (elsewhere.returncode, "--outside" in elsewhere.stderr) == (1, True)
    restored = house.ctl("checkpoint", "restore", "--outside", "--yes", *state)
    assert restored.returncode == 0, restored.stderr + restored.stdout
    assert "restored to" in restored.stdout
    house.start()
    assert house.status()["phase"] == "NORMAL"
    assert house.verify_ledger().returncode == 0


def test_nothing_is_promoted_from_a_store_that_rots(store_and_house: tuple[Store, Installation]) -> None:
    """One flipped bit: PRESERVATION, the last verified checkpoint named, the new one kept and not VERIFIED."""
    store, house = store_and_house
    good = house.state / "datastores/memory/baseline.json"
    house.start()
    house.wait(good.exists, "the first look")
    assert house.ctl("checkpoint", "create", "--reason", "all is well").returncode == 0
    (verified,) = bundles(house)
    whole = store.path.read_bytes()
    store.flip(8 * (len(whole) // 2))
    house.wait(lambda: bool(house.events("anomaly.raised")), "the flip to be found")
    raised = house.events("anomaly.raised")[0]["fields"]
    assert raised["severity"] == "critical"
    assert f"the last verified checkpoint is {verified['id']}" in raised["reason"]
    house.wait_phase("PRESERVATION")
    house.wait(lambda: len(bundles(house)) == 2, "the checkpoint of what is left")
    house.wait(lambda: bool(house.events("step.ended")[1:]), "the step to end")
    newest, oldest = bundles(house)
    assert (newest["verified"], oldest["verified"]) == (False, True)
    assert oldest["id"] == verified["id"]

    # Without `restore = true` it is told of and left as it is: nothing is put in its place.
    assert house.ask("recovery")["plan"] == []
    assert (house.status()["phase"], list(house.directory.glob("*.damaged-*"))) == ("PRESERVATION", [])
    assert store.path.read_bytes() != whole

    # The last sound copy, put back by hand, is found sound again.
    store.path.write_bytes(whole)
    minute_ago = time.time() - 60
    os.utime(store.path, (minute_ago, minute_ago))
    house.wait_phase("NORMAL")
    assert house.ctl("checkpoint", "create", "--reason", "healed").returncode == 0
    assert bundles(house)[0]["verified"] is True


def test_a_restore_reads_no_bundle_it_was_not_pointed_to(tmp_path: Path) -> None:
    """Where there is nothing to restore from, that is said."""
    with installation() as house:
        done = house.ctl("checkpoint", "restore", "--yes", "--state", str(tmp_path))
        assert done.returncode == 4
        assert "there is no verified checkpoint" in done.stderr
