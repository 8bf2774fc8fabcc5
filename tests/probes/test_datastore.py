"""What is said of a damaged store."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from shipped_settings import PROBES

from probes.datastore import DatastoreCheck, DatastoreIntegrity
from probes.probe import ProbeError
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Severity


def probe(*checks: DatastoreCheck, last_verified: str = "20260101T000000Z-000007") -> DatastoreIntegrity:
    async def check() -> Sequence[DatastoreCheck]:
        return checks

    return DatastoreIntegrity(
        PROBES.datastore, check=check, last_verified=lambda: last_verified, clock=ManualClock()
    )


async def test_damage_is_critical_and_names_the_checkpoint_to_go_back_to() -> None:
    """A fact, about the subsystem that writes it."""
    damaged = DatastoreCheck("memory", "chat", True, (("flip", "a bit"), ("rule", "b")), 9)
    (finding,) = await probe(damaged).sample()
    assert (finding.severity, finding.subsystem, finding.hard) == (Severity.CRITICAL, "chat", True)
    assert finding.reason == (
        "datastore memory: flip: a bit (and 1 more); the last verified checkpoint is "
        "20260101T000000Z-000007, and no other is promoted"
    )
    (finding,) = await probe(damaged, last_verified="").sample()
    assert "checkpoint is none" in finding.reason


async def test_sound_stores_are_one_calm_finding_a_subsystem() -> None:
    """What was not looked at yet is not called sound."""
    checks = [DatastoreCheck(name, HOST, True, rows=5) for name in "ab"] + [DatastoreCheck("c", "chat")]
    (finding,) = await probe(*checks).sample()
    assert (finding.subsystem, finding.severity, finding.reason) == (
        HOST,
        Severity.OK,
        "2 store(s) with 10 rows, all sound",
    )
    assert await probe().sample() == []


async def test_what_cannot_be_seen_is_unknown_and_hides_no_damage() -> None:
    """Blind is said as such; beside a damaged store, the damage is what counts."""
    unseen = DatastoreCheck("later", HOST, True, error="/x: no such file")
    with pytest.raises(ProbeError, match="later: /x: no such file"):
        await probe(unseen).sample()
    (finding,) = await probe(unseen, DatastoreCheck("m", HOST, True, (("rot", "x"),))).sample()
    assert finding.severity is Severity.CRITICAL


async def test_what_cannot_be_judged_hides_no_other_store() -> None:
    """It is named, and the others are said to be sound: blind, the probe would never let their anomalies end."""
    unjudged = DatastoreCheck("keys", "vault", True, error="cannot judge /k: encrypted")
    asked = probe(unjudged, DatastoreCheck("memory", "chat", True, rows=3))
    (finding,) = await asked.sample()
    assert (finding.subsystem, finding.severity) == ("chat", Severity.OK)
    assert asked.notice == "keys: cannot judge /k: encrypted"


async def test_a_note_is_passed_on() -> None:
    """It is for the person who looks at the status."""
    noted = probe(DatastoreCheck("m", HOST, True, note="made anew"))
    await noted.sample()
    assert noted.notice == "m: made anew"
