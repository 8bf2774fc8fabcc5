"""Faults in the tables of foreign servers: each is told with its place and its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import ConfigError, load

GOOD = '[tools.servers.notes]\ncommand = ["npx", "x"]\n'


def problems(place: Path, text: str) -> str:
    file = place / "epad.toml"
    file.write_text(text)
    try:
        load(file)
    except ConfigError as error:
        return "\n".join(map(str, error.problems))
    return ""


def test_what_is_right_is_taken(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    secret = f'[secrets.k]\nfile = "{tmp_path}/key"\nhosts = ["mcp.example"]\n'
    far = '[tools.servers.far]\nurl = "https://mcp.example/mcp"\nheaders = { Authorization = "Bearer {{secret:k}}" }\n'
    near = '[tools.servers.near]\nurl = "http://127.0.0.1:9/mcp"\nrisks = { "*" = "N1", run = "X1" }\n'
    assert (
        problems(tmp_path, GOOD + 'environment = { A = "b" }\nhosts = ["a.example"]\n' + far + near + secret)
        == ""
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tools.servers.a]\n", "needs command or url, and not both"),
        (GOOD + 'url = "https://x.example"\n', "needs command or url, and not both"),
        ('[tools.servers.git]\ncommand = ["x"]\n', "call it mcp-git"),
        ('[tools.servers."a__b"]\ncommand = ["x"]\n', "single - or _ between"),
        ('[tools.servers."A"]\ncommand = ["x"]\n', "a-z"),
        (f'[tools.servers.{"a" * 33}]\ncommand = ["x"]\n', "32 at most"),
        (GOOD + 'headers = { A = "b" }\n', "give environment"),
        (GOOD + 'environment = { "A B" = "c" }\n', "no name of a variable"),
        (GOOD + 'workspace = "here"\n', "from the root, or from ~/"),
        (GOOD + 'workspace = "/"\n', "the whole machine"),
        (GOOD + 'hosts = ["http://x"]\n', "tools.servers.notes.hosts"),
        (GOOD + 'risks = { run = "R9" }\n', "R9"),
        (GOOD + 'environment = { K = "{{secret:none}}" }\n', "not in [secrets]; there are: none"),
        ('[tools.servers.a]\nurl = "http://mcp.example/mcp"\n', "give https://"),
        ('[tools.servers.a]\nurl = "https://me:x@mcp.example/"\n', "give it as"),
        ('[tools.servers.a]\nurl = "https://mcp.example/"\nhosts = ["x.example"]\n', "no child of epad's"),
        ('[tools.servers.a]\nurl = "https://mcp.example/"\nheaders = { Host = "x" }\n', "cannot be sent"),
    ],
)
def test_a_fault_has_its_place_and_its_fix(tmp_path: Path, text: str, told: str) -> None:
    found = problems(tmp_path, text)
    assert told in found
    assert "tools.servers" in found


def test_a_secret_goes_nowhere_else(tmp_path: Path) -> None:
    """A server that has it may reach the hosts that it is bound to, and no other."""
    (tmp_path / "key").write_text("k")
    secret = f'[secrets.k]\nfile = "{tmp_path}/key"\nhosts = ["api.example"]\n'
    server = GOOD + 'environment = { K = "{{secret:k}}" }\nhosts = ["api.example", "evil.example"]\n'
    assert "reaches evil.example, which that secret is not bound to" in problems(tmp_path, server + secret)
