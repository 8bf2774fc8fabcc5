"""Damage is named by record and kind, sound ledgers are never accused, and what was found is not forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_world import cell, closing, config, fill, flip, flipped, open_ledger, opening, stored

from epad.ledger.chain import MAX_FAULTS, Fault, FaultKind
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.hashes import leaf_hash, link_hash
from epad.ledger.verify import Report, Scrubber, Verdict, report_lines, verify
from statemachine.clock import ManualClock

TURNS = 20
RECORDS = 1 + 2 * TURNS
HEADER_BYTES = 13  # before a row's values: their types, and the row's length and number
UNUSED_BIT = -69  # of the type of `seq`, which is the row's number and stored there: SQLite never reads it


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a closed ledger, to be damaged in copies."""
    path = tmp_path_factory.mktemp("pristine") / "ledger.db"
    asyncio.run(fill(path, TURNS))
    return path.read_bytes()


def change(path: Path, statement: str) -> None:
    """Damage of a shape that no bit flip makes, with nobody else at the file."""
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.close()


def kinds(report: Report) -> set[tuple[int, FaultKind]]:
    return {(fault.seq, fault.kind) for fault in report.faults}


def names(report: Report, sequence: int) -> bool:
    return any(fault.seq <= sequence <= fault.last_seq for fault in report.faults)


async def test_clean_runs_raise_no_alarm(path):
    """Forty openings, writes and checks, whole and in parts: never a fault."""
    scrubber_clock = ManualClock()
    for run in range(40):
        ledger = await open_ledger(path)
        scrubber = Scrubber(path, config(tail_check_records=3), scrubber_clock)
        for number in range(run * 10, run * 10 + 3):
            await ledger.open_turn(opening(number))
            if number % 2:
                await ledger.close_turn(closing(number))
            scrubber_clock.advance(0.01)
            assert scrubber.check().verdict is Verdict.OK
        assert verify(path).verdict is Verdict.OK
        await ledger.close()
        assert verify(path, first=1 + run, last=2 + run).faults == ()


@pytest.mark.parametrize("sequence", [2, 11, RECORDS])
@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("body", FaultKind.BODY),
        ("leaf", FaultKind.LEAF),
        ("link", FaultKind.LINK),
        ("turn", FaultKind.COLUMN),
        ("subsystem", FaultKind.COLUMN),
        ("wall_ns", FaultKind.COLUMN),
    ],
)
def test_a_flipped_bit_is_blamed_on_its_record_and_column(path, pristine, sequence, column, kind):
    """Anywhere in the file, the first record and the newest included, and no other record is accused."""
    path.write_bytes(pristine)
    row = stored(path, sequence)
    start = {
        "turn": 0,
        "subsystem": len(cell(row)) - 64 - len(row[5]) - 12,
        "wall_ns": len(cell(row)) - 64 - len(row[5]) - 1,
        "body": len(cell(row)) - 64 - 20,
        "leaf": len(cell(row)) - 64,
        "link": len(cell(row)) - 1,
    }[column]
    flip(path, cell(row), start)

    assert kinds(verify(path)) == {(sequence, kind)}
    assert kinds(verify(path, first=sequence)) == {(sequence, kind)}
    assert kinds(verify(path, first=max(1, sequence - 1), last=sequence)) == {(sequence, kind)}
    assert verify(path, first=sequence + 1).faults == ()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_bit_of_a_row_is_watched(tmp_path_factory, pristine, data):
    """Whichever bit of a row flips, its header and its number too, its record is among those named."""
    path = tmp_path_factory.mktemp("flip") / "ledger.db"
    path.write_bytes(pristine)
    sequence = data.draw(st.integers(2, RECORDS), label="seq")
    needle = cell(stored(path, sequence))
    bit = data.draw(
        st.integers(-HEADER_BYTES * 8, len(needle) * 8 - 1).filter(UNUSED_BIT.__ne__), label="bit"
    )
    path.write_bytes(flipped(pristine, needle, bit))

    report = verify(path)
    assert report.verdict is Verdict.CORRUPT
    assert names(report, sequence)


@pytest.mark.parametrize("sequence", [2, 20, RECORDS])
def test_a_row_whose_header_lies_is_named(path, pristine, sequence):
    """Each bit: a blob may become unfetchable text, a length too big, the newest row an older one."""
    path.write_bytes(pristine)
    needle = cell(stored(path, sequence))
    for bit in range(-HEADER_BYTES * 8, 0):
        path.write_bytes(flipped(pristine, needle, bit))
        assert names(verify(path), sequence) == (bit != UNUSED_BIT), f"bit {bit}"


@pytest.mark.parametrize("column", ["body", "leaf", "link"])
async def test_a_bit_flipped_under_a_live_writer_is_found(path, column):
    """The row is still in the WAL and in the writer's cache; the check reads what is on the disk."""
    ledger = await open_ledger(path)
    for number in range(5):
        await ledger.open_turn(opening(number))
    scrubber = Scrubber(path, config(), ManualClock())
    assert scrubber.check().verdict is Verdict.OK
    needle = cell(stored(path, 4))
    flip(path, needle, {"body": -80, "leaf": -64, "link": -1}[column] + len(needle), bit=5)

    assert kinds(scrubber.check()) == {(4, FaultKind(column))}
    await ledger.open_turn(opening(9))
    assert {fault.seq for fault in verify(path).faults} <= {4}
    await ledger.close()


