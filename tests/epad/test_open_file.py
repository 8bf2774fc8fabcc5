"""A name that no longer leads to the open file is noticed without opening anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.open_file import OpenFile


def test_a_file_is_found_until_its_name_is_taken(tmp_path: Path) -> None:
    """Deleted, replaced, out of reach; growing and moving back are no loss."""
    path = tmp_path / "state.db"
    path.write_bytes(b"1")
    file = OpenFile.at(path)
    path.write_bytes(b"12")
    assert file.loss() == ""

    aside = path.rename(tmp_path / "aside")
    assert f"{path} was deleted" in file.loss()
    path.write_bytes(b"1")
    assert "was replaced by another file" in file.loss()
    aside.replace(path)
    assert file.loss() == ""


def test_a_file_that_is_not_there_cannot_be_held_open(tmp_path: Path) -> None:
    """Its absence is the opener's error, not a loss."""
    with pytest.raises(FileNotFoundError):
        OpenFile.at(tmp_path / "state.db")
