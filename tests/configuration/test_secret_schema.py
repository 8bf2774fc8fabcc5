"""`[secrets.NAME]`: where a secret is kept, where it may go, and who may use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import ConfigError, load

AGENT = '[subsystems.agent]\ncommand = ["true"]\n[subsystems.agent.confine]\nsecrets = ["github"]\n'


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text("s3cr3t\n")
    return str(path)


def told(tmp_path: Path, text: str) -> str:
    """The complaints about a configuration; empty if there are none."""
    path = tmp_path / "epad.toml"
    path.write_text(text)
    try:
        load(path)
    except ConfigError as error:
        return "\n".join(map(str, error.problems))
    return ""


def test_a_secret_has_a_file_and_hosts(tmp_path: Path, token: str) -> None:
    assert told(tmp_path, f'[secrets.github]\nfile = "{token}"\nhosts = ["api.github.com"]\n{AGENT}') == ""
    assert told(tmp_path, f'[secrets.github]\ncredential = "gh"\nhosts = ["api.github.com"]\n{AGENT}') == ""
    assert told(tmp_path, f'[secrets.github]\nsealed = true\nhosts = ["api.github.com"]\n{AGENT}') == ""


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('hosts = ["a.example"]', "needs one of file, credential and sealed = true"),
        (
            'file = "FILE"\ncredential = "c"\nhosts = ["a.example"]',
            "needs one of file, credential and sealed",
        ),
        (
            'sealed = true\ncredential = "c"\nhosts = ["a.example"]',
            "needs one of file, credential and sealed",
        ),
        ('file = "token"\nhosts = ["a.example"]', "is token, a relative path; give it from the root"),
        ('file = "/nowhere/token"\nhosts = ["a.example"]', "which is not there or cannot be read"),
        ('file = "FILE"\nhosts = []', "is empty; name the hosts that it may be sent to"),
        ('file = "FILE"\nhosts = ["*.example.org"]', 'has "*.example.org"; give names alone'),
        ('file = "FILE"\nhosts = ["a.example:80"]', 'has "a.example:80"; give names alone'),
        ('file = "FILE"\nhosts = ["10.0.0.5"]', 'has "10.0.0.5"; give names alone'),
    ],
)
def test_what_is_wrong_with_a_secret_is_told(tmp_path: Path, token: str, table: str, words: str) -> None:
    assert words in told(tmp_path, f"[secrets.github]\n{table.replace('FILE', token)}\n")


def test_a_subsystem_uses_secrets_that_there_are(tmp_path: Path, token: str) -> None:
    """By a way out that could fill them in."""
    assert 'has "github", which is not in [secrets]; there are: none' in told(tmp_path, AGENT)
    secret = f'[secrets.github]\nfile = "{token}"\nhosts = ["api.github.com"]\n'
    assert "has no way out that could fill them in" in told(tmp_path, f'{secret}{AGENT}profile = "sealed"\n')
