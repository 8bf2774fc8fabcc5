"""One file, one connection, one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from epad.storage import database as module
from epad.storage.database import Database, DatabaseError, connect, fetch

SCHEMA = "CREATE TABLE IF NOT EXISTS note(text TEXT NOT NULL) STRICT;"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "it.db", SCHEMA)
    await database.open()
    yield database
    await database.close()


def insert(text: str | None) -> Callable[[apsw.Connection], object]:
    return lambda connection: connection.execute("INSERT INTO note VALUES (?)", (text,))


def texts(connection: apsw.Connection) -> list[str]:
    return [row[0] for row in fetch(connection, "SELECT text FROM note ORDER BY rowid")]


async def test_what_is_written_is_there_in_the_next_life(tmp_path: Path) -> None:
    """And the tables are made once."""
    for expected in ([], ["one"]):
        database = Database(tmp_path / "it.db", SCHEMA)
        await database.open()
        assert await database.read(texts) == expected
        await database.write(insert("one"))
        await database.close()


async def test_a_write_is_whole_or_not_at_all(database: Database) -> None:
    """Whatever goes wrong in the middle of it, in SQL or not."""

    def half(connection: apsw.Connection) -> None:
        insert("half")(connection)
        insert(None)(connection)

    def bug(connection: apsw.Connection) -> None:
        insert("half")(connection)
        raise ZeroDivisionError

    with pytest.raises(DatabaseError, match=r"it\.db: .*NOT NULL"):
        await database.write(half)
    with pytest.raises(ZeroDivisionError):
        await database.write(bug)
    assert await database.read(texts) == []


async def test_work_is_done_in_the_order_it_was_asked_for_in_one_thread(database: Database) -> None:
    """However many ask at once."""
    threads = set()

    def work(number: int) -> Callable[[apsw.Connection], None]:
        def run(connection: apsw.Connection) -> None:
            threads.add(threading.current_thread().name)
            insert(str(number))(connection)

        return run

    await asyncio.gather(*(database.write(work(number)) for number in range(50)))
    assert await database.read(texts) == [str(number) for number in range(50)]
    assert threads == {"db-it_0"}


async def test_the_loop_does_not_wait_for_the_disk(database: Database) -> None:
    """A stalled write stalls its caller alone."""
    stalled = threading.Event()
    writing = asyncio.create_task(database.write(lambda _: stalled.wait(20)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not writing.done()
    stalled.set()
    await writing


async def test_close_finishes_what_was_asked_for(tmp_path: Path) -> None:
    """A write whose caller has gone reaches the disk all the same."""
    database = Database(tmp_path / "it.db", SCHEMA)
    await database.open()
    stalled = threading.Event()
    tasks = [
        asyncio.create_task(database.read(lambda _: stalled.wait(20))),
        asyncio.create_task(database.write(insert("late"))),
    ]
    await asyncio.sleep(0)
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0)
    stalled.set()
    await closing
    await asyncio.gather(*tasks)
    connection = connect(tmp_path / "it.db", readonly=True)
    assert texts(connection) == ["late"]
    connection.close()


async def test_a_closed_file_says_so(tmp_path: Path) -> None:
    """Before it is opened, too."""
    database = Database(tmp_path / "it.db", SCHEMA)
    with pytest.raises(DatabaseError, match=r"it\.db is not open"):
        await database.read(texts)
    await database.close()


async def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A directory that is not there; a file that is no database."""
    with pytest.raises(DatabaseError, match=r"missing/it\.db"):
        await Database(tmp_path / "missing" / "it.db", SCHEMA).open()
    (tmp_path / "text.db").write_text("this is no database, and longer than a header " * 20)
    database = Database(tmp_path / "text.db", SCHEMA)
    with pytest.raises(DatabaseError, match=r"text\.db: .*not a database"):
        await database.open()


async def test_it_is_durable_and_strict(database: Database) -> None:
    """WAL and synchronous=FULL: what is journalled survives a power cut."""
    assert await database.read(lambda c: c.pragma("journal_mode")) == "wal"
    assert await database.read(lambda c: c.pragma("synchronous")) == 2
    assert await database.read(lambda c: c.pragma("trusted_schema")) == 0


async def test_a_reader_writes_nothing(database: Database, tmp_path: Path) -> None:
    """Nor does it need to."""
    await database.write(insert("one"))
    connection = connect(tmp_path / "it.db", readonly=True)
    assert texts(connection) == ["one"]
    with pytest.raises(apsw.ReadOnlyError):
        insert("two")(connection)
    connection.close()


def test_an_sqlite_that_damages_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the fix is named."""
    assert tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) >= module.MINIMUM_SQLITE
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(DatabaseError, match="install apsw"):
        connect(tmp_path / "it.db")
