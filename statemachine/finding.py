"""What a probe says: one statement, at one time, about one subsystem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

HOST = "host"
"""The subsystem name of findings about the machine or about epad itself."""

OPERATOR = "operator"
"""The probe name of what a person ordered: a person is a probe like any other."""


RUNG_LABELS = ("open", "throttle", "block", "freeze", "release_vram", "stop")
"""The rungs of `statemachine.containment.Rung` as evidence names them, the mildest first."""


class Severity(IntEnum):
    """How bad it is; the order is the meaning."""

    OK = 0
    WARNING = 1
    ANOMALY = 2
    CRITICAL = 3

    @property
    def label(self) -> str:
        """The word used in logs, events and metrics."""
        return self.name.lower()


class AnomalyKey(NamedTuple):
    """What makes two findings speak of the same trouble."""

    probe: str
    subsystem: str

    def __str__(self) -> str:
        return f"{self.probe}/{self.subsystem}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One probe's statement about one subsystem.

    `at` is `Clock.monotonic()`. `value`, `limit` and `unit` are the measured number, the number it was
    compared with, and the unit of both. `reason` is one sentence a person can act on. `evidence` holds
    JSON values only. `hard` marks a fact rather than a sample (a process exited, the chain is broken):
    it raises at once, without waiting for m of n.
    """

    probe: str
    subsystem: str
    severity: Severity
    at: float
    reason: str = ""
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    hard: bool = False

    @property
    def key(self) -> AnomalyKey:
        """The anomaly this finding would raise."""
        return AnomalyKey(self.probe, self.subsystem)

    def climbs_above(self, other: Finding) -> bool:
        """Whether its evidence calls for a firmer hold than the other's.

        Where none is named it is the probe's own, which is at least as firm as holding nothing.
        """
        mine, others = self.evidence.get("rung"), other.evidence.get("rung")
        if others not in RUNG_LABELS:
            return False
        if mine not in RUNG_LABELS:
            return bool(others == RUNG_LABELS[0])
        return bool(RUNG_LABELS.index(mine) > RUNG_LABELS.index(others))

    @property
    def bad(self) -> bool:
        """Whether it counts towards an anomaly; a warning does not."""
        return self.severity >= Severity.ANOMALY
