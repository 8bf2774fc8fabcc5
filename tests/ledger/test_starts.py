"""The count of openings in two places: each pair of counts that a kill can leave, and each that only a loss can."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from epad.ledger import starts as module
from epad.ledger.paths import ANY_STARTS
from epad.ledger.starts import BESIDE_A_LEDGER, START_SCHEMA, Starts
from epad.storage.database import Database, DatabaseError, connect
from statemachine.clock import ManualClock

TABLE = START_SCHEMA + "CREATE TABLE IF NOT EXISTS t(x);"


@asynccontextmanager
async def life(home: Path, *, ledger_is_new: bool = False, orderly: bool = True) -> AsyncIterator[Starts]:
    """The stores open, as a daemon has them, and closed in order or not."""
    database = Database(home / "state.db", TABLE, "" if ledger_is_new else BESIDE_A_LEDGER)
    await database.open()
    starts = Starts(database, home / "anchor", ManualClock())
    await starts.begin(ledger_is_new=ledger_is_new)
    yield starts
    if orderly:
        await starts.count()
    await database.close()


async def lived(home: Path, lives: int = 1) -> None:
    for number in range(lives):
        async with life(home, ledger_is_new=number == 0) as starts:
            assert starts.lost == ""


async def lost(home: Path) -> str:
    """What the next start says; it changes nothing, so the one after says it again."""
    said = []
    for _ in range(2):
        async with life(home) as starts:
            said.append(starts.lost)
    assert said[0] == said[1] or not said[0]
    return said[0]


def older(home: Path, name: str) -> None:
    shutil.copyfile(home / name, home / f"{name}.older")


def put_back(home: Path, name: str) -> None:
    (home / f"{name}.older").replace(home / name)


async def test_openings_and_closings_are_counted(tmp_path: Path) -> None:
    """Two each life; one where it was killed."""
    await lived(tmp_path, 2)
    async with life(tmp_path, orderly=False) as starts:
        assert starts.sentence == ""
    assert json.loads((tmp_path / "anchor").read_bytes())["count"] == 5


@pytest.mark.parametrize("steps", range(4))
async def test_killed_at_any_step_of_a_count_the_next_start_finds_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """In the first count there is and in a later one."""
    for lives in (0, 2):
        home = tmp_path / str(lives)
        home.mkdir()
        await lived(home, lives)
        with monkeypatch.context() as patch:
            _kill_after(patch, steps)
            with pytest.raises(_KilledError):
                async with life(home, ledger_is_new=lives == 0, orderly=False):
                    pass
        assert await lost(home) == ""


class _KilledError(BaseException):
    """The daemon is gone."""


def _kill_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    left, write, write_anchor = steps, Database.write, Starts._write_anchor

    def go_on() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _KilledError

    async def some(self: Database, work: Any) -> Any:
        go_on()
        return await write(self, work)

    def some_anchor(self: Starts, counted: Any) -> None:
        go_on()
        write_anchor(self, counted)

    patch.setattr(Database, "write", some)
    patch.setattr(Starts, "_write_anchor", some_anchor)
    if steps == 3:  # all of it is done, and then
        patch.setattr(Database, "read", _after_the_write(Database.read))


def _after_the_write(read: Any) -> Any:
    async def some(self: Database, work: Any) -> Any:
        if work is module._changes:
            raise _KilledError
        return await read(self, work)

    return some


async def test_an_older_state_database_is_known_and_named(tmp_path: Path) -> None:
    """Of the life before, and of this one before the last count; with the moment it is from."""
    await lived(tmp_path)
    older(tmp_path, "state.db")
    await lived(tmp_path)
    put_back(tmp_path, "state.db")
    said = await lost(tmp_path)
    assert "state.db knows of 2 opening(s)" in said
    assert "the anchor of 4 opening(s)" in said
    assert "money spent" in said
    async with life(tmp_path) as starts:
        assert "accept-loss" in starts.sentence


async def test_a_state_database_that_is_gone_is_known(tmp_path: Path) -> None:
    await lived(tmp_path)
    (tmp_path / "state.db").unlink()
    assert "state.db is new, and the anchor of 2 opening(s)" in await lost(tmp_path)


@pytest.mark.parametrize("text", [None, "older", "", "{", '{"count":0}'])
async def test_an_anchor_that_is_older_gone_or_no_count_is_known(tmp_path: Path, text: str | None) -> None:
    """Its heads are as old as its count."""
    await lived(tmp_path)
    older(tmp_path, "anchor")
    await lived(tmp_path)
    if text == "older":
        put_back(tmp_path, "anchor")
    elif text is None:
        (tmp_path / "anchor").unlink()
    else:
        (tmp_path / "anchor").write_text(text)
    said = await lost(tmp_path)
    assert said.startswith("the ledger's anchor knows of")
    assert "state.db of 4 opening(s)" in said


async def test_both_gone_beside_a_ledger_that_is_not_new_are_known(tmp_path: Path) -> None:
    await lived(tmp_path)
    for name in ("state.db", "anchor"):
        (tmp_path / name).unlink()
    async with life(tmp_path, ledger_is_new=True, orderly=False) as starts:
        assert starts.lost == ""
    for name in ("state.db", "anchor"):
        (tmp_path / name).unlink()
    for _ in range(2):
        async with life(tmp_path, ledger_is_new=False) as starts:
            assert "both were deleted" in starts.lost
    async with life(tmp_path) as starts:
        assert await starts.accept() != ""
    assert await lost(tmp_path) == ""


@pytest.mark.parametrize("made", [True, False], ids=["state.db was made", "it was begun"])
async def test_killed_before_both_are_compared_the_next_start_knows_it_still(
    tmp_path: Path, made: bool
) -> None:
    """The state.db that it finds then has its tables, or nothing but its first page, and is new all the same."""
    await lived(tmp_path)
    for name in ("state.db", "anchor"):
        (tmp_path / name).unlink()
    if made:
        database = Database(tmp_path / "state.db", TABLE, BESIDE_A_LEDGER)
        await database.open()
        await database.close()
    else:
        connect(tmp_path / "state.db").close()
        assert (tmp_path / "state.db").stat().st_size > 0
    assert "both were deleted" in await lost(tmp_path)


async def test_an_anchor_that_vouches_for_nothing_is_no_first_start(tmp_path: Path) -> None:
    """It was cut short, and state.db is gone."""
    await lived(tmp_path)
    (tmp_path / "state.db").unlink()
    (tmp_path / "anchor").write_text("{")
    assert "state.db is new" in await lost(tmp_path)


async def test_a_state_from_before_there_was_a_count_begins_to_be_counted(tmp_path: Path) -> None:
    """An upgrade is no loss."""
    database = Database(tmp_path / "state.db", "CREATE TABLE t(x);")
    await database.open()
    await database.close()
    assert await lost(tmp_path) == ""


async def test_what_a_person_gives_up_is_counted_on_from(tmp_path: Path) -> None:
    """Until then no stop and no start changes either count; afterwards both agree."""
    await lived(tmp_path, 2)
    (tmp_path / "state.db").unlink()
    async with life(tmp_path) as starts:
        before = (tmp_path / "anchor").read_bytes()
    async with life(tmp_path) as starts:
        assert (tmp_path / "anchor").read_bytes() == before
        assert await starts.accept() != ""
        assert starts.sentence == ""
        assert await starts.accept() == ""
    assert await lost(tmp_path) == ""


async def test_a_restore_is_a_persons_word(tmp_path: Path) -> None:
    """It leaves a count in the anchor that any state.db agrees with, once."""
    await lived(tmp_path)
    older(tmp_path, "state.db")
    await lived(tmp_path, 2)
    put_back(tmp_path, "state.db")
    (tmp_path / "anchor").write_bytes(ANY_STARTS)
    older(tmp_path, "state.db")
    assert await lost(tmp_path) == ""
    put_back(tmp_path, "state.db")
    assert await lost(tmp_path) != ""


async def test_it_is_counted_on_while_state_db_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a copy of an hour ago is known after a kill as well; where nothing has changed nothing is written."""
    turns = 0

    async def minute(_: float) -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            raise _KilledError
        if turns == 2:
            await starts._database.write(lambda c: c.execute("INSERT INTO t VALUES (1)"))

    monkeypatch.setattr(module, "sleep_to_beat", minute)
    async with life(tmp_path, ledger_is_new=True, orderly=False) as starts:
        with pytest.raises(_KilledError):
            await starts.run()
    assert json.loads((tmp_path / "anchor").read_bytes())["count"] == 2


async def test_an_anchor_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db", TABLE)
    await database.open()
    starts = Starts(database, tmp_path / "gone" / "starts", ManualClock())
    with pytest.raises(DatabaseError, match="gone/starts: No such file"):
        await starts.begin(ledger_is_new=True)
    await database.close()
