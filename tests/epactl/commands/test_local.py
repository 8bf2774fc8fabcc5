"""`epactl doctor` and `epactl config show`: whose configuration they look at."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from control_door import Door

from epad.epactl import main


@pytest.fixture
def mine(door: Door, tmp_path: Path) -> Path:
    """The file that the daemon behind the door was started with."""
    file = tmp_path / "mine.toml"
    file.write_text("[policy]\ndwell_seconds = 4321.0\n")
    door.operations.answer |= {"config_file": str(file), "state_directory": str(tmp_path / "its-state")}
    return file


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(main.main, ["--socket", str(door.path), *words])


async def test_what_is_shown_is_what_the_daemon_reads(
    door: Door, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said first; another file only where one is named."""
    assert await epactl(door, "config", "show", "policy.dwell") == 0
    heading, shown = capsys.readouterr().out.splitlines()
    assert heading == f"# epad 0.1.0, pid 77, phase QUARANTINE, reads {mine}"
    assert shown == f"policy.dwell_seconds = 4321.0  # {mine}:2"
    other = tmp_path / "other.toml"
    other.write_text("[policy]\ndwell_seconds = 5.0\n")
    assert await epactl(door, "config", "show", "policy.dwell", "--config", str(other)) == 0
    assert capsys.readouterr().out == f"# {other}\npolicy.dwell_seconds = 5.0  # {other}:2\n"


async def test_what_is_examined_is_the_daemons_own(
    door: Door, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file, and its state directory."""
    (mine.parent / "its-state").mkdir(mode=0o700)
    await epactl(door, "doctor", "-o", "json")
    found = {check["name"]: check["found"] for check in json.loads(capsys.readouterr().out)}
    assert found["configuration"] == str(mine)
    assert found["state"] == str(mine.parent / "its-state")


def test_without_a_daemon_it_is_the_usual_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a daemon would read it that starts now."""
    assert main.main(["--socket", str(tmp_path / "x"), "config", "show", "policy.dwell"]) == 0
    assert "reads" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prefix", "known"),
    [("nope", "subsystems"), ("probes.nope", "token_burn"), ("policy.x.y", "dwell_seconds")],
)
def test_an_unknown_table_is_named_with_those_that_there_are(
    prefix: str, known: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """4, as for everything unknown; a table in which nothing is set is known."""
    words = ["--socket", str(tmp_path / "x"), "config", "show"]
    assert main.main([*words, prefix]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert repr(prefix) in err
    assert known in err
    assert main.main([*words, "datastores"]) == 0
