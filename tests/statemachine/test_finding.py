"""What a probe says."""

from __future__ import annotations

from typing import cast

import pytest

from statemachine.containment import Rung
from statemachine.finding import AnomalyKey, Finding, Severity


@pytest.mark.parametrize(
    ("severity", "bad"),
    [(Severity.OK, False), (Severity.WARNING, False), (Severity.ANOMALY, True), (Severity.CRITICAL, True)],
)
def test_a_warning_does_not_count_towards_an_anomaly(severity: Severity, bad: bool) -> None:
    """The line runs between warning and anomaly."""
    assert Finding("vram", "host", severity, 0.0).bad is bad


def test_the_same_probe_and_subsystem_are_the_same_trouble() -> None:
    """Value, time and severity do not make it another one."""
    first = Finding("vram", "wargame", Severity.ANOMALY, 1.0, value=0.98)
    second = Finding("vram", "wargame", Severity.CRITICAL, 2.0, value=0.99)
    assert first.key == second.key == AnomalyKey("vram", "wargame")
    assert str(first.key) == "vram/wargame"
    assert first.key != Finding("vram", "chat", Severity.ANOMALY, 1.0).key
    assert first.key != Finding("progress", "wargame", Severity.ANOMALY, 1.0).key


def test_severities_are_ordered_and_have_words() -> None:
    """The order is the meaning; the label is what people read."""
    assert sorted(Severity) == [Severity.OK, Severity.WARNING, Severity.ANOMALY, Severity.CRITICAL]
    assert [severity.label for severity in Severity] == ["ok", "warning", "anomaly", "critical"]


@pytest.mark.parametrize(
    ("new", "old", "climbs"),
    [
        (Rung.FREEZE, Rung.THROTTLE, True),
        (Rung.THROTTLE, Rung.FREEZE, False),
        (Rung.FREEZE, Rung.FREEZE, False),
        (None, Rung.OPEN, True),  # the probe's own rung
        (None, Rung.THROTTLE, False),
        (Rung.STOP, None, False),
        (None, None, False),
    ],
)
def test_a_firmer_rung_climbs(new: Rung | None, old: Rung | None, climbs: bool) -> None:
    """What an anomaly began with is not what it must stay at."""
    first, then = (Finding("cascade", "chat", Severity.ANOMALY, 0.0, rung=rung) for rung in (old, new))
    assert then.climbs_above(first) is climbs


@pytest.mark.parametrize("wrong", ["freeze", "frezee", "", 3])
def test_a_rung_that_is_none_is_refused(wrong: object) -> None:
    """Also a label: it is turned into a rung where it is read."""
    with pytest.raises(TypeError, match=f"vram: the rung of a finding is a Rung or None, not {wrong!r}"):
        Finding("vram", "chat", Severity.ANOMALY, 0.0, rung=cast("Rung", wrong))


def test_a_rung_in_the_evidence_is_refused() -> None:
    """Nobody would decide by it, and the probe's own rung would hold without a word."""
    with pytest.raises(TypeError, match="vram: what a finding calls for is its field `rung`"):
        Finding("vram", "chat", Severity.ANOMALY, 0.0, evidence={"rung": "frezee"})
