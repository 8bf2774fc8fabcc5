"""What a probe says."""

from __future__ import annotations

import pytest

from statemachine.containment import Rung
from statemachine.finding import RUNG_LABELS, AnomalyKey, Finding, Severity


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
        ("freeze", "throttle", True),
        ("throttle", "freeze", False),
        ("freeze", "freeze", False),
        (None, "open", True),  # the probe's own rung
        (None, "throttle", False),
        ("stop", None, False),
        ("frezee", "open", True),  # none there is: the probe's own
    ],
)
def test_a_firmer_rung_climbs(new: str | None, old: str | None, climbs: bool) -> None:
    """What an anomaly began with is not what it must stay at."""
    first, then = (
        Finding("cascade", "chat", Severity.ANOMALY, 0.0, evidence={} if rung is None else {"rung": rung})
        for rung in (old, new)
    )
    assert then.climbs_above(first) is climbs


def test_the_labels_are_those_of_the_ladder() -> None:
    """In its order."""
    assert tuple(rung.label for rung in Rung) == RUNG_LABELS
