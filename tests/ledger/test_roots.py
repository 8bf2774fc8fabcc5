"""The roots over epad's own stores, as the ledger has them, and the turns that are held against a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger_world import open_ledger, turn_id

from epad.ledger.entry import CloseTool, NoteRoot, OpenTool
from epad.ledger.errors import LedgerError, RecordError
from epad.ledger.record import Effect, ToolOutcome
from epad.ledger.roots import restores_taken, roots_of, turns_named


def root(size: int, cause: str = "batch", store: str = "vault", by: str = "") -> NoteRoot:
    return NoteRoot(store, size, bytes([size] * 32), cause, by)


def tool_opening(number: int) -> OpenTool:
    return OpenTool(
        turn_id(number), "chat", "memory_store", "s1", 2, "W0", 0, "W0/NORMAL", bytes(32), bytes(32)
    )


async def test_roots_are_read_from_the_newest_baseline_on(tmp_path: Path) -> None:
    """Of one store, oldest first; a restore that was taken is known for longer."""
    ledger = await open_ledger(tmp_path / "ledger.db")
    for one in (root(1), root(2, "restored", by="checkpoint a"), root(3), root(9, store="other")):
        await ledger.note_root(one)
    assert [one.size for one in await ledger.read(lambda db: roots_of(db, "vault"))] == [2, 3]
    await ledger.note_root(root(4, "accepted"))
    assert [one.size for one in await ledger.read(lambda db: roots_of(db, "vault"))] == [4]
    assert await ledger.read(lambda db: restores_taken(db, "vault")) == {"checkpoint a"}
    await ledger.close()


def test_a_root_has_the_size_of_a_digest() -> None:
    with pytest.raises(RecordError, match="not 32"):
        NoteRoot("vault", 1, b"short", "batch")


async def test_a_turn_is_known_by_its_opening_and_its_effect(tmp_path: Path) -> None:
    """One that failed leaves open what it did; one of nobody is not opened; one of long before a root is before it."""
    ledger = await open_ledger(tmp_path / "ledger.db")
    done, failed = tool_opening(1), tool_opening(2)
    for opened in (done, failed):
        await ledger.open_tool(opened)
    effects = (Effect("vault", bytes(32), bytes([7] * 32)),)
    await ledger.close_tool(
        CloseTool(done.turn, done.subsystem, done.tool, done.session, ToolOutcome.DONE, effects=effects)
    )
    await ledger.close_tool(
        CloseTool(failed.turn, failed.subsystem, failed.tool, failed.session, ToolOutcome.FAILED)
    )
    names = [done.turn, failed.turn, "f" * 32]
    turns = await ledger.read(lambda db: turns_named(db, names, "vault"))
    assert turns[done.turn].is_done
    assert turns[done.turn].after == "07" * 32
    assert turns[failed.turn].is_opened
    assert not turns[failed.turn].is_done
    assert not turns["f" * 32].is_opened

    clock = ledger._appender._clock
    clock.advance(60)  # type: ignore[attr-defined]
    await ledger.note_root(root(1))
    later = await ledger.read(lambda db: turns_named(db, names, "vault"))
    assert later[done.turn].is_before
    await ledger.close()


async def test_a_root_is_refused_as_all_else_is(tmp_path: Path) -> None:
    """Where the ledger takes nothing."""
    ledger = await open_ledger(tmp_path / "ledger.db")
    ledger.guard(lambda: "its file is gone")
    with pytest.raises(LedgerError, match="gone"):
        await ledger.note_root(root(1))
    ledger.guard(str)
    await ledger.close()
