"""What the daemon's process has loaded: nothing of its clients, nor of what runs beside it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from installed import Installation
from rooms import SHARED_WITH_CHILDREN

RUN = """
import json, sys
from epad.daemon.cli import main
status = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump(sorted(sys.modules), file)
sys.exit(status)
"""
STRANGERS = (
    "epad.api.client",
    "epad.doctor",
    "epad.epactl",
    "epad.install",
    "epad.simulate.replay",
    "runners",
)
ALLOWED = SHARED_WITH_CHILDREN.union(*({name.rpartition(".")[0], "runners"} for name in SHARED_WITH_CHILDREN))


class Telling(Installation):
    """A daemon that writes down at its end which modules it has loaded."""

    def launch(self) -> None:
        arguments = ["run", "--config", str(self.config), "--state", str(self.state)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(self.directory / "modules"), *arguments],
                stdout=log,
                stderr=log,
            )

    def loaded(self) -> list[str]:
        modules: list[str] = json.loads((self.directory / "modules").read_text())
        return modules


def strangers(modules: list[str]) -> list[str]:
    """Those that the daemon has no business with."""
    found = [name for name in modules for stranger in STRANGERS if f"{name}.".startswith(f"{stranger}.")]
    return [name for name in found if name not in ALLOWED]


def test_the_daemon_loads_no_client_doctor_installer_or_runner(house: Installation) -> None:
    """Started, asked, and given an order: what it does not load cannot break it, nor take its memory."""
    daemon = Telling(house.directory)
    daemon.start()
    try:
        daemon.status()
        daemon.ask("checkpoint", "create", "--reason", "a test")
    finally:
        assert daemon.stop() == 0
    modules = daemon.loaded()
    assert "epad.daemon.composition" in modules
    assert "epad.operations.status" in modules
    assert strangers(modules) == []


@pytest.mark.parametrize("name", STRANGERS)
def test_a_planted_stranger_is_found(name: str) -> None:
    """Itself, and what is below it; not what only begins like it."""
    found = strangers([name, f"{name}.x", f"{name}x", "epad.gateway", "runners.egress.rules"])
    assert found == [one for one in (name, f"{name}.x") if one not in ALLOWED]
