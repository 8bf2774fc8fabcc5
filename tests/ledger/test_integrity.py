"""The ledger read back for the probe, and repaired for the recovery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
from damage import flip_one_bit
from epad_house import BOOT, turn
from epad_story import shipped
from shipped_settings import PROBES

from epad.control_loop.journal import JOURNAL_SCHEMA
from epad.ledger.integrity import PAGES_SECONDS, Integrity, LedgerStatus
from epad.ledger.store import Ledger
from epad.ledger.verify import Verdict
from epad.metrics.registry import Metrics
from epad.storage.database import Database
from probes.ledger_integrity import LedgerIntegrity
from probes.probe import ProbeError
from statemachine.clock import ManualClock
from statemachine.finding import Severity

DAMAGED = 3


class Bench:
    def __init__(self, path: Path, ledger: Ledger) -> None:
        self.path = path
        self.ledger = ledger
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.integrity = Integrity(path, shipped().ledger, ledger, self.clock, self.metrics)

    def series(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)

    def copy(self, directory: Path) -> Path:
        """A copy as a checkpoint holds it."""
        target = directory / "copy.db"
        source, copy = apsw.Connection(str(self.path)), apsw.Connection(str(target))
        with copy.backup("main", source, "main") as backup:
            backup.step()
        copy.close()
        source.close()
        return target


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    path = tmp_path / "ledger.db"
    ledger = await Ledger.open(path, shipped().ledger, ManualClock(), BOOT)
    for number in range(3):
        await turn(ledger, number)
    bench = Bench(path, ledger)
    yield bench
    bench.integrity.close()
    await ledger.close()


async def test_before_the_first_check_nothing_is_claimed(bench: Bench) -> None:
    """Neither that it is sound nor that it is not."""
    assert bench.integrity.status() == LedgerStatus(bench.ledger.records, "unknown", "not checked yet")
    assert bench.integrity.faults == 0


async def test_a_sound_ledger_is_shown_as_one(bench: Bench) -> None:
    """In the check, the status and the series, with when it was looked at."""
    check = await bench.integrity.check()
    assert (check.records, list(check.faults)) == (bench.ledger.records, [])
    assert check.checked >= check.records
    assert bench.integrity.status().verdict == "ok"
    assert bench.series("epad_ledger_intact") == 1
    assert bench.series("epad_ledger_entries") == bench.ledger.records
    assert bench.series("epad_ledger_last_verified_timestamp_seconds") == bench.clock.utc().timestamp()


async def test_a_damaged_record_is_named_and_stays_until_it_is_repaired(bench: Bench, tmp_path: Path) -> None:
    """From a copy that the chain vouches for; afterwards the probe sees for itself that it is whole."""
    copy = bench.copy(tmp_path)
    flip_one_bit(bench.path, DAMAGED)
    for _ in range(2):
        check = await bench.integrity.check()
        assert [fault[0] for fault in check.faults] == [DAMAGED]
    assert bench.integrity.faults == 1
    assert bench.integrity.status().detail.startswith(f"record {DAMAGED}: ")
    assert bench.series("epad_ledger_intact") == 0
    outcome = await bench.integrity.repair([copy])
    assert outcome.restored == (DAMAGED,)
    assert bench.integrity.faults == 0
    assert bench.series("epad_ledger_intact") == 1
    assert list((await bench.integrity.check()).faults) == []
    assert (await bench.integrity.verify_all()).verdict is Verdict.OK


async def test_a_repair_that_nobody_looked_for_looks_first(bench: Bench, tmp_path: Path) -> None:
    """A resumed step runs before the probe of the new life has."""
    copy = bench.copy(tmp_path)
    flip_one_bit(bench.path, DAMAGED)
    assert (await bench.integrity.repair([copy])).restored == (DAMAGED,)


async def test_a_ledger_that_cannot_be_read_is_not_called_broken(bench: Bench, tmp_path: Path) -> None:
    """Unknown is not broken: the probe is blind, and what was known stays."""
    await bench.integrity.check()
    bench.integrity._scrubber._path = tmp_path / "missing" / "ledger.db"
    with pytest.raises(ProbeError, match=r"ledger\.db"):
        await bench.integrity.check()
    assert bench.integrity.status().verdict == "ok"


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_ledger_whose_name_was_taken_is_a_critical_finding(bench: Bench, replaced: bool) -> None:
    """Records go on into a file that ends with the daemon: no repair makes that good, putting it back does."""
    kept = bench.copy(bench.path.parent)
    aside = bench.path.rename(bench.path.with_name("aside.db"))
    if replaced:
        kept.rename(bench.path)

    (finding,) = await LedgerIntegrity(
        PROBES.ledger_integrity, check=bench.integrity.check, clock=bench.clock
    ).sample()
    assert (finding.severity, finding.hard, finding.evidence["kinds"]) == (Severity.CRITICAL, True, ["file"])
    assert finding.reason.startswith(f"ledger: file: {bench.path} was ")
    assert bench.series("epad_ledger_intact") == 0
    await bench.integrity.repair([])
    assert bench.integrity.faults == 1
    aside.rename(bench.path)
    assert (await bench.integrity.check()).faults == []


async def test_a_file_beside_the_ledger_is_missed_too(bench: Bench, tmp_path: Path) -> None:
    """`state.db` is written to as long as the daemon runs; deleted, it is gone with it."""
    state = tmp_path / "state.db"
    database = Database(state, JOURNAL_SCHEMA)
    await database.open()
    await database.close()
    integrity = Integrity(bench.path, shipped().ledger, bench.ledger, bench.clock, bench.metrics, [state])
    assert (await integrity.check()).faults == []

    state.unlink()
    bench.clock.advance(PAGES_SECONDS)  # it is not looked into either
    check = await integrity.check()
    assert [(kind, str(state) in detail) for _, kind, detail in check.faults] == [("file", True)]
    integrity.close()


async def test_a_page_of_state_db_that_has_changed_is_a_critical_finding(
    bench: Bench, tmp_path: Path
) -> None:
    """It is looked for at the start and once in a while; no chain vouches for this file, its page sums do."""
    state = tmp_path / "state.db"
    database = Database(state, JOURNAL_SCHEMA)
    await database.open()
    await database.close()
    integrity = Integrity(bench.path, shipped().ledger, bench.ledger, bench.clock, bench.metrics, [state])
    assert (await integrity.check()).faults == []

    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)
    bench.clock.advance(PAGES_SECONDS)
    ((_, kind, detail),) = (await integrity.check()).faults
    assert (kind, str(state) in detail, "newest checkpoint" in detail) == ("file", True, True)
    integrity.close()
