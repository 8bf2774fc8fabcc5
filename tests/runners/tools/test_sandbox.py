"""What the process of a call can reach, tried from inside; each row has a twin that may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tool_escape

REFUSED = "PermissionError"
ROWS = [
    ("P", "read inside", REFUSED),
    ("P", "read outside", REFUSED),
    ("P", "execute", REFUSED),
    ("P", "connect", REFUSED),
    ("P", "signal", REFUSED),
    ("P", "memory", "MemoryError"),
    ("R1", "read inside", "done"),
    ("R1", "read outside", REFUSED),
    ("R1", "write inside", REFUSED),
    ("R1", "execute", REFUSED),
    ("W1", "read inside", "done"),
    ("W1", "write inside", "done"),
    ("W1", "write outside", REFUSED),
    ("W1", "read outside", REFUSED),
    ("W1", "execute", REFUSED),
    ("W1", "connect", REFUSED),
    ("N1", "read inside", "done"),
    ("N1", "write inside", REFUSED),
    ("N1", "execute", REFUSED),
    ("N1", "connect to the way out", "done"),
    ("N1", "connect", REFUSED),
    ("N2", "read inside", REFUSED),
    ("N2", "connect to the way out", "done"),
    ("N2", "connect", REFUSED),
    ("P", "connect to the way out", REFUSED),
]


@pytest.mark.parametrize(("risk", "attempt", "said"), ROWS)
def test_a_call_reaches_what_its_risk_allows(tmp_path: Path, risk: str, attempt: str, said: str) -> None:
    """A pure tool has no file at all, a reading one no writing; one of the network has one port, and none a program."""
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "notes.txt").write_text("x")
    (tmp_path / "secret").write_text("x")
    command = [sys.executable, tool_escape.__file__, risk, str(root), attempt]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found.endswith(f'{{"said":"{said}"}}'), found
