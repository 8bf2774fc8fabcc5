"""Policies on this machine: what is not there, and what undoes a wall."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import load
from epad.doctor.confinement import confinement_check


@pytest.fixture(name="home")
def made_home(tmp_path: Path) -> Path:
    """A home with a project, models and keys in it."""
    for name in ("home/project", "home/models", "home/.ssh", "srv"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "srv/agent.py").write_text("")
    return tmp_path / "home"


def complaints(home: Path, text: str) -> dict[str, str]:
    path = home.parent / "epad.toml"
    path.write_text(text.replace("SRV", str(home.parent / "srv")))
    found = confinement_check(load(path), {"HOME": str(home), "PATH": "/usr/bin:/bin"})
    return {".".join(one.key).removeprefix("subsystems."): one.text for one in found}


def a(confine: str, command: str = "") -> str:
    return f'[subsystems.a]\ncommand = ["sh"{command}]\n[subsystems.a.confine]\n{confine}\n'


B = '[subsystems.b]\ncommand = ["sh"]\n[subsystems.b.confine]\n'
CLOUD = '[upstreams.cloud]\nurl = "https://api.example.com/v1"\ndialects = ["openai"]\n'
LOCAL = '[upstreams.local]\nurl = "http://10.0.0.5:8000"\ndialects = ["openai"]\n'


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (a('read = ["~/nothing"]'), "a.confine.read", "is not there"),
        (a('read = ["~/.ssh"]'), "a.confine.read", "no cell can read"),
        (a("", ', "SRV/agent.py"'), "a.command", "add it to confine.read"),
        (CLOUD + a('hosts = ["*.example.com"]'), "a.confine.hosts", "would pass no budget"),
        (LOCAL + a('hosts = ["10.0.0.5:8000"]'), "a.confine.hosts", "would pass no budget"),
        (
            a('workspace = "~/project"') + B + 'workspace = "~/project"',
            "b.confine.workspace",
            "give each its own",
        ),
        (a('workspace = "~/project"') + B + 'workspace = "~"', "b.confine.workspace", "give each its own"),
    ],
)
def test_what_is_doubtful_is_named(home: Path, text: str, key: str, said: str) -> None:
    """At the key that says so."""
    found = complaints(home, text)
    assert list(found) == [key]
    assert said in found[key]


@pytest.mark.parametrize(
    "text",
    [
        a('workspace = "~/project"\nread = ["~/models", "SRV"]', ', "SRV/agent.py"'),
        CLOUD + a('hosts = ["api.example.com:8443", "example.com"]'),
        a('workspace = "~/project"') + B + 'workspace = "~/models"',
        a('profile = "sealed"\nworkspace = "~/project"') + B + 'profile = "sealed"\nworkspace = "~/project"',
        a('profile = "open"\n', ', "SRV/agent.py"'),
        a("", ', "/nowhere/agent.py"'),
    ],
)
def test_what_is_sound_is_not(home: Path, text: str) -> None:
    """Nor what somebody else tells of."""
    assert complaints(home, text) == {}
