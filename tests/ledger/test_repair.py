"""What a copy can vouch for comes back; what is lost stays accounted for; nothing is deleted."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import apsw
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_world import cell, closing, config, fill, flip, flipped, open_ledger, opening, stored

from epad.ledger.hashes import link_hash
from epad.ledger.record import Repaired, decode
from epad.ledger.repair import RepairOutcome
from epad.ledger.verify import Scrubber, Verdict, verify
from statemachine.clock import ManualClock

TURNS = 20
RECORDS = 1 + 2 * TURNS


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a closed ledger, to be damaged in copies."""
    path = tmp_path_factory.mktemp("pristine") / "ledger.db"
    asyncio.run(fill(path, TURNS))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, pristine: bytes) -> Path:
    path = tmp_path / "ledger.db"
    path.write_bytes(pristine)
    return path


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    return Path(shutil.copy(path, bundle / "ledger.db"))


def change(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.close()


async def repaired(path: Path, *sources: Path) -> RepairOutcome:
    """Repair by a ledger opened after the damage, and let the chain go on."""
    report = verify(path)
    assert report.verdict is Verdict.CORRUPT
    ledger = await open_ledger(path)
    outcome = await ledger.repair(report, sources)
    await ledger.open_turn(opening(1_000))
    await ledger.close_turn(closing(1_000))
    await ledger.close()
    return outcome


def repair_record(path: Path) -> Repaired:
    """The repair's own record: after the epoch that the repairing ledger began."""
    body = stored(path, RECORDS + 2)[5]
    assert isinstance(body, bytes)
    record = decode(RECORDS + 2, body)
    assert isinstance(record, Repaired)
    return record


@pytest.mark.parametrize("offset", [-70, -40, -1, 3, 34], ids=["body", "leaf", "link", "turn", "subsystem"])
@pytest.mark.parametrize("sequence", [2, 20, RECORDS - 1])
async def test_a_damaged_record_is_restored_from_a_copy(path, copy, sequence, offset):
    """Byte for byte what it was, with the repair on record."""
    before = stored(path, sequence)
    needle = cell(before)
    flip(path, needle, offset % len(needle))

    assert await repaired(path, copy) == RepairOutcome((sequence,), ())
    assert stored(path, sequence) == before
    assert verify(path).verdict is Verdict.OK
    assert repair_record(path).restored == ((sequence, sequence),)


@pytest.mark.parametrize("offset", [-40, -1, 3], ids=["leaf", "link", "turn"])
async def test_what_the_chain_itself_vouches_for_needs_no_copy(path, offset):
    """A body that is whole gives back its leaf, its link and its copied columns."""
    before = stored(path, 20)
    needle = cell(before)
    flip(path, needle, offset % len(needle))

    assert await repaired(path) == RepairOutcome((20,), ())
    assert stored(path, 20) == before


async def test_without_a_copy_the_record_becomes_a_tombstone(path):
    """Its leaf and link stay, the chain verifies, and the damaged bytes are kept in quarantine."""
    before = stored(path, 20)
    needle = cell(before)
    flip(path, needle, len(needle) - 70)
    damaged = stored(path, 20)[5]

    assert await repaired(path) == RepairOutcome((), (20,))
    assert stored(path, 20)[5:] == (None, *before[6:])
    report = verify(path)
    assert (report.verdict, report.tombstones) == (Verdict.OK, 1)
    assert verify(path, first=18, last=22).verdict is Verdict.OK
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    raw = connection.execute("SELECT raw FROM quarantine WHERE seq = 20").fetchone()
    connection.close()
    assert raw is not None
    assert msgspec.msgpack.decode(raw[0])[5] == damaged


async def test_a_tombstone_needs_its_repair_record(path):
    """Emptying a row is not a repair."""
    change(path, "UPDATE record SET body = NULL WHERE seq = 20")

    assert verify(path).verdict is Verdict.CORRUPT


async def test_a_copy_that_the_chain_does_not_bear_out_is_not_believed(path, copy):
    """A copy damaged in the same record cannot restore it."""
    needle = cell(stored(path, 20))
    flip(copy, needle, len(needle) - 71)
    flip(path, needle, len(needle) - 70)

    assert await repaired(path, copy) == RepairOutcome((), (20,))


async def test_a_copy_that_is_no_ledger_is_passed_over(path, copy, tmp_path):
    """One bad source does not keep the next from helping."""
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"garbage" * 1000)
    needle = cell(stored(path, 20))
    flip(path, needle, len(needle) - 70)

    assert await repaired(path, garbage, tmp_path / "missing.db", copy) == RepairOutcome((20,), ())
    assert repair_record(path).source == str(copy)
    assert sorted(child.name for child in copy.parent.iterdir()) == ["ledger.db"]


