"""Decide if the machine itself is short of a resource that pausing work would free."""

from __future__ import annotations

from collections.abc import Iterable

from statemachine.assessor import Anomaly
from statemachine.finding import HOST

SHORTAGES = frozenset({"host", "memory", "vram"})
"""Probes whose anomalies about the host say that it is short of something: disk, memory, VRAM."""

_NO_SHORTAGE = frozenset({"gpus", "xid"})
"""Units of what is found of a GPU that is broken: nothing that anybody gives back makes room on it."""


def host_is_short(anomalies: Iterable[Anomaly]) -> bool:
    """Tell if the machine itself is short of disk, memory or VRAM."""
    return any(
        a.key.subsystem == HOST and a.key.probe in SHORTAGES and a.finding.unit not in _NO_SHORTAGE
        for a in anomalies
    )
