"""Sessions read back out of the ledger: their beginning and end, and their turns page by page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw
import pytest
from ledger_world import closing, open_ledger, opening, turn_id

from epad.ledger import session_trace
from epad.ledger.entry import CloseTool, NoteSession, OpenTool
from epad.ledger.export import spans_from
from epad.ledger.record import ToolOpened, ToolOutcome
from epad.ledger.session_trace import KnownSession, TracedTurn
from epad.ledger.store import Ledger

T = TypeVar("T")
HASH = bytes(32)
NAMES = ("a" * 32, "b" * 32, "c" * 32)


class Book:
    """A ledger that a test writes turns of agents into."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def session(self, name: str, *, began: bool = True, subsystem: str = "chat") -> None:
        await self.ledger.note_session(NoteSession(name, subsystem, began, 2, by="configuration"))

    async def model(self, number: int, *, subsystem: str = "chat") -> None:
        await self.ledger.open_turn(opening(number, subsystem=subsystem))
        await self.ledger.close_turn(closing(number, subsystem=subsystem))

    async def tool(
        self, number: int, session: str, *, parent: str = "", ends: bool = True, subsystem: str = "chat"
    ) -> None:
        turn = turn_id(number)
        opened = OpenTool(turn, subsystem, "file_write", session, 2, "W1", 0, "W1/NORMAL", HASH, HASH, parent)
        await self.ledger.open_tool(opened)
        if ends:
            await self.ledger.close_tool(CloseTool(turn, subsystem, "file_write", session, ToolOutcome.DONE))

    async def refusal(self, number: int, session: str) -> None:
        closed = CloseTool(turn_id(number), "chat", "file_delete", session, ToolOutcome.REFUSED, "W2/tier")
        await self.ledger.close_tool(closed)

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        return await self.ledger.read(work)

    async def sessions(self) -> list[KnownSession]:
        return await self.read(lambda db: session_trace.sessions_of(db, "chat"))

    async def turns(self, name: str, most: int = 500) -> list[str]:
        """All turns of a session, as so many pages give them."""
        known = await self.read(lambda db: session_trace.session_named(db, name))
        assert known is not None
        told: list[str] = []
        after = 0
        while True:
            page = await self.read(partial(session_trace.page_of, session=known, after=after, most=most))
            told += [one.any.turn for one in page.turns]
            assert page.after == 0 or page.after > after
            after = page.after
            if not after:
                return told


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    ledger = await open_ledger(tmp_path / "ledger.db")
    yield Book(ledger)
    await ledger.close()


def numbers(*found: int) -> list[str]:
    return [turn_id(number) for number in found]


async def test_a_session_has_the_turns_between_its_beginning_and_its_end(book: Book) -> None:
    """Models' turns before its first tool count from the end of the session before; other subsystems' never do."""
    await book.session(NAMES[0])
    await book.model(1)
    await book.tool(2, NAMES[0], parent=turn_id(1))
    await book.model(3, subsystem="other")
    await book.session(NAMES[0], began=False)
    await book.model(4)
    await book.session(NAMES[1])
    await book.refusal(5, NAMES[1])
    await book.tool(6, NAMES[1], ends=False)

    assert await book.turns(NAMES[0]) == numbers(1, 2)
    assert await book.turns(NAMES[1]) == numbers(4, 5, 6)
    first, second = await book.sessions()
    assert (first.began.session, second.began.session) == (NAMES[0], NAMES[1])
    assert first.ended is not None
    assert second.ended is None


async def test_a_session_without_an_end_ends_before_the_next(book: Book) -> None:
    """A daemon that was killed records no end."""
    await book.session(NAMES[0])
    await book.model(1)
    await book.session(NAMES[1])
    await book.model(2)
    assert await book.turns(NAMES[0]) == numbers(1)
    assert await book.turns(NAMES[1]) == numbers(2)


async def test_a_session_that_is_noted_twice_is_one(book: Book) -> None:
    """A daemon that adopts the process of the one before may note it again."""
    await book.session(NAMES[0])
    await book.tool(1, NAMES[0])
    await book.session(NAMES[0])
    await book.tool(2, NAMES[0])
    assert len(await book.sessions()) == 1
    assert await book.turns(NAMES[0]) == numbers(1, 2)


@pytest.mark.parametrize("scanned", [3, 1000])
@pytest.mark.parametrize("most", [1, 2, 7])
async def test_pages_join_without_a_gap(
    book: Book, most: int, scanned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their size, and where others' turns fill whole pages in between."""
    monkeypatch.setattr(session_trace, "SCANNED_RECORDS", scanned)
    await book.session(NAMES[0])
    for number in range(1, 5):
        await book.model(number)
        await book.tool(number + 10, NAMES[0])
    for number in range(20, 26):
        await book.model(number, subsystem="other")
    await book.tool(30, NAMES[0])
    assert await book.turns(NAMES[0], most) == numbers(1, 11, 2, 12, 3, 13, 4, 14, 30)


async def test_a_turn_is_found_by_its_name(book: Book) -> None:
    """Opened, closed, or both; none of it where nobody has recorded it."""
    await book.tool(1, NAMES[0], ends=False)
    await book.refusal(2, NAMES[0])
    found: list[TracedTurn | None] = [
        await book.read(partial(session_trace.turn_named, turn=turn_id(n))) for n in (1, 2, 3)
    ]
    assert isinstance(found[0] and found[0].opened, ToolOpened)
    assert found[1] is not None
    assert (found[1].opened, found[1].any.turn) == (None, turn_id(2))
    assert found[2] is None


async def test_a_damaged_record_is_left_out(book: Book, tmp_path: Path) -> None:
    """The rest of the session is shown."""
    await book.session(NAMES[0])
    for number in (1, 2, 3):
        await book.tool(number, NAMES[0], ends=False)
    await book.ledger.close()
    with contextlib.closing(apsw.Connection(str(tmp_path / "ledger.db"))) as connection:
        connection.execute("UPDATE record SET body = x'00' WHERE turn = ?", (turn_id(2),))
        known = session_trace.session_named(connection, NAMES[0])
        assert known is not None
        page = session_trace.page_of(connection, known, 0, 10)
    assert [one.any.turn for one in page.turns] == numbers(1, 3)


async def test_spans_of_tools_stand_below_the_models_that_asked(book: Book) -> None:
    """In one trace: the model's turn, the tool's below it, and below that the undo of it."""
    await book.session(NAMES[0])
    await book.model(1)
    await book.tool(2, NAMES[0], parent=turn_id(1))
    await book.tool(3, NAMES[0], parent=turn_id(2))
    await book.tool(4, NAMES[0])
    spans = await book.read(lambda db: list(spans_from(db)))
    names = [span["name"].split()[0] for span in spans]
    assert names == ["chat", "execute_tool", "execute_tool", "execute_tool"]
    assert [span["trace_id"] for span in spans] == [turn_id(1), turn_id(1), turn_id(1), turn_id(4)]
    parents = [span.get("parent_span_id") for span in spans]
    assert parents == [None, spans[0]["span_id"], spans[1]["span_id"], None]
