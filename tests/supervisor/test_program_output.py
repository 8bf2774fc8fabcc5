"""What a child is given to print into, where something else lies in its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from epad.supervisor.program import PIPE_SUFFIX, log_path, make_pipe, open_log

PLANTED: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a symbolic link": lambda path: path.symlink_to(path.with_name("victim")),
    "a directory": Path.mkdir,
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_no_log_is_neither_waited_for_nor_followed(tmp_path: Path, what: str) -> None:
    """Where no pipe can be made a child writes its log itself: it runs all the same, and its output is not kept."""
    path = tmp_path / "it.log"
    PLANTED[what](path)
    assert log_path(path) == Path(os.devnull)
    assert not (tmp_path / "victim").exists()


def test_a_file_in_the_place_of_a_pipe_is_not_printed_into(tmp_path: Path) -> None:
    """Nobody would keep it within its size."""
    path = tmp_path / f"it{PIPE_SUFFIX}"
    path.write_text("")
    assert log_path(path) == Path(os.devnull)
    assert make_pipe(path)
    assert log_path(path) == path
    os.close(open_log(log_path(path)))


def test_a_log_and_nothing_can_be_printed_into(tmp_path: Path) -> None:
    path = tmp_path / "logs/it.log"
    assert log_path(path) == path
    os.close(open_log(Path(os.devnull)))
