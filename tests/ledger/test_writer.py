"""The writer's thread: what waits, what is answered, and that no error ends it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from ledger_world import config, opening

from epad.ledger.entry import Entry, NoteAudit, NoteRoot, NoteScreened, NoteSession
from epad.ledger.errors import LedgerBusyError, LedgerError, LedgerUnavailableError
from epad.ledger.writer import Writer

pytestmark = pytest.mark.timeout(20)


class Disk:
    """What a writer writes to: it numbers entries, and can be told to fail or to hang."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.error: Exception | None = None
        self.followed = 0
        self.follower_fails = False
        self.moves = threading.Event()
        self.moves.set()

    def write(self, entries: list[Entry]) -> list[Any]:
        self.moves.wait()
        if self.error is not None:
            raise self.error
        before = sum(map(len, self.commits))
        self.commits.append(
            [
                entry.turn
                for entry in entries
                if not isinstance(entry, NoteSession | NoteAudit | NoteRoot | NoteScreened)
            ]
        )
        return list(range(before + 1, before + 1 + len(entries)))

    def committed(self) -> None:
        self.followed += 1
        if self.follower_fails:
            raise RuntimeError("can't start new thread")


def made(disk: Disk, **changes: float) -> Writer:
    writer = Writer(Path("ledger.db"), config(**changes), disk.write, disk.committed)
    writer.start()
    return writer


def ask(writer: Writer, number: int) -> asyncio.Future[int]:
    future = writer.append(opening(number))
    writer.hand_over_soon()
    return future


@pytest.mark.parametrize(
    "error", [LedgerError("this disk"), OSError(5, "this disk"), ValueError("this disk")]
)
async def test_an_error_is_the_answer_of_each_of_its_commit_and_of_no_other(error: Exception) -> None:
    """Each caller gets an error of its own: one that is raised twice would grow its traceback."""
    disk = Disk()
    writer = made(disk)
    disk.error = error
    answers = await asyncio.gather(ask(writer, 1), ask(writer, 2), return_exceptions=True)
    assert all(isinstance(answer, LedgerError) and "this disk" in str(answer) for answer in answers)
    assert answers[0] is not answers[1]
    disk.error = None
    assert await ask(writer, 3) == 1
    assert (writer.waiting, writer.commits) == (0, 1)
    await writer.close(lambda: None)


async def test_whoever_follows_the_commits_cannot_end_the_thread() -> None:
    """The records are on the disk, and later ones are written too."""
    disk = Disk()
    disk.follower_fails = True
    writer = made(disk)
    assert [await ask(writer, number) for number in (1, 2)] == [1, 2]
    assert await writer.call(lambda: "done") == "done"
    assert disk.followed == 3
    await writer.close(lambda: None)


async def test_a_disk_that_hangs_costs_as_many_records_as_may_wait() -> None:
    """Later ones are refused at once, and what waited is written when the disk moves again."""
    disk = Disk()
    disk.moves.clear()
    writer = made(disk, waiting_turns=4)
    waiting = [ask(writer, number) for number in range(4)]
    await asyncio.sleep(0)
    for number in range(4, 50):
        with pytest.raises(LedgerBusyError, match="records wait for the disk"):
            await ask(writer, number)
    assert writer.waiting == 4
    disk.moves.set()
    assert await asyncio.gather(*waiting) == [1, 2, 3, 4]
    assert writer.waiting == 0
    await writer.close(lambda: None)


@pytest.mark.parametrize("state", ["gathered", "handed over", "in a commit"])
async def test_a_record_is_written_wherever_its_caller_was_cancelled(state: str) -> None:
    """As the table at the head of the file says; nobody else's answer is another."""
    disk = Disk()
    if state == "in a commit":
        disk.moves.clear()
    writer = made(disk)
    future = writer.append(opening(1))
    if state != "gathered":
        writer.hand_over_soon()
        await asyncio.sleep(0)
    future.cancel()
    disk.moves.set()
    assert await ask(writer, 2) == 2
    assert [turn for commit in disk.commits for turn in commit] == [opening(1).turn, opening(2).turn]
    assert writer.waiting == 0
    await writer.close(lambda: None)


async def test_a_call_comes_behind_the_records_before_it_though_its_caller_is_cancelled() -> None:
    disk = Disk()
    disk.moves.clear()
    writer = made(disk)
    first = writer.append(opening(1))
    seen: list[int] = []
    call = asyncio.ensure_future(writer.call(lambda: seen.append(len(disk.commits))))
    await asyncio.sleep(0)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    disk.moves.set()
    assert await first == 1
    assert await writer.call(lambda: "called") == "called"
    assert seen == [1]
    await writer.close(lambda: None)


async def test_a_cancelled_closing_is_done_and_waited_for_all_the_same() -> None:
    """What was gathered is on the disk, the last work is done, the thread is gone, and nothing more is taken."""
    disk = Disk()
    disk.moves.clear()
    writer = made(disk)
    gathered = writer.append(opening(1))
    last: list[str] = []
    closing = asyncio.ensure_future(writer.close(lambda: last.append("last")))
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.sleep(0)
    assert last == []
    disk.moves.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert (last, await gathered) == (["last"], 1)
    assert "ledger" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(LedgerUnavailableError, match="is closed"):
        await ask(writer, 2)
