"""A quantizer that says how much VRAM its next stage takes: seen in the status, paused, and gone on with."""

from __future__ import annotations

import sys
from typing import Any

from installed import QUICK, Installation, installation, stands_still

# hsaq's own reporter without its torch: what it says is what a run on a GPU says.
WORK = """
import os, sys, time
from runners.contract import Contract
from runners.quantize.reporter import Reporter
reporter = Reporter(Contract.from_environment(os.environ))
reporter.vram_of = {"profile": 5 << 30}.__getitem__
reporter.stage("profile", 10_000)
for _ in range(10_000):
    time.sleep(0.05)
    reporter.step()
"""


def units(house: Installation) -> int:
    progress: dict[str, Any] | None = house.subsystem("hsaq")["progress"]
    return progress["done"] if progress else 0


def test_the_vram_that_is_wanted_is_shown_and_its_owner_can_be_paused() -> None:
    """Said before it is taken, so that somebody can decide; a paused one stands still and goes on where it was."""
    with installation() as house:
        script = house.directory / "work.py"
        script.write_text(WORK)
        house.config.write_text(
            f'{QUICK}\n[subsystems.hsaq]\ncommand = ["{sys.executable}", "{script}"]\nnotifies = true\n'
        )
        house.start()
        house.wait(lambda: units(house) > 0, "a unit of work")
        assert house.subsystem("hsaq")["vram_wanted_bytes"] == 5 << 30
        assert house.ctl("pause", "hsaq", "--reason", "the card is needed").returncode == 0
        house.wait(lambda: house.subsystem("hsaq")["state"] == "paused", "the pause")
        paused = house.subsystem("hsaq")
        assert paused["vram_wanted_bytes"] == 5 << 30
        assert stands_still(paused["pid"])
        assert house.ctl("resume", "hsaq", "--reason", "it is free again").returncode == 0
        house.wait(lambda: units(house) > paused["progress"]["done"], "it to go on")
