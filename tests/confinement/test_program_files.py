"""Where a program's files lie: a virtual environment, the Python behind it, and nothing for the system's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epad.confinement.program_files import program_roots


@pytest.fixture(name="venv")
def made_venv(tmp_path: Path) -> Path:
    """A virtual environment as uv makes it: its python is a link to a link."""
    real = tmp_path / "pythons/cpython-3.12.4/bin/python3.12"
    real.parent.mkdir(parents=True)
    real.write_text("#!/bin/sh\n")
    real.chmod(0o755)
    (tmp_path / "pythons/cpython-3.12").symlink_to("cpython-3.12.4")
    program = tmp_path / "project/.venv/bin/python"
    program.parent.mkdir(parents=True)
    program.symlink_to(tmp_path / "pythons/cpython-3.12/bin/python3.12")
    return program.parent.parent


def test_every_directory_on_the_way_is_named(tmp_path: Path, venv: Path) -> None:
    """That of the environment, of the link in between, and of the file."""
    roots = program_roots([str(venv / "bin/python"), "a.py"], "/", "", os.path.realpath)
    pythons = tmp_path / "pythons"
    assert roots == [str(venv), str(pythons / "cpython-3.12"), str(pythons / "cpython-3.12.4")]


def test_a_program_is_found_by_its_path(tmp_path: Path, venv: Path) -> None:
    """As execvp does."""
    assert str(venv) in program_roots(["python"], "/", f"/nowhere:{venv / 'bin'}", os.path.realpath)
    assert program_roots(["python"], "/", str(tmp_path), os.path.realpath) == []


def test_a_program_beside_its_subsystem_is_found_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`./run` is read from the directory that it starts in, wherever the daemon is."""
    monkeypatch.chdir("/")
    program = tmp_path / "work/run"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert program_roots(["./run"], str(tmp_path / "work"), "", os.path.realpath) == [str(tmp_path / "work")]


@pytest.mark.parametrize("command", [["/bin/sh"], ["sh"], [], ["/nowhere/program"]])
def test_the_systems_own_programs_need_no_more(command: list[str]) -> None:
    """Nor does one that is not there: its start will say so."""
    assert program_roots(command, "/", "/usr/bin:/bin", os.path.realpath) == []


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """Such a program cannot be started; nobody waits for it."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert program_roots([str(tmp_path / "a")], "/", "", os.path.realpath) == []
