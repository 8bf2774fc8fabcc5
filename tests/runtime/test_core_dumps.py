"""No core of a process that forbids it; of one that does not, the kernel may write one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, resource, sys
from epad.runtime import core_dumps
most = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
if sys.argv[1] == "forbid":
    assert core_dumps.forbid()
os.abort()
"""


def ended(directory: Path, word: str) -> int:
    child = subprocess.Popen([sys.executable, "-c", CODE, word], cwd=directory, stderr=subprocess.DEVNULL)
    told = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    child.wait()
    assert told is not None
    return told.si_code


@pytest.mark.parametrize("word", ["forbid", "allow"])
def test_a_process_that_forbids_it_leaves_no_core(tmp_path: Path, word: str) -> None:
    """Where a machine writes none at all, the second tells so."""
    may = {os.CLD_KILLED} if word == "forbid" else {os.CLD_DUMPED, os.CLD_KILLED}
    assert ended(tmp_path, word) in may
    assert word == "allow" or list(tmp_path.iterdir()) == []
