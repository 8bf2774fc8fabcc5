"""A program of epad's own has its end of the socket, a session of its own, and no variable that it was not given."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from epad.runtime.own_program import start_own

PROGRAM = """
import json, os, sys
descriptor = int(sys.argv[-1])
told = {"words": sys.argv[1:-1], "variables": sorted(os.environ), "cwd": os.getcwd()}
told["session"] = os.getsid(0) == os.getpid()
os.write(descriptor, json.dumps(told).encode())
"""


def test_it_gets_what_it_is_given_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's own variables may hold keys."""
    (tmp_path / "own_program_of_a_test.py").write_text(PROGRAM)
    monkeypatch.setenv("SECRET_KEY", "x")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = start_own(
                "own_program_of_a_test",
                "word",
                descriptor=theirs.fileno(),
                variables={"PYTHONPATH": str(tmp_path)},
            )
        told = json.loads(ours.recv(65_536))
        assert process.wait() == 0
    assert told == {
        "words": ["word"],
        "variables": ["LC_ALL", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"],
        "session": True,
        "cwd": "/",
    }
    assert "SECRET_KEY" in os.environ
