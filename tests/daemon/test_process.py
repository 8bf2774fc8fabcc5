"""What the daemon does around its house."""

from __future__ import annotations

from pathlib import Path

from fake_operations import status

from epad.configuration.directories import Directories
from epad.daemon.process import greeting


def test_the_greeting_names_everything_a_person_needs_next() -> None:
    """Phase, subsystems, the status command that works as it stands, and every notice."""
    directories = Directories(Path("/state"), Path("/run/epad"))
    shown = status(notices=["no NVIDIA driver here", "embedded models answer here"])
    text = greeting(shown, directories)
    assert "watches chat, wargame; the phase is QUARANTINE" in text
    assert "epactl --socket /run/epad/control.sock status" in text
    assert shown["gateway"]["url"] in text
    assert shown["metrics"]["url"] in text
    assert text.count("note  ") == 2
