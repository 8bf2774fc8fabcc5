"""No agent upgrades itself unseen: the installed daemon tells of a changed start, or holds it for a person."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import QUICK, Installation, installation

AGENT = """
import sys, time
import part
print("part says", part.SAYS, flush=True)
time.sleep(600)
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Installation]:
    """A daemon with two agents of the same script, one of which is held when it changes."""
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "part.py").write_text("SAYS = 1")
    tables = [
        f'[subsystems.{name}]\ncommand = ["{sys.executable}", "agent.py"]\nworking_directory = "{tmp_path}"\n'
        f'on_change = "{what}"\n'
        for name, what in (("told", "tell"), ("held", "hold"))
    ]
    with installation(QUICK + "".join(tables)) as made:
        made.start()
        yield made
        made.stop()


def measured(house: Installation, name: str) -> bool:
    """Whether the last start of a subsystem is what the next one is compared with."""
    return (house.state / "measurements" / f"{name}.json").exists()


def test_a_changed_start_is_told_or_held(house: Installation, tmp_path: Path) -> None:
    """It is in the events, in `explain`, and in `changes list`; a person's word starts the held one."""
    house.wait(lambda: measured(house, "told") and measured(house, "held"), "the first measurements")
    assert "is measured for the first time" in house.ctl("changes", "list").stdout

    (tmp_path / "part.py").write_text("SAYS = 2")
    for name in ("told", "held"):
        house.ctl("restart", name, "--reason", "a new part")
    house.wait(lambda: house.subsystem("held")["state"] == "failed", "the held one")
    house.wait(lambda: house.subsystem("told")["state"] == "running", "the told one")
    changed = f"module {tmp_path / 'part.py'} is changed"
    house.wait(lambda: changed in house.ctl("explain", "told").stdout, "the change to be told")

    assert changed in house.ctl("explain", "held").stdout
    listed = house.ctl("changes", "list").stdout
    assert f"changed: module {tmp_path / 'part.py'}" in listed
    assert "held: `epactl changes accept held --reason R` starts it as it is now" in listed

    house.ctl("restart", "held", "--reason", "a restart is no acceptance")
    house.wait(lambda: house.subsystem("held")["state"] == "failed", "the held one, again")
    refused = house.ctl("changes", "accept", "told", "--reason", "no need")
    assert refused.returncode == 1
    assert "no change of told waits to be accepted" in refused.stderr

    accepted = house.ctl("changes", "accept", "held", "--reason", "I wrote that")
    assert "accepted: held is not what it was" in accepted.stdout
    house.wait(lambda: house.subsystem("held")["state"] == "running", "the accepted one")
    house.wait(lambda: "part says 2" in house.ctl("logs", "held").stdout, "its word")
