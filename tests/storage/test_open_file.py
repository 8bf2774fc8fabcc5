"""A name that no longer leads to the open file is noticed without opening anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from epad.storage.database import Database
from epad.storage.open_file import OpenFile, OpenFiles

LOOK = "import apsw, sys; apsw.Connection(sys.argv[1]).execute('SELECT count(*) FROM t').fetchall()"


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


def test_a_file_that_grows_while_two_threads_measure_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has measured it before it grew, the other after; then it is cut."""
    path = tmp_path / "state.db"
    path.write_bytes(b"1")
    file = OpenFile.at(path, grows=True)
    before = path.stat()
    path.write_bytes(b"12")
    look = os.stat

    def late(name: Path) -> os.stat_result:
        monkeypatch.setattr(os, "stat", look)
        assert file.loss() == ""
        return before

    monkeypatch.setattr(os, "stat", late)
    assert file.loss() == ""
    path.write_bytes(b"")
    assert "was cut from 2 to 0 bytes" in file.loss()


async def test_a_database_and_its_log_never_get_shorter_by_themselves_and_a_shorter_one_is_a_loss(
    tmp_path: Path,
) -> None:
    """Not by a log that begins again, not by another program's look; the newest data is in the log alone."""
    path, log = tmp_path / "state.db", tmp_path / "state.db-wal"
    database = Database(path, "CREATE TABLE IF NOT EXISTS t(x BLOB);")
    await database.open()
    files = OpenFiles.of_databases(path)
    lengths = set()
    for _ in range(5):
        await database.write(lambda db: db.execute("INSERT INTO t VALUES (zeroblob(5000000))").fetchall())
        await database.write(lambda db: db.execute("DELETE FROM t").fetchall())
        subprocess.run([sys.executable, "-c", LOOK, path], check=True)
        lengths.add(log.stat().st_size)
        assert files.loss() == ""
    assert len(lengths) < 5  # it has begun again
    os.truncate(log, log.stat().st_size // 2)
    assert f"{log} was cut from " in files.loss()
    await database.close()


def test_a_file_that_cannot_be_written_any_more_is_no_loss_but_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made read-only by its mode or its mount; on a file system without room. Gone altogether is a loss."""
    path = tmp_path / "state.db"
    path.write_bytes(b"1")
    file, files = OpenFile.at(path), OpenFiles.of_databases(path)
    assert files.refusal() == ""
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_, **__: False)
        assert f"{path} was made read-only while it is in use" in files.refusal()
        assert file.loss() == ""
    there = os.statvfs(tmp_path)
    with monkeypatch.context() as patch:
        fields = list(there)
        fields[3] = fields[4] = 0
        patch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
        assert f"no room is left on the file system of {path}" in files.refusal()
        assert file.loss() == ""
    path.unlink()
    assert files.refusal() == ""
    assert files.loss() != ""


def test_a_file_that_is_not_there_cannot_be_held_open(tmp_path: Path) -> None:
    """Its absence is the opener's error, not a loss."""
    with pytest.raises(FileNotFoundError):
        OpenFile.at(tmp_path / "state.db")
