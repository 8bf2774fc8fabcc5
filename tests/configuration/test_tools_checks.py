"""The reach of tools is checked with the configuration: each fault names the key and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import ConfigError, load


def problems(directory: Path, text: str) -> list[str]:
    """Return the faults of a configuration."""
    (directory / "epad.toml").write_text(f"[tools.web]\n{text}\n")
    try:
        load(directory / "epad.toml")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("text", "key", "fix"),
    [
        ('hosts = ["a.example/b"]', "tools.web.hosts", "write a name"),
        ('hosts = ["http://a.example"]', "tools.web.hosts", "is no"),
        ('hosts = ["a.example=10.0.0.1:443", "a.example"]', "tools.web.hosts", "take one of them out"),
        ('searxng = "http://127.0.0.1:8888"', "tools.web.searxng", 'add "127.0.0.1:8888" there'),
        ('searxng = "127.0.0.1:8888"', "tools.web.searxng", "is 127.0.0.1"),
        ('searxng = "ftp://a.example"', "tools.web.searxng", "give its base alone"),
        (
            'searxng = "http://u@a.example"\nhosts = ["a.example:80"]',
            "tools.web.searxng",
            "give its base alone",
        ),
        ('searxng = "http://a_%.example"', "tools.web.searxng", "is no host name"),
        ('searxng = "http://127.1"', "tools.web.searxng", "write the address itself"),
    ],
)
def test_a_fault_names_the_key_and_the_fix(tmp_path: Path, text: str, key: str, fix: str) -> None:
    """Before the daemon starts."""
    (said,) = problems(tmp_path, text)
    assert key in said
    assert fix in said


def test_the_socket_of_an_engine_is_a_path(tmp_path: Path) -> None:
    """Not an address, and not a path from somewhere."""
    for text in ("unix:///run/docker.sock", "tcp://127.0.0.1:2375", "docker.sock"):
        (said,) = problems(tmp_path, f'[tools.docker]\nsocket = "{text}"')
        assert "tools.docker.socket" in said
        assert 'as "/run/docker.sock"' in said
    assert problems(tmp_path, '[tools.docker]\nsocket = "/run/docker.sock"') == []


@pytest.mark.parametrize(
    "text",
    [
        'hosts = ["a.example", "*.b.example", "10.0.0.5:8000", "nas.lan=10.0.0.6:443"]',
        'searxng = "http://127.0.0.1:8888"\nhosts = ["127.0.0.1:8888"]',
        'searxng = "https://search.example/base/"\nhosts = ["search.example"]',
    ],
)
def test_what_can_be_obeyed_is_taken(tmp_path: Path, text: str) -> None:
    """With a search engine of one's own too."""
    assert problems(tmp_path, text) == []