@pytest.mark.parametrize(
    ("statement", "sequence", "kind"),
    [
        ("DELETE FROM record WHERE seq = 7", 7, FaultKind.GAP),
        ("DELETE FROM record WHERE seq = 1", 1, FaultKind.GAP),
        ("UPDATE record SET seq = 1007 WHERE seq = 7", 7, FaultKind.GAP),
        ("UPDATE record SET body = NULL WHERE seq = 7", 7, FaultKind.BODY),
        ("UPDATE record SET kind = 9 WHERE seq = 7", 7, FaultKind.COLUMN),
        ("UPDATE record SET link = zeroblob(32) WHERE seq = 7", 7, FaultKind.LINK),
    ],
)
def test_other_damage_is_named(path, pristine, statement, sequence, kind):
    """Missing, moved, emptied and overwritten rows each have their name."""
    path.write_bytes(pristine)
    change(path, statement)

    assert (sequence, kind) in kinds(verify(path))


def test_swapped_bodies_are_two_faults(path, pristine):
    """Each body hashes well, but not where it stands."""
    path.write_bytes(pristine)
    bodies = {seq: stored(path, seq)[5:7] for seq in (4, 6)}
    connection = apsw.Connection(str(path))
    for here, there in ((4, 6), (6, 4)):
        connection.execute("UPDATE record SET body = ?, leaf = ? WHERE seq = ?", (*bodies[there], here))
    connection.close()

    report = verify(path)
    assert {(4, FaultKind.LINK), (6, FaultKind.LINK)} <= kinds(report)


def test_a_record_of_a_later_format_is_undecodable_not_corrupt_elsewhere(path, pristine):
    """Bytes that hash well but say nothing we know are named as such."""
    path.write_bytes(pristine)
    row = stored(path, RECORDS)
    body = b"\x92\xcd\x7f\x01\x00"
    link = link_hash(stored(path, RECORDS - 1)[7], RECORDS, leaf_hash(body))
    connection = apsw.Connection(str(path))
    values = (body, leaf_hash(body), link, row[0])
    connection.execute("UPDATE record SET body = ?, leaf = ?, link = ? WHERE seq = ?", values)
    connection.close()

    assert kinds(verify(path)) == {(RECORDS, FaultKind.UNDECODABLE)}


async def test_a_malformed_page_costs_only_its_own_records(path):
    """Rows on either side of a page that SQLite cannot parse are still checked, and the range is named."""
    await fill(path, 100)
    spoil_page_of(path, 60)

    report = verify(path)
    (fault,) = report.faults
    assert fault.kind is FaultKind.UNREADABLE
    assert fault.seq <= 60 <= fault.last_seq
    assert fault.last_seq - fault.seq < 20
    assert report.last_seq == 201
    assert report.checked == 201 - (fault.last_seq - fault.seq + 1)


async def test_a_malformed_last_page_is_named_too(path):
    """Where even the number of records cannot be read, the walk ends at the damage and says so."""
    await fill(path, 100)
    spoil_page_of(path, 201)

    report = verify(path)
    assert report.checked > 150
    assert report.faults[-1].kind is FaultKind.UNREADABLE
    assert report.faults[-1].seq <= 201
    assert Scrubber(path, config(), ManualClock()).check().verdict is Verdict.CORRUPT


def spoil_page_of(path: Path, sequence: int) -> None:
    data = bytearray(path.read_bytes())
    page = data.find(cell(stored(path, sequence))) // 4096 * 4096
    data[page : page + 8] = b"\x00" * 8
    path.write_bytes(data)


def test_a_file_that_is_no_database_is_corrupt(path):
    """A ledger overwritten by something else is damage, not an error of the check."""
    path.write_bytes(b"overwritten " * 1000)

    assert kinds(verify(path)) == {(1, FaultKind.UNREADABLE)}


def test_no_ledger_is_not_damage(path):
    """A missing file is said to be missing."""
    with pytest.raises(LedgerUnavailableError, match="no ledger there"):
        verify(path)


@contextlib.contextmanager
def every_write_failing(_: Path) -> Iterator[None]:
    """On any disk, for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def log_in_the_way(path: Path) -> Iterator[None]:
    """SQLite cannot open its log, as in a directory that is closed to this user."""
    log = path.with_name(f"{path.name}-wal")
    log.mkdir()
    try:
        yield
    finally:
        log.rmdir()


@pytest.mark.parametrize("harm", [every_write_failing, log_in_the_way])
def test_what_keeps_from_reading_is_not_damage(path, pristine, harm):
    """SQLite's first reader writes the index of the log; what it says of that is nothing about the records."""
    path.write_bytes(pristine)
    scrubber = Scrubber(path, config(), ManualClock())
    for look in (lambda: verify(path), scrubber.check):
        for left in path.parent.glob("ledger.db-*"):
            left.unlink()
        with harm(path), pytest.raises(LedgerUnavailableError, match="cannot prepare to read"):
            look()
        assert look().faults == ()


