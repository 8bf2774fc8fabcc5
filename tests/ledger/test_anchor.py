"""Heads say what was committed, survive a torn write, and are never signed over a history they contradict."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from ledger_world import closing, fill, keeping_of, open_ledger, opening, places, stored
from patience import PATIENCE_SECONDS

from epad.ledger.anchor import Anchor, read_heads
from epad.ledger.errors import HeadError, LedgerUnavailableError
from epad.ledger.full_verification import verify_everything
from epad.ledger.head import Head, Signer, Verifier, load_or_make_key
from epad.ledger.loss import Missing
from epad.ledger.paths import Places
from epad.ledger.verify import Verdict, verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def change(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.close()


def test_a_head_reads_back_and_no_byte_of_it_can_change() -> None:
    """Text a person can read, signed; each changed character makes it unbelievable."""
    signer = Signer(bytes(32))
    head = Head(7, b"r" * 32, b"l" * 32, 5)
    note = signer.sign(head)
    verifier = Verifier([signer.verifier_key])

    assert note.startswith("epad/ledger\n7\n")
    assert verifier.read(note) == head
    text = note.rpartition("\n\n")[0]
    for at in range(len(text)):
        with pytest.raises(HeadError):
            verifier.read(note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :])
    for at in range(len(note)):  # nor of the line that signs it, to the last bit that base64 does not need
        for bit in range(7):
            with pytest.raises(HeadError):
                verifier.read(note[:at] + chr(ord(note[at]) ^ 1 << bit) + note[at + 1 :])
    with pytest.raises(HeadError):
        Verifier([Signer(b"x" * 32).verifier_key]).read(note)


def test_the_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    """The same key every time; one that is no key is said to be so."""
    path = tmp_path / "keys/ledger.key"
    first = load_or_make_key(path).verifier_key
    assert load_or_make_key(path).verifier_key == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("c2hvcnQ=\n")
    with pytest.raises(HeadError, match="no Ed25519 key"):
        load_or_make_key(path)
    path.write_text("c2hvcnQ")  # what is cut is not even base64
    with pytest.raises(HeadError, match=f"{path}: no Ed25519 key .*; restore it"):
        load_or_make_key(path)


def test_systemd_may_hand_the_key_in(tmp_path: Path) -> None:
    """A credential of that name comes before the state directory."""
    (tmp_path / "credentials").mkdir()
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert Places.under(tmp_path, environment).key == tmp_path / "keys/ledger.key"
    (tmp_path / "credentials/ledger.key").write_text("")
    assert Places.under(tmp_path, environment).key == tmp_path / "credentials/ledger.key"


async def test_a_closed_ledger_is_anchored_to_its_last_record(path: Path) -> None:
    """The head speaks of all records; the same links, the same root derived anew."""
    await fill(path, 30, places(path))

    newest = read_heads(places(path).anchor).newest
    assert newest is not None
    assert (newest.size, newest.link) == (61, stored(path, 61)[7])
    assert verify_everything(path, places(path), full=True).words() == "OK"
    await fill(path, 5, places(path), first=100)
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_records_after_the_newest_head_are_counted(path: Path) -> None:
    """What no head speaks of yet is no fault, and is said."""
    await fill(path, 3, places(path))
    await fill(path, 2, first=10)

    report = verify(path, anchor=places(path).anchor)
    assert report.words() == "UNANCHORED_TAIL(5)"
    assert report.verdict.is_sound
    shutil.rmtree(places(path).anchor)
    assert verify(path, anchor=places(path).anchor).words() == "UNANCHORED_TAIL(12)"


async def test_a_ledger_without_heads_is_taken_up(path: Path) -> None:
    """One from before there were heads gets one when it is opened."""
    await fill(path, 3)
    assert verify(path, anchor=places(path).anchor).words() == "OK"
    await fill(path, 1, places(path), first=10)
    assert read_heads(places(path).anchor).newest is not None
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_a_torn_note_in_the_log_is_no_fault(path: Path) -> None:
    """A crash in the middle of a write: the note is dropped, and the next stands alone."""
    await fill(path, 3, places(path))
    log = places(path).anchor / "heads.log"
    before = len(read_heads(places(path).anchor).known)
    with log.open("ab") as file:
        file.write(log.read_bytes()[:70])

    heads = read_heads(places(path).anchor)
    assert (len(heads.known), heads.faults) == (before, ())
    await fill(path, 3, places(path), first=10)
    heads = read_heads(places(path).anchor, None)
    assert heads.faults == ()
    assert len(heads.known) > before


async def test_a_truncated_ledger_goes_on_behind_what_was_signed(path: Path, tmp_path: Path) -> None:
    """The missing end becomes a gap; no head is signed over it; a copy fills it, and heads go on."""
    await fill(path, 10, places(path))
    copy = Path(shutil.copy(path, tmp_path / "copy.db"))
    change(path, "DELETE FROM record WHERE seq > 18")
    assert verify(path, anchor=places(path).anchor).words() == "TRUNCATED(3)"

    ledger = await open_ledger(path, places(path))
    assert ledger.records == 22
    assert "missing" in ledger.trouble
    with pytest.raises(
        LedgerUnavailableError, match="records 19 to 21 of the ledger were signed and are gone"
    ):
        await ledger.open_turn(opening(50))
    report = verify(path, anchor=places(path).anchor)
    assert report.words() == "CORRUPT(19, gap)"
    outcome = await ledger.repair(report, [copy])
    assert outcome.restored == (19, 20, 21)
    assert ledger.trouble == ""
    await ledger.open_turn(opening(50))
    await ledger.close_turn(closing(50))
    await ledger.close()
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_what_no_copy_gives_back_is_lost_on_record_and_heads_go_on(path: Path) -> None:
    """The repair says which records are lost; heads before it are excused, those after it are not."""
    await fill(path, 10, places(path))
    change(path, "DELETE FROM record WHERE seq > 18")
    ledger = await open_ledger(path, places(path))
    outcome = await ledger.repair(verify(path, anchor=places(path).anchor), [])
    assert outcome.lost == (19, 20, 21)
    assert await ledger.accept_loss("a test") == Missing(19, 21)
    await ledger.close()

    report = verify_everything(path, places(path), full=True)
    assert (report.words(), report.tombstones) == ("OK", 3)
    await fill(path, 2, places(path), first=100)
    assert verify_everything(path, places(path), full=True).words() == "OK"
    change(path, "DELETE FROM record WHERE seq > 25")
    assert verify(path, anchor=places(path).anchor).verdict is Verdict.TRUNCATED


async def test_a_fork_is_never_signed(path: Path, tmp_path: Path) -> None:
    """A ledger that contradicts its heads is written on, fork and all, under no new head."""
    await fill(path, 5, places(path))
    older = Path(shutil.copy(path, tmp_path / "older.db"))
    await fill(path, 5, places(path), first=10)
    shutil.copy(older, path)
    await fill(path, 20, first=100)
    newest = read_heads(places(path).anchor).newest

    ledger = await open_ledger(path, places(path))
    assert "signed" in ledger.trouble
    await ledger.open_turn(opening(500))
    await ledger.close()
    assert read_heads(places(path).anchor).newest == newest
    assert verify(path, anchor=places(path).anchor).words() == "FORKED(12)"


async def test_damaged_heads_are_put_aside_by_a_repair(path: Path) -> None:
    """The log still vouches; the damaged file is kept under another name."""
    await fill(path, 5, places(path))
    head = places(path).anchor / "head"
    head.write_text(head.read_text().replace("epad/ledger\n1", "epad/ledger\n9"))
    ledger = await open_ledger(path, places(path))
    log = places(path).anchor / "heads.log"
    log.write_bytes(log.read_bytes().replace(b"link", b"lonk", 1))
    report = verify(path, anchor=places(path).anchor)
    assert "head" in {fault.kind for fault in report.faults}

    await ledger.repair(report, [])
    await ledger.close()
    assert verify_everything(path, places(path), full=True).words() == "OK"
    assert (places(path).anchor / "heads.log.damaged").exists()


async def test_a_new_key_does_not_unsay_what_the_old_one_signed(path: Path) -> None:
    """Both keys are believed, so the history under the first stays vouched for."""
    await fill(path, 5, places(path))
    places(path).key.unlink()
    await fill(path, 5, places(path), first=10)

    assert len((places(path).anchor / "ledger.pub").read_text().split()) == 2
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_a_head_that_cannot_be_written_shuts_the_door_until_it_can_be(path: Path) -> None:
    """The probe is told why the tail is not anchored; the head is tried again though no record comes."""
    ledger = await open_ledger(path, places(path), head_records=1)
    keeper = keeping_of(ledger)._keeper
    assert keeper is not None

    def refuse(*_: object, **__: object) -> None:
        raise HeadError("no space left")

    whole = keeper._anchor
    keeper._anchor = type("Broken", (Anchor,), {"write": refuse})(places(path), Signer(bytes(32)))
    assert await ledger.open_turn(opening(1)) == 2
    await until(ledger.shut)
    assert "no space" in ledger.trouble
    with pytest.raises(LedgerUnavailableError, match="no space left; nothing would show"):
        await ledger.open_turn(opening(2))
    keeper._head_seconds, keeper._anchor = 0.01, whole
    await until(lambda: not ledger.shut())
    assert await ledger.open_turn(opening(3)) == 3
    await ledger.close()
    assert verify_everything(path, places(path), full=True).words() == "OK"


def test_a_head_logged_while_the_log_is_measured_is_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads are written by one thread and looked after by others; so is a repair. What is cut then is found."""
    anchor = Anchor.open(Places.under(tmp_path, {}))
    measure = anchor._size_of_log
    meanwhile: list[Callable[[], None]] = []

    def measured() -> int:
        size = measure()
        while meanwhile:
            meanwhile.pop()()
        return size

    monkeypatch.setattr(anchor, "_size_of_log", measured)
    meanwhile.append(lambda: anchor.write(Head(1, b"r" * 32, b"l" * 32, 5), log=True))
    assert anchor.loss() == ""
    log = tmp_path / "anchor/heads.log"
    log.unlink()
    meanwhile.append(anchor.mend)
    assert anchor.loss() == ""
    os.truncate(log, 10)
    assert f"{log} was cut from " in anchor.loss()


async def test_a_log_of_heads_that_was_cut_shuts_the_door_until_a_repair_has_mended_it(path: Path) -> None:
    """What can be believed of it is written again; a log that grows is no news."""
    await fill(path, 5, places(path))
    ledger = await open_ledger(path, places(path), head_records=1)
    log = places(path).anchor / "heads.log"
    await ledger.open_turn(opening(50))
    assert ledger.shut() == ""
    os.truncate(log, 100)
    assert re.search(f"{log} was cut from [0-9]+ to 100 bytes", ledger.shut())
    with pytest.raises(LedgerUnavailableError, match="heads in between are lost"):
        await ledger.open_turn(opening(51))
    await ledger._writer.call(keeping_of(ledger)._anchor.mend)
    assert ledger.shut() == ""
    await ledger.open_turn(opening(52))
    await ledger.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.005)