@pytest.mark.parametrize(("first", "last"), [(20, 20), (18, 22), (1, 3), (RECORDS - 2, RECORDS - 1)])
async def test_missing_records_are_restored_from_a_copy(path, copy, first, last):
    """A gap is filled when the copy's records lead from the one end to the other."""
    before = [stored(path, seq) for seq in range(first, last + 1)]
    change(path, f"DELETE FROM record WHERE seq BETWEEN {first} AND {last}")  # noqa: S608  ours

    assert await repaired(path, copy) == RepairOutcome(tuple(range(first, last + 1)), ())
    assert [stored(path, seq) for seq in range(first, last + 1)] == before
    assert verify(path).verdict is Verdict.OK


async def test_missing_records_without_a_copy_are_accounted_for(path):
    """The gap is on record as lost, and what follows it is checked on its own."""
    change(path, "DELETE FROM record WHERE seq BETWEEN 18 AND 22")

    assert await repaired(path) == RepairOutcome((), (18, 19, 20, 21, 22))
    report = verify(path)
    assert (report.verdict, report.tombstones) == (Verdict.OK, 5)
    assert verify(path, first=20).verdict is Verdict.OK
    change(path, "DELETE FROM record WHERE seq = 30")
    assert {fault.seq for fault in verify(path).faults} == {30}


@pytest.mark.parametrize("with_copy", [True, False])
async def test_a_malformed_page_is_written_anew(path, copy, with_copy):
    """The table is rebuilt, its damaged form kept beside it, and the lost rows restored or accounted for."""
    data = bytearray(path.read_bytes())
    page = data.find(cell(stored(path, 20))) // 4096 * 4096
    data[page : page + 8] = b"\x00" * 8
    path.write_bytes(data)
    (fault,) = verify(path).faults
    gone = tuple(range(fault.seq, fault.last_seq + 1))

    outcome = await repaired(path, *([copy] if with_copy else []))
    assert outcome == (RepairOutcome(gone, ()) if with_copy else RepairOutcome((), gone))
    assert verify(path).verdict is Verdict.OK
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'record_damaged%'").fetchall()
    connection.close()
    assert len(tables) == 1


async def test_a_newest_record_damaged_while_the_writer_lives_is_vouched_for_by_it(path):
    """No later record rests on it, but the writer knows its link."""
    ledger = await open_ledger(path)
    newest = await ledger.open_turn(opening(1_000))
    needle = cell(stored(path, newest))
    flip(path, needle, len(needle) - 1)
    scrubber = Scrubber(path, config(), ManualClock())
    report = scrubber.check()
    assert {fault.seq for fault in report.faults} == {newest}

    assert await ledger.repair(report, []) == RepairOutcome((newest,), ())
    scrubber.forget()
    assert scrubber.check().verdict is Verdict.OK
    await ledger.close()


async def test_two_histories_are_not_made_one(path):
    """A row whose bytes are whole but whose past is another's is left as it is, and stays a fault."""
    link = bytes(32)
    connection = apsw.Connection(str(path))
    for sequence in range(20, RECORDS + 1):
        leaf = stored(path, sequence)[6]
        assert isinstance(leaf, bytes)
        link = link_hash(link, sequence, leaf)
        connection.execute("UPDATE record SET link = ? WHERE seq = ?", (link, sequence))
    connection.close()

    assert await repaired(path) == RepairOutcome((), ())
    assert {fault.seq for fault in verify(path).faults} == {20}


async def test_a_sound_ledger_is_not_touched(path):
    """Without faults no record of a repair is made."""
    ledger = await open_ledger(path)
    assert await ledger.repair(verify(path), []) == RepairOutcome()
    assert ledger.records == RECORDS + 1
    await ledger.close()


async def test_spending_is_not_guessed_low_where_the_closing_is_lost(path):
    """The charge of a lost closing record is unknown, so the whole reservation counts."""
    needle = cell(stored(path, 3))
    flip(path, needle, len(needle) - 70)
    await repaired(path)

    ledger = await open_ledger(path)
    tokens = sorted(spend.tokens for spend in await ledger.spending_since(0))
    assert tokens == [30] * TURNS + [100]
    assert await ledger.lost_turns() == []
    await ledger.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_damaged_is_sound_after_repair(tmp_path_factory, pristine, data):
    """Any few flipped bits in rows: after repair from a copy the ledger verifies and every record is back."""
    directory = tmp_path_factory.mktemp("campaign")
    path, copy = directory / "ledger.db", directory / "copy.db"
    path.write_bytes(pristine)
    copy.write_bytes(pristine)
    before = [stored(path, seq) for seq in range(1, RECORDS + 1)]
    damaged = pristine
    for sequence in sorted(data.draw(st.sets(st.integers(2, RECORDS - 1), min_size=1, max_size=4))):
        needle = cell(before[sequence - 1])
        damaged = flipped(damaged, needle, data.draw(st.integers(0, len(needle) * 8 - 1)))
    path.write_bytes(damaged)

    outcome = asyncio.run(repaired(path, copy))
    assert outcome.lost == ()
    assert [stored(path, seq) for seq in range(1, RECORDS + 1)] == before
    assert verify(path).verdict is Verdict.OK
