"""While the state is being saved, bystanders work on, background work waits, and every answer says until when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from installed import QUICK, Installation, installation, stands_still

# The checkpoint takes a second; after that there is time to look around.
CONFIG = (
    QUICK.replace("dwell_seconds = 1.0", "dwell_seconds = 300.0")
    + """
[subsystems.crashing]
command = ["false"]
gateway = false
restart = { intensity = 1000, backoff_seconds = 0.1, backoff_max_seconds = 0.2 }

[subsystems.bystander]
command = ["sleep", "600"]
gateway = false

[subsystems.night]
command = ["sleep", "600"]
gateway = false
background = true
"""
)


@pytest.fixture
def house() -> Iterator[Installation]:
    with installation(CONFIG) as one:
        one.start()
        yield one


def test_a_bystander_works_on_and_background_work_waits_and_both_are_told_true(house: Installation) -> None:
    """One that crashes is forced into PRESERVATION; `release` of the one that waits says why not, and what does it."""
    house.wait_phase("QUARANTINE")
    house.wait(lambda: house.subsystem("night")["pid"] is not None, "the night's work to run")
    forced = house.ctl("phase", "--force", "PRESERVATION", "--reason", "a test")
    assert forced.returncode == 0, forced.stdout + forced.stderr
    house.wait(lambda: house.subsystem("night")["hold"]["rung"] == "freeze", "the night's work to wait")
    house.wait(lambda: stands_still(house.subsystem("night")["pid"]), "its process to stand still")
    bystander = house.subsystem("bystander")
    assert (bystander["hold"]["rung"], bystander["state"], bystander["sentence"]) == ("open", "running", None)
    assert not stands_still(bystander["pid"])
    house.wait(lambda: "a checkpoint is being written" not in house.status()["sentence"], "the checkpoint")

    status = house.status()["sentence"]
    assert "crashing is stopped since" in status
    assert status.endswith("night waits meanwhile")
    refused = house.ctl("release", "night", "--reason", "hurry")
    assert refused.returncode == 1
    assert "PRESERVATION: background work is paused; goes on by itself at " in refused.stdout
    assert "epactl phase --force QUARANTINE" in refused.stdout
    assert house.ctl("explain", "night").stdout.startswith("night is frozen since")
    assert house.ctl("release", "bystander", "--reason", "hurry").returncode == 0

    back = house.ctl("phase", "--force", "QUARANTINE", "--reason", "as it says")
    assert back.returncode == 0, back.stdout + back.stderr
    house.wait(lambda: not stands_still(house.subsystem("night")["pid"]), "the night's work to go on")
    held = {event["subsystem"] for event in house.events("step.ended") if event["fields"]["step"] == "hold"}
    assert "bystander" not in held
