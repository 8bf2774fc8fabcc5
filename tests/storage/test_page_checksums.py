"""Page sums: every flipped bit of a file that no chain vouches for."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from apsw import sqlite_extra

from epad.storage import page_checksums
from epad.storage.database import Database, DatabaseError, connect
from epad.storage.page_checksums import PageCheck, damage_of

SCHEMA = "CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, word TEXT) STRICT;"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def fill(path: Path) -> None:
    """What a life of the daemon leaves: written, and closed in order."""
    database = Database(path, SCHEMA)
    await database.open()
    rows = [("word" * 20,)] * 200
    await database.write(lambda c: c.executemany("INSERT INTO t(word) VALUES (?)", rows).fetchall())
    await database.close()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


async def test_a_clean_file_has_no_damage(path: Path) -> None:
    """From its first life on, and in its second."""
    for _ in range(2):
        await fill(path)
        assert damage_of(path) == ""


async def test_a_bit_in_the_middle_of_a_word_is_damage(path: Path) -> None:
    """`quick_check` alone would call this file sound: the word is a word still."""
    await fill(path)
    flip(path, path.read_bytes().rfind(b"wordword"))
    assert str(path) in damage_of(path)
    assert "restore the newest checkpoint" in damage_of(path)


async def test_what_is_damaged_is_not_read_as_if_it_were_not(path: Path) -> None:
    """The daemon gets an error that names the file and the way out, never the changed word."""
    await fill(path)
    flip(path, path.read_bytes().rfind(b"wordword"))
    database = Database(path, SCHEMA)
    await database.open()
    with pytest.raises(DatabaseError, match=r"state\.db.*put the newest checkpoint back"):
        await database.read(lambda c: c.execute("SELECT * FROM t").fetchall())
    await database.close()


async def test_a_file_from_before_there_were_sums_gets_them(path: Path) -> None:
    """Nothing of it is lost."""
    old = apsw.Connection(str(path))
    old.execute(SCHEMA)
    old.execute("INSERT INTO t(word) VALUES ('old')")
    old.close()
    assert "no checksums" in damage_of(path)
    await fill(path)
    assert damage_of(path) == ""
    reader = connect(path, readonly=True)
    assert reader.execute("SELECT count(*), min(word) FROM t").fetchall() == [(201, "old")]
    reader.close()


async def test_a_copy_carries_its_sums(path: Path, tmp_path: Path) -> None:
    """A checkpoint's copy of the file is checked by the same sums."""
    await fill(path)
    source, copy = connect(path, readonly=True), apsw.Connection(str(tmp_path / "copy.db"))
    with copy.backup("main", source, "main") as backup:
        backup.step(-1)
    source.close()
    copy.close()
    assert damage_of(tmp_path / "copy.db") == ""


async def test_a_pass_is_made_once_in_a_while(path: Path) -> None:
    """Between two passes the last one is believed."""
    await fill(path)
    check = PageCheck(path, 60.0)
    assert check.damage(0.0) == ""
    flip(path, path.stat().st_size // 2)
    assert check.damage(59.0) == ""
    assert check.damage(60.0)


def test_without_the_extension_nothing_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing without the sums would break them; the error says what to install."""
    monkeypatch.setattr(page_checksums, "VFS", "no such vfs")

    def unavailable(*_: object) -> None:
        raise sqlite_extra.NotAvailable("cksumvfs")

    monkeypatch.setattr(sqlite_extra, "load", unavailable)
    with pytest.raises(DatabaseError, match="install its wheel"):
        connect(path)


def test_a_file_that_cannot_be_opened_now_is_unknown_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without a descriptor left must not tell anybody to restore a checkpoint."""

    def connect(*_: object, **__: object) -> None:
        raise apsw.CantOpenError("unable to open database file")

    path = tmp_path / "state.db"
    apsw.Connection(str(path)).close()
    page_checksums.register()
    monkeypatch.setattr("epad.storage.page_checksums.apsw.Connection", connect)
    assert damage_of(path) == ""
