"""A text file is whole or as it was before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runners.durable import write_text

FILLS_UP = """
import resource, sys
from pathlib import Path
from runners.durable import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_text(Path(sys.argv[1]), "x" * 200_000)
"""
"""Python ignores SIGXFSZ, so the write that goes too far is refused, as it is on a full disk."""


def test_a_disk_that_is_full_leaves_the_former_file_whole(tmp_path: Path) -> None:
    """And no half of a new one beside it."""
    path = tmp_path / "report.html"
    path.write_text("former")
    ended = subprocess.run(
        [sys.executable, "-c", FILLS_UP, str(path)], check=False, capture_output=True, text=True
    )
    assert "File too large" in ended.stderr
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_the_former_file_whole(tmp_path: Path) -> None:
    """Whatever was written by then lies beside it, until the file has reached the disk."""
    path = tmp_path / "report.html"
    path.write_text("former")
    killed = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom runners.durable import write_text\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\nwrite_text(Path(sys.argv[1]), 'new')"
    )
    ended = subprocess.run([sys.executable, "-c", killed, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_text() == "former"


def test_a_link_stays_one_and_a_file_keeps_its_mode(tmp_path: Path) -> None:
    """The rename replaces what a link points to, not the link."""
    path, link = tmp_path / "there" / "report.html", tmp_path / "report.html"
    path.parent.mkdir()
    write_text(path, "former")
    path.chmod(0o640)
    link.symlink_to(path)
    write_text(link, "new")
    assert link.is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """`--html /dev/stdout` must not put a file in a device's place."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(path.read_text()), daemon=True)
    reader.start()
    write_text(path, "new")
    reader.join(60)
    assert heard == ["new"]
    assert path.is_fifo()


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """Which each command turns into a line of its own; a name mistyped makes no new folder."""
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "no" / "report.html", "new")
    assert list(tmp_path.iterdir()) == []
