"""What a configuration names and is not there: found by `epad check`, no reason not to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from installed import EPAD, installation
from patience import PATIENCE_SECONDS

from epad.configuration.load import load
from epad.configuration.urls import leads_to
from epad.doctor.missing_programs import world_check


def complaints(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    path = tmp_path / "epad.toml"
    path.write_text(text)
    found = world_check(load(path), {"PATH": "/usr/bin:/bin"})
    return [(".".join(one.key), one.text) for one in found]


@pytest.mark.parametrize(
    ("command", "extra", "said"),
    [
        ("/nonexistent/x", "", "is not there"),
        ("no-such-program-anywhere", "", "is in none of PATH (/usr/bin:/bin)"),
        ("/etc/passwd", "", "may not be run"),
        ("./run.sh", 'working_directory = "/etc"', "is not there"),
        ("sleep 1", "", "each argument as a text of its own"),
        ("sh", 'environment = { PATH = "/nowhere" }', "is in none of PATH (/nowhere)"),
        ("sh", "", ""),
        (sys.executable, "", ""),
        ("./run.sh", "", ""),
    ],
)
def test_a_program_that_is_not_there_is_named(tmp_path: Path, command: str, extra: str, said: str) -> None:
    """With where it was looked for, as its own start would."""
    found = complaints(tmp_path, f'[subsystems.x]\ncommand = ["{command}"]\n{extra}\n')
    assert [key for key, _ in found] == (["subsystems.x.command"] if said else [])
    assert all(said in text for _, text in found)


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (
            '[subsystems.x]\ncommand = ["sh"]\nconfine = { workspace = "/nowhere" }',
            "subsystems.x.confine.workspace",
            "make it",
        ),
        (
            '[subsystems.x]\ncommand = ["sh"]\nworking_directory = "/nowhere"',
            "subsystems.x.working_directory",
            "make it",
        ),
        (
            '[subsystems.x]\ncommand = ["sh"]\nworking_directory = "/etc/passwd"',
            "subsystems.x.working_directory",
            "no dir",
        ),
        (
            '[subsystems.x]\ncommand = ["sh"]\nworking_directory = "work"',
            "subsystems.x.working_directory",
            "from the root",
        ),
        (
            '[upstreams.v]\nurl = "http://h:1"\ndialects = ["openai"]\ntokenizer = "/nowhere"',
            "upstreams.v.tokenizer",
            "",
        ),
        ('[control]\noperator_group = "nosuchgroup"', "control.operator_group", "groupadd nosuchgroup"),
        ('[control]\noperator_group = "root"', "", ""),
        (
            '[subsystems.x]\ncommand = ["./run.sh"]\nworking_directory = "/nowhere"',
            "subsystems.x.working_directory",
            "",
        ),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, text: str, key: str, said: str) -> None:
    """Directories, a tokenizer, a group: each once."""
    found = complaints(tmp_path, text)
    assert [one for one, _ in found] == ([key] if key else [])
    assert all(said in one for _, one in found)


@pytest.mark.parametrize(
    ("url", "listen", "itself"),
    [
        ("http://127.0.0.1:8300", "127.0.0.1:8300", True),
        ("http://localhost:8300/v1", "127.0.0.1:8300", True),
        ("http://[::1]:8300", "0.0.0.0:8300", True),
        ("unix:/run/g.sock", "unix:/run/g.sock", True),
        ("http://127.0.0.1:8301", "127.0.0.1:8300", False),
        ("http://10.0.0.2:8300", "127.0.0.1:8300", False),
        ("http://127.0.0.1", "127.0.0.1:0", False),
        ("http://127.0.0.1:99999", "127.0.0.1:8300", False),
    ],
)
def test_a_gateway_that_would_ask_itself_is_seen(url: str, listen: str, itself: bool) -> None:
    """Under every name of this machine."""
    assert leads_to(url, listen) is itself


def test_check_names_file_and_line_and_run_starts_all_the_same() -> None:
    """One typo stops one subsystem, not the daemon."""
    with installation() as house:
        house.config.write_text(house.config.read_text() + '[subsystems.x]\ncommand = ["/nonexistent/x"]\n')
        checked = subprocess.run(
            [EPAD, "check", "--config", house.config],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert checked.returncode != 0
        line = house.config.read_text().splitlines().index('command = ["/nonexistent/x"]') + 1
        assert f"epad.toml:{line}: subsystems.x.command: names /nonexistent/x" in checked.stderr
        house.start()
