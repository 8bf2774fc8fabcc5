"""The copying child: what it copies, and whom it blames."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import apsw
import msgspec

from epad.copying.copied_file import PARENT_VARIABLE, CopyReport
from epad.copying.sqlite_copy import report


def run(*arguments: str, **options: Any) -> tuple[int, CopyReport]:
    done = subprocess.run(
        [sys.executable, "-m", "epad.copying.sqlite_copy", *arguments],
        capture_output=True,
        check=False,
        **options,
    )
    return done.returncode, msgspec.json.decode(done.stdout, type=CopyReport)


def test_by_hand_it_copies_and_says_so(database: Path, tmp_path: Path) -> None:
    """A person may run it, and reads the outcome from the exit status."""
    status, answer = run(str(database), str(tmp_path / "copy.db"))
    assert status == 0
    assert answer.files[0].how == "sqlite_backup"
    assert answer.files[0].size_bytes == (tmp_path / "copy.db").stat().st_size
    status, answer = run(str(tmp_path / "gone.db"), str(tmp_path / "copy2.db"))
    assert status == 1
    assert answer.files[0].error == f"{tmp_path}/gone.db: no such file"
    assert not (tmp_path / "copy2.db").exists()


def test_what_is_only_in_the_wal_is_copied_and_the_source_stays_as_it_was(
    database: Path, tmp_path: Path
) -> None:
    """Commits that were never written back count, and looking at them writes nothing."""
    writer = apsw.Connection(str(database))
    writer.pragma("wal_autocheckpoint", 0)
    writer.execute("INSERT INTO entity VALUES (777, 'only in the WAL')")
    before = subprocess.check_output(["cat", str(database)])
    assert not report(database, tmp_path / "copy.db").failure
    assert subprocess.check_output(["cat", str(database)]) == before
    writer.close()
    copy = apsw.Connection(str(tmp_path / "copy.db"))
    assert copy.execute("SELECT name FROM entity WHERE id = 777").fetchall() == [("only in the WAL",)]
    copy.close()
    assert sorted(p.name for p in tmp_path.glob("copy.db*")) == ["copy.db"]


def test_a_hot_journal_is_rolled_back_first(tmp_path: Path) -> None:
    """A writer that crashed half-way is undone, not copied half-way."""
    path = tmp_path / "hot.db"
    crash = textwrap.dedent(
        """
        import os, sys, apsw
        connection = apsw.Connection(sys.argv[1])
        connection.pragma("cache_size", 2)
        connection.execute("CREATE TABLE fact(text)")
        connection.execute("INSERT INTO fact VALUES ('committed')")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO fact VALUES (?)", [("x" * 3000,)] * 200)
        connection.execute("UPDATE fact SET text = 'half'")
        connection.cache_flush()
        os._exit(0)
        """
    )
    subprocess.run([sys.executable, "-c", crash, str(path)], check=True)
    assert (tmp_path / "hot.db-journal").stat().st_size > 0
    answer = report(path, tmp_path / "copy.db")
    assert not answer.files[0].error
    copy = apsw.Connection(str(tmp_path / "copy.db"))
    assert copy.execute("SELECT text FROM fact").fetchall() == [("committed",)]
    copy.close()


def test_a_destination_that_cannot_be_written_is_the_destinations_fault(
    database: Path, tmp_path: Path
) -> None:
    """Blaming the source would let a checkpoint succeed without it."""
    answer = report(database, tmp_path / "no such directory" / "copy.db")
    assert answer.failure
    assert not answer.files


def test_it_does_not_outlive_its_daemon(database: Path, tmp_path: Path) -> None:
    """Started by a daemon that is gone by now, it dies before it touches anything."""
    done = subprocess.run(
        [sys.executable, "-m", "epad.copying.sqlite_copy", str(database), str(tmp_path / "copy.db")],
        env={PARENT_VARIABLE: "1"},
        check=False,
    )
    assert done.returncode == -9
    assert not (tmp_path / "copy.db").exists()
