"""Count independent troubles among the anomalies: roots count, their symptoms do not."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from statemachine.assessor import Anomaly
from statemachine.containment import Rung, called_for
from statemachine.finding import HOST, Severity
from statemachine.shortage import host_is_short

SYMPTOMS = frozenset({"cascade", "liveness", "memory", "progress", "token_rate"})
"""Probes whose findings about a subsystem may say no more than that the host it runs on is short of something."""


def roots(anomalies: Collection[Anomaly], rung_by_probe: Mapping[str, Rung]) -> frozenset[str]:
    """Return the names of those whose trouble is independent: subsystems, or HOST.

    All findings about one subsystem are one trouble. Three kinds are no trouble of their own: an observed finding (its
    rung is `open`), a subsystem that is only slowed down, and a crash, a hang or a standstill while the host is short.
    A critical anomaly always is. Symptoms of another subsystem's victim are no anomalies at all, so the remaining ones
    are its own fault.
    """
    short = host_is_short(anomalies)
    return frozenset(
        a.key.subsystem
        for a in anomalies
        if a.severity is Severity.CRITICAL
        or not (
            a.finding.rung is Rung.OPEN
            or _is_only_slowed(a, rung_by_probe)
            or (short and a.key.subsystem != HOST and a.key.probe in SYMPTOMS)
        )
    )


def _is_only_slowed(anomaly: Anomaly, rung_by_probe: Mapping[str, Rung]) -> bool:
    """Tell if the anomaly calls for a throttle only: a statistical detector is not certain, and that contains it.

    A fact is more than that, unless its finding itself names the throttle.
    """
    sampled = anomaly.finding.rung is not None or not anomaly.finding.hard
    return sampled and called_for(anomaly, rung_by_probe) is Rung.THROTTLE
