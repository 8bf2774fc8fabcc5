"""Folders that leave the machine: by their marks, their names, their file systems, and the operator's word."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.tools import synced
from epad.tools.synced import carried_away


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "home" / "work"
    (made / "sub").mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    "mark",
    [
        ".stfolder",
        ".dropbox.cache",
        ".owncloudsync.log",
        "._sync_0a1b2c.db",
        ".sync_0a1b2c.db",
        ".megaignore",
    ],
)
@pytest.mark.parametrize("place", ["home", "home/work", "home/work/sub"])
def test_a_mark_counts_for_all_below_it(root: Path, mark: str, place: str) -> None:
    (root.parents[1] / place / mark).touch()
    assert carried_away(str(root), {"path": "sub/new/file.txt"})
    assert carried_away(str(root), {"path": "file.txt"}) is (place != "home/work/sub")


@pytest.mark.parametrize(
    "name", ["Dropbox", "Dropbox (Work)", "OneDrive - A Firm", "Google Drive", "Nextcloud"]
)
def test_a_name_counts(tmp_path: Path, name: str) -> None:
    root = tmp_path / name / "project"
    root.mkdir(parents=True)
    assert carried_away(str(root), {"path": "a"})


@pytest.mark.parametrize("argument", ["destination", "path", "source", "paths"])
def test_every_argument_that_may_be_a_path_counts(root: Path, argument: str) -> None:
    """A link too: what it leads to counts."""
    (root / "sub" / ".stfolder").mkdir()
    (root / "link").symlink_to("sub")
    value: object = ["x", "link/a"] if argument == "paths" else "link/a"
    assert carried_away(str(root), {"content": "text", argument: value})
    assert not carried_away(str(root), {"content": "text", argument: "a"})


def test_a_plain_workspace_stays_where_it_is(root: Path) -> None:
    """The control: names that only look alike, and texts that are no path."""
    for name in ("dropbox-client.py", "synced.md", ".sync_notes.txt"):
        (root / name).touch()
    for content in ("x\0y", "Dropbox is a program", "a" * 9_000, 7, None, ["a", 1]):
        assert not carried_away(str(root), {"path": "a/b", "content": content}, ["/elsewhere"])


def test_the_operators_word_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert carried_away(str(root), {"path": "a"}, [str(root.parent)])
    assert carried_away(str(root), {"path": "sub/a"}, ["~/work/sub"])
    assert not carried_away(str(root), {"path": "a"}, ["~/work/sub"])


def test_a_file_system_of_the_network_counts(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"tmpfs /tmp tmpfs rw 0 0\nserver:/x {root}/my\\040share nfs4 rw 0 0\n")
    monkeypatch.setattr(synced, "_MOUNTS", mounts)
    assert carried_away(str(root), {"path": "my share/a"})
    assert not carried_away(str(root), {"path": "a"})
