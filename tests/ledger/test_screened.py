"""Labels of turns in the ledger: found by their turn, verified, exported; a turn stays open beside its label."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

from ledger_world import closing, flip, open_ledger, opening, turn_id

from epad.ledger.entry import NoteScreened
from epad.ledger.export import records_from, spans_from
from epad.ledger.query import unclosed_turns
from epad.ledger.record import Screening
from epad.ledger.rows import open_reader
from epad.ledger.screened import screening_of
from epad.ledger.store import Ledger
from epad.ledger.verify import Verdict, verify

SOUND = {Verdict.OK, Verdict.UNANCHORED_TAIL}
HASH = bytes(range(32))


def noted(*numbers: int, version: int = 3) -> NoteScreened:
    each = tuple(Screening(turn_id(one), "chat", "attack", "injection", 900 + one) for one in numbers)
    return NoteScreened(each, version, HASH)


async def written(path: Path) -> Ledger:
    """Three turns; the last is screened and never closed, and one of the labels is of a turn that nobody opened."""
    ledger = await open_ledger(path)
    for number in (1, 2, 3):
        await ledger.open_turn(opening(number))
    await ledger.note_screened(noted(1, 2))
    await ledger.close_turn(closing(1))
    await ledger.close_turn(closing(2))
    await ledger.note_screened(noted(3, 9, version=4))
    return ledger


async def test_a_label_is_found_by_its_turn(tmp_path: Path) -> None:
    """In a record that it shares with others; none for a turn without one."""
    ledger = await written(tmp_path / "ledger.db")
    found = [await ledger.read(partial(screening_of, turn=turn_id(number))) for number in (1, 3, 4, 9)]
    await ledger.close()
    assert [one and (one.screening.score, one.version) for one in found] == [(901, 3), (903, 4), None, None]


async def test_a_screened_turn_is_still_open_until_it_is_closed(tmp_path: Path) -> None:
    """Its reservation counts in full at the next start: a label closes nothing."""
    ledger = await written(tmp_path / "ledger.db")
    await ledger.close()
    with contextlib.closing(open_reader(tmp_path / "ledger.db")) as db:
        assert [one.turn for one in unclosed_turns(db)] == [turn_id(3)]
        assert len(list(spans_from(db))) == 3
        shown = [one.fields() for one in records_from(db, 1) if one.fields()["kind"] == "screened"]
    assert shown[0]["screenings"][0] == [turn_id(1), "chat", "attack", "injection", 901]
    assert shown[0]["training_sha256"] == HASH.hex()
    assert verify(tmp_path / "ledger.db").verdict in SOUND


async def test_a_changed_label_is_found(tmp_path: Path) -> None:
    """It is in the chain like the rest, and a damaged one is not shown."""
    ledger = await written(tmp_path / "ledger.db")
    await ledger.close()
    flip(tmp_path / "ledger.db", b"injection", 0)
    assert verify(tmp_path / "ledger.db").verdict not in SOUND
    with contextlib.closing(open_reader(tmp_path / "ledger.db")) as db:
        assert screening_of(db, turn_id(1)) is None
