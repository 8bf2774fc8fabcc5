"""A file is written whole or not at all, never over another, and by root through no link."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from epad.storage.new_file import NewFileError, write_new

AS_ROOT = os.geteuid() == 0
MODE, DIRECTORY_MODE = (0o640, 0o750) if AS_ROOT else (0o600, 0o700)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_new_file_has_its_text_and_its_mode(tmp_path: Path) -> None:
    """Whatever the umask is; and no temporary file stays."""
    mask = os.umask(0o077)
    try:
        assert write_new(tmp_path / "a.toml", "ä\n") is None
    finally:
        os.umask(mask)
    assert (tmp_path / "a.toml").read_text() == "ä\n"
    assert (tmp_path / "a.toml").stat().st_mode & 0o777 == MODE
    assert names(tmp_path) == ["a.toml"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "directory"])
def test_whatever_is_there_stays(tmp_path: Path, kind: str) -> None:
    """The error names it, and the way out."""
    target, path = tmp_path / "target", tmp_path / "a.toml"
    if kind == "directory":
        path.mkdir()
    elif kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(target)
        if kind == "link":
            target.write_text("mine")
    before = names(tmp_path)
    with pytest.raises(NewFileError, match=r"is there already, and stays as it is; .*--force"):
        write_new(path, "new")
    assert names(tmp_path) == before
    if kind in {"file", "link"}:
        assert path.read_text() == "mine"


def test_a_replaced_file_is_kept_under_the_next_free_name(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("first")
    assert write_new(path, "second", replace=True) == tmp_path / "a.toml.1"
    assert write_new(path, "third", replace=True) == tmp_path / "a.toml.2"
    texts = {one.name: one.read_text() for one in tmp_path.iterdir()}
    assert texts == {"a.toml": "third", "a.toml.1": "first", "a.toml.2": "second"}


def test_a_replaced_link_is_kept_as_a_link_and_its_target_untouched(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "a.toml"
    target.write_text("mine")
    path.symlink_to(target)
    write_new(path, "new", replace=True)
    assert not path.is_symlink()
    assert (tmp_path / "a.toml.1").is_symlink()
    assert target.read_text() == "mine"


def test_a_directory_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.toml").mkdir()
    with pytest.raises(NewFileError, match="is no file"):
        write_new(tmp_path / "a.toml", "new", replace=True)
    assert names(tmp_path) == ["a.toml"]


def test_missing_directories_are_made_only_where_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "one/two/a.toml"
    with pytest.raises(FileNotFoundError) as missing:
        write_new(path, "x")
    assert missing.value.filename == str(tmp_path / "one")
    mask = os.umask(0o022)
    try:
        write_new(path, "x", make_directory=True)
    finally:
        os.umask(mask)
    assert path.parent.stat().st_mode & 0o777 == DIRECTORY_MODE


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, say."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as failed:
        write_new(tmp_path / "a.toml", "x")
    assert failed.value.filename == str(tmp_path / "a.toml")
    assert names(tmp_path) == []


def test_of_two_writers_one_wins(tmp_path: Path) -> None:
    """Whole: the other is refused."""
    path, refused = tmp_path / "a.toml", list[str]()
    start = threading.Barrier(8)

    def write(text: str) -> None:
        start.wait()
        try:
            write_new(path, text)
        except NewFileError:
            refused.append(text)

    texts = [letter * 10_000 for letter in "abcdefgh"]
    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {path.read_text(), *refused} == set(texts)
    assert len(refused) == 7
    assert names(tmp_path) == ["a.toml"]


def test_root_follows_no_link_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may change a directory above could make it one; the error has the path without it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(NewFileError, match=f"root follows none here; .*{tmp_path}/real$"):
        write_new(tmp_path / "link/a.toml", "x")
    with pytest.raises(NewFileError, match="root follows none here"):
        write_new(tmp_path / "link/new/a.toml", "x", make_directory=True)
    assert names(tmp_path / "real") == []


def test_a_user_may_have_links_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """~/.config is one for many: they own it, and write with their own rights alone."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_new(tmp_path / "link/a.toml", "x")
    assert (tmp_path / "real/a.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")
def test_roots_file_is_the_group_of_its_directory_to_read(tmp_path: Path) -> None:
    """As that of /etc/epad is, whose group the daemon has; in a directory of another user's it is root's alone."""
    for owner, group in ((0, 4242), (4242, 0)):
        directory = tmp_path / str(owner)
        directory.mkdir()
        os.chown(directory, owner, 4242)
        write_new(directory / "a.toml", "x")
        assert (directory / "a.toml").stat().st_gid == group
        assert (directory / "a.toml").stat().st_uid == 0