def test_faults_are_listed_up_to_a_limit_and_counted_beyond(path, pristine):
    """One bad disk does not fill the memory with its description."""
    asyncio.run(fill(path, MAX_FAULTS))
    change(path, "UPDATE record SET wall_ns = wall_ns + 1")

    report = verify(path)
    assert len(report.faults) == MAX_FAULTS
    assert report.unlisted == 2 * MAX_FAULTS + 1 - MAX_FAULTS
    assert f"and {report.unlisted} more" in " ".join(report_lines(report))


async def test_progress_is_told(path):
    """A long check can show how far it is."""
    await fill(path, TURNS)
    seen: list[tuple[int, int]] = []
    verify(path, progress=lambda done, total: seen.append((done, total)))

    assert seen[-1] == (RECORDS, RECORDS)


def test_a_report_names_record_kind_and_next_step():
    """Each fault is one line with its range, and the reader is told what happens now."""
    fault = Fault(4, FaultKind.GAP, "records are missing", 6)
    lines = report_lines(Report(Verdict.CORRUPT, 9, 1, 12, (fault,), tombstones=2))

    assert lines[0] == "CORRUPT(4, gap): 9 checked, records 1 to 12"
    assert "  record 4 to 6: gap: records are missing" in lines
    assert any("lost to former damage" in line for line in lines)
    assert any("repairs" in line for line in lines)
    assert report_lines(Report(Verdict.OK, 0, 1, 0)) == ["OK: 0 checked, no records"]


class TestScrubber:
    def test_it_comes_round_to_everything(self, path, pristine):
        """Damage far from the tail is found once the slices have come to it, at the rate configured."""
        path.write_bytes(pristine)
        change(path, "UPDATE record SET link = zeroblob(32) WHERE seq = 25")
        clock = ManualClock()
        scrubber = Scrubber(path, config(tail_check_records=2, first_scrub_records_per_second=10), clock)

        verdicts = []
        for _ in range(5):
            verdicts.append(scrubber.check().verdict)
            clock.advance(1.0)
        assert verdicts == [Verdict.OK] * 3 + [Verdict.CORRUPT] * 2

    def test_the_first_round_is_a_fast_one_and_says_what_is_left(self, path, pristine):
        """What a start did not read is soon read behind the door; from then on at the usual rate."""
        path.write_bytes(pristine)
        clock = ManualClock()
        rates = {"first_scrub_records_per_second": 10, "scrub_records_per_second": 1}
        scrubber = Scrubber(path, config(tail_check_records=2, **rates), clock)
        left, checked = [], []
        for _ in range(8):
            checked.append(scrubber.check().checked)
            left.append(scrubber.unchecked)
            clock.advance(1.0)
        rounds = -(-RECORDS // 10)
        assert left[: rounds + 1] == [max(0, RECORDS - 2 - 10 * done) for done in range(rounds + 1)]
        assert left[rounds:] == [0] * (8 - rounds)
        assert checked[1] == 2 + 10
        assert checked[rounds + 1] == 2 + 1

    def test_a_fault_stays_until_it_is_forgotten_and_comes_back_if_it_is_there(self, path, pristine):
        """A later clean slice clears nothing; forgetting looks again at the very place."""
        path.write_bytes(pristine)
        row = stored(path, 25)
        flip(path, cell(row))
        clock = ManualClock()
        scrubber = Scrubber(path, config(tail_check_records=20), clock)
        assert names(scrubber.check(), 25)
        path.write_bytes(pristine)
        for _ in range(3):
            clock.advance(10.0)
            assert names(scrubber.check(), 25)
        scrubber.forget()
        assert scrubber.check().verdict is Verdict.OK

        flip(path, cell(row))
        assert names(scrubber.check(), 25)
        scrubber.forget()
        assert names(scrubber.check(), 25)

    def test_records_that_vanish_are_missed(self, path, pristine):
        """A ledger that has grown shorter since the last look has lost acknowledged records."""
        path.write_bytes(pristine)
        scrubber = Scrubber(path, config(), ManualClock())
        assert scrubber.check().verdict is Verdict.OK
        change(path, f"DELETE FROM record WHERE seq > {RECORDS - 3}")  # noqa: S608  ours

        (fault,) = scrubber.check().faults
        assert (fault.seq, fault.kind, fault.last_seq) == (RECORDS - 2, FaultKind.GAP, RECORDS)

    def test_a_long_sleep_does_not_make_a_long_check(self, path, pristine):
        """After a suspended night the next slice is no larger than ten seconds' worth."""
        path.write_bytes(pristine)
        clock = ManualClock()
        scrubber = Scrubber(path, config(tail_check_records=1, first_scrub_records_per_second=1), clock)
        scrubber.check()
        clock.advance(36_000.0)

        assert scrubber.check().checked == 1 + 10
