"""What stands beside the records: a change of it is found, by the tick as well, and made good."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import apsw
import pytest
from ledger_world import BOOT, closing, config, fill, open_ledger, opening, places

from epad.ledger.full_verification import verify_everything
from epad.ledger.rows import open_reader
from epad.ledger.seal import all_seals
from epad.ledger.segment import Seal
from epad.ledger.store import Ledger
from epad.ledger.verify import Scrubber, Verdict
from statemachine.clock import ManualClock

TURNS, SEALED = 30, 20

SCHEMA = "PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql = replace(sql, '{}', '{}') WHERE name = '{}'"
CHANGES = {
    "a seal's number": "UPDATE seal SET no = 9 WHERE no = 1",
    "a seal's span": "UPDATE seal SET last = last + 1 WHERE no = 1",
    "a seal's hash": "UPDATE seal SET sha256 = zeroblob(32) WHERE no = 1",
    "a seal's trailer": "UPDATE seal SET trailer = CAST(trailer || x'00' AS BLOB) WHERE no = 2",
    "a seal gone": "DELETE FROM seal WHERE no = 2",
    "a sum": "UPDATE sums SET body = CAST(body || x'00' AS BLOB) WHERE no = 2",
    "a sum's number": "UPDATE sums SET no = 7 WHERE no = 2",
    "a sum's note": "UPDATE sums SET note = note || 'x' WHERE no = 2",
    "the sums gone": "DELETE FROM sums",
    "a mark's value": "UPDATE meta SET value = 3 WHERE key = 'anchored'",
    "a mark's type": "UPDATE meta SET value = '1' WHERE key = 'anchored'",
    "a mark's name": "UPDATE meta SET key = 'digesu' WHERE key = 'digest'",
    "the mark of an orderly end": "UPDATE meta SET value = zeroblob(32) WHERE key = 'closed'",
    "the digest itself": "UPDATE meta SET value = zeroblob(32) WHERE key = 'digest'",
    "the schema of a table": SCHEMA.format("cause", "caure", "quarantine"),
    "the schema of an index": SCHEMA.format("wall_ns", "WALL_ns", "record_closed"),
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with heads and seals, closed in order."""
    state = tmp_path_factory.mktemp("pristine")
    asyncio.run(_make(state / "ledger.db"))
    assert verify_everything(state / "ledger.db", places(state / "ledger.db"), full=True).words() == "OK"
    return state


async def _make(path: Path) -> None:
    ledger = await open_ledger(path, places(path), seal_records=SEALED)
    for number in range(TURNS):
        await ledger.open_turn(opening(number))
        await ledger.close_turn(closing(number))
        await _sealed(path, (1 + 2 * (number + 1)) // SEALED)
    await ledger.close()


async def _sealed(path: Path, seals: int) -> None:
    while len(seals_of(path)) < seals:
        await asyncio.sleep(0.005)


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "state") / "ledger.db"


def change(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.execute(statement)
    connection.close()


def seals_of(path: Path) -> dict[int, Seal]:
    connection = open_reader(path)
    seals = dict(all_seals(connection))
    connection.close()
    return seals


@pytest.mark.parametrize("name", CHANGES)
async def test_each_change_beside_the_records_is_found_and_mended(path: Path, name: str) -> None:
    """By `verify`, by the tick, and still after the next start; after a repair all is what it was."""
    seals = seals_of(path)
    change(path, CHANGES[name])
    report = verify_everything(path, places(path), full=True)
    assert report.words() == "CORRUPT(0, catalogue)", report

    ledger = await open_ledger(path, places(path))
    scrubber = Scrubber(path, config(), ManualClock(), places(path).anchor)
    assert scrubber.check().words() == "CORRUPT(0, catalogue)"
    await ledger.repair(report, [])
    scrubber.forget()
    assert scrubber.check().verdict.is_sound
    await ledger.close()

    assert verify_everything(path, places(path), full=True).words() == "OK"
    assert seals_of(path) == seals


async def test_a_ledger_from_before_the_digest_is_given_one(path: Path) -> None:
    """Its next start finds nothing wrong, and from then on a change is found."""
    change(path, "DELETE FROM meta WHERE key = 'digest'")
    assert verify_everything(path, places(path), full=True).verdict is Verdict.OK
    await fill(path, 1, places(path), first=TURNS)
    change(path, CHANGES["a seal's span"])
    assert verify_everything(path, places(path)).words() == "CORRUPT(0, catalogue)"


async def test_a_segment_of_another_history_is_not_taken_for_a_seal(path: Path, tmp_path: Path) -> None:
    """What is mended comes from segments that end with a record of this ledger."""
    other = tmp_path / "other/ledger.db"
    other.parent.mkdir()
    await _make(other)
    shutil.rmtree(places(path).segments)
    shutil.copytree(places(other).segments, places(path).segments)
    change(path, "DELETE FROM seal")
    ledger = await Ledger.open(path, config(), ManualClock(), BOOT, places(path))
    await ledger.repair(verify_everything(path, places(path)), [])
    await ledger.close()
    assert seals_of(path) == {}
