"""A state directory has one epad, whatever becomes of the file that says so."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from epad.storage.state_lock import LOCK_FILE, is_locked, locked


def test_one_holds_it_and_the_next_may_when_it_is_let_go(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(BlockingIOError), locked(tmp_path):
            raise AssertionError
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_lock_that_somebody_tidied_up_still_holds(tmp_path: Path, how: str) -> None:
    """The file is gone, the directory is not."""
    with locked(tmp_path):
        (tmp_path / LOCK_FILE).unlink()
        if how == "replaced":
            (tmp_path / LOCK_FILE).touch()
        assert is_locked(tmp_path)
        with pytest.raises(BlockingIOError), locked(tmp_path):
            raise AssertionError


def test_an_epad_that_knows_the_file_alone_is_kept_out_and_keeps_out(tmp_path: Path) -> None:
    """Of before the directory was locked too."""
    with (tmp_path / LOCK_FILE).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert is_locked(tmp_path)
        with pytest.raises(BlockingIOError), locked(tmp_path):
            raise AssertionError
    with locked(tmp_path), (tmp_path / LOCK_FILE).open("a") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_nothing_is_made_by_asking(tmp_path: Path) -> None:
    """Nor by whoever only reads the state; one that is not there is held by nobody."""
    assert not is_locked(tmp_path)
    with locked(tmp_path, make=False):
        assert is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not is_locked(tmp_path / "gone")
    with locked(tmp_path / "gone", make=False):
        pass
    with pytest.raises(FileNotFoundError), locked(tmp_path / "gone"):
        raise AssertionError


def test_nothing_stays_open(tmp_path: Path) -> None:
    """Refused or held and let go."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with locked(tmp_path), pytest.raises(BlockingIOError), locked(tmp_path):
        raise AssertionError
    assert len(list(Path("/proc/self/fd").iterdir())) == before
