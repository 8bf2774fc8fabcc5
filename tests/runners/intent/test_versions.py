"""Versions: kept, put in force, taken back, each change on the record; a torn file is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from runners.intent.fitting import Fitted
from runners.intent.versions import VersionError, Versions


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path / "intent")


def test_the_newest_is_in_force_until_it_is_taken_back(versions: Versions, fitted: Fitted) -> None:
    """And a later one has a number of its own, also after that."""
    assert (versions.current(), versions.known(), versions.history()) == (0, [], [])
    assert versions.keep(fitted, "ann", "first") == 1
    assert versions.keep(structs.replace(fitted, auc=0.9), "ann", "better") == 2
    versions.roll_back(1, "bob", "it called all of ours attacks")
    assert versions.current() == 1
    assert versions.load(2).auc == 0.9
    assert versions.keep(fitted, "ann", "again") == 3
    assert [(one.version, one.former, one.by) for one in versions.history()] == [
        (1, 0, "ann"),
        (2, 1, "ann"),
        (1, 2, "bob"),
        (3, 1, "ann"),
    ]
    assert versions.history()[2].reason == "it called all of ours attacks"


def test_what_is_not_there_or_torn_is_named(versions: Versions, fitted: Fitted) -> None:
    """With the file and the fix; and what is in force stays so."""
    versions.keep(fitted, "ann", "first")
    with pytest.raises(VersionError, match="has no version 7; there are: 1"):
        versions.roll_back(7, "ann", "x")
    path = versions.directory / "000001.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(VersionError, match=r"000001\.json: .*roll back"):
        versions.load(1)
    (versions.directory / "current").write_text("none")
    with pytest.raises(VersionError, match="'none' is no version"):
        versions.current()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path, fitted: Fitted) -> None:
    """It is a file."""
    (tmp_path / "intent").write_text("")
    with pytest.raises(VersionError, match="intent"):
        Versions(tmp_path / "intent").keep(fitted, "ann", "x")
