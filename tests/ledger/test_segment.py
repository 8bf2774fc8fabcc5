"""Sealed segments hold what the records held, tell when they do not, and give it back."""

from __future__ import annotations

import asyncio
import shutil
import stat
import threading
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_world import (
    cell,
    closing,
    flip,
    flipped,
    keeping_of,
    open_ledger,
    opening,
    places,
    sealed,
    stored,
)

from epad.ledger import heads_and_segments
from epad.ledger.errors import SegmentError
from epad.ledger.full_verification import check_segments, verify_everything
from epad.ledger.segment import Seal, SegmentsCopy, check_segment, read_segment, read_trailer, segment_paths
from epad.ledger.verify import verify


async def sealed_ledger(path: Path, turns: int, seal_records: int) -> None:
    ledger = await open_ledger(path, places(path), seal_records=seal_records)
    for number in range(turns):
        await ledger.open_turn(opening(number))
        await ledger.close_turn(closing(number))
        await sealed(ledger)
    await ledger.close()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sealed") / "state"
    directory.mkdir()
    asyncio.run(sealed_ledger(directory / "ledger.db", 20, 10))
    return directory


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "state")) / "ledger.db"


def test_segments_hold_every_sealed_record_byte_for_byte(path: Path) -> None:
    """One after another, read-only, each with the hash of the one before."""
    files = segment_paths(places(path).segments)
    assert [file.name for file in files] == [f"{n:08d}.seg" for n in (1, 2, 3, 4)]
    sequence = 0
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o444
        trailer, frames = read_segment(file)
        assert (trailer.first, trailer.last) == (sequence + 1, sequence + 10)
        for frame in frames:
            sequence += 1
            assert (frame.body, frame.leaf, frame.link) == stored(path, sequence)[5:]
    assert sequence == 40
    assert check_segments(path, places(path)).records == 40
    assert check_segments(path, places(path)).faults == ()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bit_of_a_segment_can_change_unseen(pristine: Path, tmp_path_factory, data: st.DataObject) -> None:
    """Any bit: the file is named, and reading what is left of it never fails in another way."""
    directory = tmp_path_factory.mktemp("flip") / "segments"
    shutil.copytree(pristine / "segments", directory)
    file = data.draw(st.sampled_from(segment_paths(directory)))
    content = bytearray(file.read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    file.chmod(0o644)
    file.write_bytes(content)

    with pytest.raises(SegmentError):
        check_segment(file)
    SegmentsCopy(directory).row(15)


@pytest.mark.parametrize("size", [0, 3, 20, 40, 200])
def test_a_cut_segment_is_damaged(path: Path, size: int) -> None:
    """However little is left."""
    file = segment_paths(places(path).segments)[0]
    content = file.read_bytes()[:size]
    file.unlink()
    file.write_bytes(content)
    for reading in (check_segment, read_segment, read_trailer):
        with pytest.raises(SegmentError):
            reading(file)
    assert check_segments(path, places(path)).faults[0].seq == 1


def test_a_segment_in_anothers_place_is_told(path: Path) -> None:
    """Whole in itself, but not what follows here."""
    first, second = segment_paths(places(path).segments)[:2]
    shutil.copy(second, second.with_suffix(".x"))
    second.unlink()
    shutil.copy(first, second)
    faults = check_segments(path, places(path)).faults
    assert faults
    assert any("starts with record 1" in fault.detail for fault in faults)


async def test_records_come_back_from_segments_before_any_checkpoint(path: Path) -> None:
    """Damage in a sealed record needs no checkpoint, nor does a missing stretch."""
    before = [stored(path, sequence) for sequence in range(1, 41)]
    needle = cell(stored(path, 15))
    flip(path, needle, len(needle) - 80)
    connection = apsw.Connection(str(path))
    connection.execute("DELETE FROM record WHERE seq BETWEEN 28 AND 33")
    connection.close()

    ledger = await open_ledger(path, places(path))
    outcome = await ledger.repair(verify(path), [])
    await ledger.close()
    assert outcome.restored == (15, 28, 29, 30, 31, 32, 33)
    assert outcome.lost == ()
    assert [stored(path, sequence) for sequence in range(1, 41)] == before
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_a_damaged_segment_is_written_again_from_the_records(path: Path) -> None:
    """Byte for byte what was sealed; the damaged file is kept aside."""
    file = segment_paths(places(path).segments)[1]
    before = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(flipped(before, b"embedded", 3))
    segment_paths(places(path).segments)[2].unlink()

    ledger = await open_ledger(path, places(path))
    report = verify_everything(path, places(path))
    assert {fault.kind for fault in report.faults} == {"segment"}
    await ledger.repair(report, [])
    await ledger.close()
    assert file.read_bytes() == before
    assert file.with_suffix(".damaged").exists()
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_damaged_records_are_not_sealed(path: Path) -> None:
    """A copy of damage would be no second copy; after the repair it is made."""
    needle = cell(stored(path, 41))
    flip(path, needle, len(needle) - 80)
    ledger = await open_ledger(path, places(path), seal_records=10)
    for number in range(100, 106):
        await ledger.open_turn(opening(number))
        await sealed(ledger)
    await ledger.open_turn(opening(110))
    assert len(segment_paths(places(path).segments)) == 4
    for number in range(111, 115):
        await ledger.open_turn(opening(number))
        await sealed(ledger)
    assert "41" in ledger.trouble
    await ledger.close()


async def test_a_segment_that_cannot_be_noted_is_not_made_again_with_every_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has room for a record has none for the sums: it is told, and tried again after a while."""
    tried: list[int] = []

    def full(_: object, seal: Seal, __: object) -> None:
        tried.append(seal.trailer.last)
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr(heads_and_segments, "note_sealed", full)
    ledger = await open_ledger(path, places(path), seal_records=10)
    for number in range(100, 130):
        await ledger.open_turn(opening(number))
        await sealed(ledger)
    assert len(tried) == 1
    assert "full" in ledger.trouble
    await ledger.close()
    monkeypatch.undo()
    ledger = await open_ledger(path, places(path), seal_records=10)
    for number in range(130, 140):  # a commit begins one segment at the most, and none while another is made
        await ledger.open_turn(opening(number))
        await sealed(ledger)
    assert ledger.trouble == ""
    assert keeping_of(ledger)._sealed >= 50
    await ledger.close()
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_a_segment_for_which_no_thread_is_left_holds_no_turn_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of processes is reached: turns go on, it is told, and tried again after a while."""
    ledger = await open_ledger(path, places(path), seal_records=10)
    start = threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "ledger-seal":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", none_left)
    for number in range(100, 115):
        await ledger.open_turn(opening(number))
    assert "can't start new thread" in ledger.trouble
    await ledger.close()


async def test_a_segment_of_an_unknown_history_is_kept_aside(path: Path) -> None:
    """The seal was lost with the transaction that noted it, the file is there: nothing is overwritten."""
    orphan = places(path).segments / "00000005.seg"
    orphan.write_bytes(b"from another life")
    ledger = await open_ledger(path, places(path), seal_records=2)
    await ledger.open_turn(opening(100))
    await sealed(ledger)
    await ledger.close()
    assert orphan.with_suffix(".former").read_bytes() == b"from another life"
    assert check_segment(orphan).trailer.first == 41
