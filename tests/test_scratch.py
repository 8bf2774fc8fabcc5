"""The place of the tests' files: memory only where it does, and what was said always."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import scratch


def statvfs(free_bytes: int, flags: int = 0) -> os.statvfs_result:
    blocks = free_bytes // 4096
    return os.statvfs_result((4096, 4096, blocks, blocks, blocks, 9, 9, 9, flags, 255))


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (statvfs(scratch.NEEDED_BYTES), "memory"),
        (statvfs(scratch.NEEDED_BYTES - 4096), "disk"),
        (statvfs(scratch.NEEDED_BYTES, os.ST_NOEXEC), "disk"),
        (statvfs(scratch.NEEDED_BYTES, os.ST_RDONLY), "disk"),
    ],
)
def test_memory_has_room_and_lets_its_files_be_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: os.statvfs_result, place: str
) -> None:
    """A container's /dev/shm often has 64 MiB, and is mounted noexec."""
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    assert scratch.chosen(None, tmp_path) == (tmp_path if place == "memory" else scratch.DISK)


def test_what_was_said_is_taken_and_what_is_missing_is_not(tmp_path: Path) -> None:
    assert scratch.chosen("/var/tmp", tmp_path) == Path("/var/tmp")
    assert scratch.chosen(None, tmp_path / "none") == scratch.DISK


def test_tests_and_their_children_keep_their_files_there(tmp_path: Path) -> None:
    assert tmp_path.is_relative_to(scratch.PLACE)
    assert Path(tempfile.gettempdir()) == scratch.PLACE
    program = "import sys, tempfile; print(tempfile.gettempdir(), sys.dont_write_bytecode)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(scratch.PLACE), "False"]
