from __future__ import annotations

import json

import pytest
from shipped_settings import PROBES

from probes.ledger_integrity import MAX_NAMED, LedgerCheck, LedgerIntegrity
from probes.probe import ProbeError
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Finding, Severity


async def look(check: LedgerCheck) -> Finding:
    async def checked() -> LedgerCheck:
        return check

    findings = await LedgerIntegrity(PROBES.ledger_integrity, check=checked, clock=ManualClock()).sample()
    assert len(findings) == 1
    return findings[0]


async def test_a_sound_ledger_is_ok() -> None:
    """It says how much was read, of how much."""
    finding = await look(LedgerCheck(5000, 1000))
    assert (finding.subsystem, finding.severity, finding.hard) == (HOST, Severity.OK, False)
    assert finding.reason == "1000 of 5000 records checked, all sound"


async def test_a_broken_record_is_critical_and_the_first_is_named() -> None:
    """Faults come in the order they were found; the reason names the lowest sequence number."""
    finding = await look(
        LedgerCheck(50, 50, [(31, "gap", "follows 29"), (17, "hash", "does not match its record")])
    )
    assert (finding.severity, finding.hard, finding.value) == (Severity.CRITICAL, True, 2)
    assert finding.reason == "ledger record 17: hash: does not match its record (and 1 more)"
    assert finding.evidence["seqs"] == [17, 31]
    assert finding.evidence["kinds"] == ["gap", "hash"]


async def test_evidence_is_bounded_and_json() -> None:
    """A ledger whose every record is bad does not fill an event."""
    finding = await look(LedgerCheck(100_000, 100_000, [(n, f"kind{n}", "x") for n in range(100_000)]))
    assert finding.evidence["seqs"] == list(range(MAX_NAMED))
    assert len(finding.evidence["kinds"]) == MAX_NAMED
    assert len(json.dumps(dict(finding.evidence))) < 2000


async def test_an_unreadable_ledger_is_unknown_not_broken() -> None:
    """The check's own ProbeError goes through."""

    async def unreadable() -> LedgerCheck:
        raise ProbeError("ledger.db: disk I/O error")

    with pytest.raises(ProbeError, match="disk I/O error"):
        await LedgerIntegrity(PROBES.ledger_integrity, check=unreadable, clock=ManualClock()).sample()


async def test_a_tail_that_no_head_covers_is_a_warning() -> None:
    """Small ones always are; a large one, or no heads at all, is worth knowing and no emergency."""
    small = LedgerCheck(5000, 1000, verdict="UNANCHORED_TAIL(40)", unanchored=40)
    assert (await look(small)).severity is Severity.OK
    large = LedgerCheck(9000, 1000, verdict="UNANCHORED_TAIL(5000)", unanchored=5000)
    finding = await look(large)
    assert (finding.severity, finding.value) == (Severity.WARNING, 5000)
    withheld = await look(LedgerCheck(10, 10, unanchored=1, trouble="the key is gone"))
    assert withheld.severity is Severity.WARNING
    assert "the key is gone" in withheld.reason


async def test_the_verdict_is_in_the_evidence() -> None:
    """Whoever explains the anomaly later reads it in a word."""
    finding = await look(LedgerCheck(5, 5, [(3, "truncated", "gone")], verdict="TRUNCATED(3)"))
    assert finding.severity is Severity.CRITICAL
    assert finding.evidence["verdict"] == "TRUNCATED(3)"
