"""The ledger as the probe and recovery see it: what was found stays found, and a repair is looked at afresh."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
from ledger_world import closing, config, fill, keeping_of, open_ledger, opening, places
from patience import until
from shipped_settings import PROBES

from epad.ledger.integrity import Integrity
from epad.ledger.segment import segment_paths
from epad.ledger.store import Ledger
from epad.metrics.registry import Metrics
from probes.ledger_integrity import LedgerIntegrity
from statemachine.clock import ManualClock
from statemachine.finding import Severity


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    path = tmp_path / "ledger.db"
    before = await open_ledger(path, places(path), seal_records=8)
    for number in range(10):
        await before.open_turn(opening(number))
        await before.close_turn(closing(number))
    # A segment that is made while the ledger is closed is noted by none: the next one makes it anew.
    await until(lambda: keeping_of(before)._sealed >= 8, "the ledger to know of a segment")
    await before.close()
    one = await open_ledger(path, places(path))
    yield one
    await one.close()


@pytest.fixture
def integrity(ledger: Ledger, tmp_path: Path):
    one = Integrity(tmp_path / "ledger.db", config(), ledger, ManualClock(), Metrics())
    yield one
    one.close()


def change(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.close()


async def severity(integrity: Integrity) -> Severity:
    (finding,) = await LedgerIntegrity(
        PROBES.ledger_integrity, check=integrity.check, clock=ManualClock()
    ).sample()
    return finding.severity


async def test_a_small_tail_without_a_head_is_ok(integrity: Integrity, ledger: Ledger) -> None:
    """There always is one while turns come in; nobody is woken for it, and status says ok."""
    for number in range(100, 110):
        await ledger.open_turn(opening(number))
        await ledger.close_turn(closing(number))
        assert await severity(integrity) is Severity.OK
    assert integrity.status().verdict == "ok"


async def test_a_truncation_under_the_running_daemon_is_critical_and_repaired(
    integrity: Integrity, ledger: Ledger, tmp_path: Path
) -> None:
    """It stays found while nothing is done; copies give the records back; then it is good again."""
    copy = Path(shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db"))
    assert await severity(integrity) is Severity.OK
    change(tmp_path / "ledger.db", "DELETE FROM record WHERE seq BETWEEN 19 AND 21")
    for _ in range(3):
        assert await severity(integrity) is Severity.CRITICAL
    assert integrity.faults > 0

    outcome = await integrity.repair([copy])
    assert outcome.restored == (19, 20, 21)
    assert await severity(integrity) is Severity.OK
    assert integrity.faults == 0


async def test_what_the_nightly_check_finds_the_next_tick_does_not_forget(
    integrity: Integrity, tmp_path: Path
) -> None:
    """A damaged segment is seen by the night alone; it is critical until it is written again."""
    file = segment_paths(tmp_path / "segments")[0]
    before = file.read_bytes()
    file.chmod(0o644)
    at = 64  # in the first record, far before the trailer: its place and its bytes differ from run to run
    file.write_bytes(before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :])
    assert await severity(integrity) is Severity.OK
    assert (await integrity.verify_all()).words() == "CORRUPT(1, segment)"
    for _ in range(2):
        assert await severity(integrity) is Severity.CRITICAL

    await integrity.repair([])
    assert file.read_bytes() == before
    assert await severity(integrity) is Severity.OK


async def test_a_fork_is_not_repaired(integrity: Integrity, ledger: Ledger, tmp_path: Path) -> None:
    """Repairing changes nothing and ends, and the finding stays for a person."""
    keeper = keeping_of(ledger)._keeper
    assert keeper is not None
    while keeper.size < ledger.records:
        await asyncio.sleep(0.005)
    anchor = places(tmp_path / "ledger.db").anchor
    other = tmp_path / "other"
    other.mkdir()
    await fill(other / "ledger.db", 9, places(other / "ledger.db"), first=500)
    shutil.rmtree(anchor)
    shutil.copytree(other / "anchor", anchor)
    assert await severity(integrity) is Severity.CRITICAL
    assert (await integrity.verify_all()).words().startswith("FORKED(")

    outcome = await integrity.repair([])
    assert (outcome.restored, outcome.lost) == ((), ())
    assert await severity(integrity) is Severity.CRITICAL
