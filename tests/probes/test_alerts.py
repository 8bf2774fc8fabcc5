"""Alerts from outside: what fires is stated until it is resolved, what is our own never."""

from __future__ import annotations

from typing import Any

import pytest

from probes.alerts import MAX_FIRING, Alert, Alerts, AlertThresholds
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Severity

SEVERITIES = {"critical": Severity.ANOMALY, "info": Severity.OK}


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.probe = Alerts(
            AlertThresholds(5.0, 3_600.0, SEVERITIES), subsystems=lambda: {"chat"}, clock=self.clock
        )

    async def said(self) -> list[tuple[str, Severity]]:
        return [(finding.subsystem, finding.severity) for finding in await self.probe.sample()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def firing(name: str = "DiskSlow", **changes: Any) -> Alert:
    fields: dict[str, Any] = {
        "fingerprint": name,
        "name": name,
        "firing": True,
        "severity": "critical",
        "summary": "slow",
    }
    return Alert(**(fields | changes))


async def test_it_fires_until_it_is_resolved(bench: Bench) -> None:
    """Stated at every look, then once as over."""
    bench.probe.receive([firing()])
    assert await bench.said() == await bench.said() == [(HOST, Severity.ANOMALY)]
    bench.probe.receive([firing(firing=False)])
    assert await bench.said() == [(HOST, Severity.OK)]
    assert await bench.said() == []


async def test_the_gravest_speaks_for_a_subsystem(bench: Bench) -> None:
    """An alert with the label of a subsystem is about it; an unknown severity is a warning."""
    bench.probe.receive([firing("A", severity="page", subsystem="chat"), firing("B", subsystem="chat")])
    bench.probe.receive([firing("C", subsystem="stranger", severity="info")])
    findings = {f.subsystem: f for f in await bench.probe.sample()}
    assert findings["chat"].severity is Severity.ANOMALY
    assert findings["chat"].reason == "B fires and 1 more: slow"
    assert findings["chat"].evidence == {"alerts": ["A", "B"]}
    assert findings[HOST].severity is Severity.OK


async def test_a_lost_resolution_ends_by_itself(bench: Bench) -> None:
    """Unless the alert is repeated."""
    bench.probe.receive([firing("A"), firing("B")])
    bench.clock.advance(3_000.0)
    bench.probe.receive([firing("A")])
    bench.clock.advance(3_000.0)
    (finding,) = await bench.probe.sample()
    assert finding.evidence == {"alerts": ["A"]}


async def test_our_own_alerts_are_not_taken(bench: Bench) -> None:
    """A quarantine that alerts of a quarantine would never end."""
    assert bench.probe.receive([firing("EpadQuarantine")]) == 0
    assert await bench.said() == []


async def test_there_is_a_most(bench: Bench) -> None:
    """Whatever Alertmanager sends, memory is bounded; what is known is still brought up to date."""
    bench.probe.receive([firing(f"A{i}") for i in range(MAX_FIRING)])
    assert bench.probe.receive([firing("one too many")]) == 0
    assert bench.probe.receive([firing("A0", firing=False), firing("now")]) == 2
