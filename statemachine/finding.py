"""Define a probe's finding: one statement, at one time, about one subsystem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, NamedTuple

from statemachine.rung import Rung

HOST = "host"
"""The subsystem name of findings about the machine or about epad itself."""

OPERATOR = "operator"
"""The probe name of what a person ordered: a person is a probe like any other."""

FOR_A_PERSON = frozenset({OPERATOR, "identity", "overrun", "decoy"})
"""Probes whose findings no recovery mends: a restart gives no key back, and what miscounts does so again."""


SeverityName = Literal["ok", "warning", "anomaly", "critical"]
"""The label of a severity, as settings name it."""


class Severity(IntEnum):
    """Grades a finding; a later member is worse."""

    OK = 0
    WARNING = 1
    ANOMALY = 2
    CRITICAL = 3

    @property
    def label(self) -> str:
        """Return the word used in logs, events and metrics."""
        return self.name.lower()

    @classmethod
    def labelled(cls, label: SeverityName) -> Severity:
        """Return the severity of that label."""
        return cls[label.upper()]


class AnomalyKey(NamedTuple):
    """Identifies an anomaly: two findings with the same key are about the same trouble."""

    probe: str
    subsystem: str

    def __str__(self) -> str:
        return f"{self.probe}/{self.subsystem}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Holds one probe's statement about one subsystem.

    `at` is `Clock.monotonic()`. `value`, `limit` and `unit` are the measured number, the number it was compared with,
    and the unit of both. `reason` is one sentence a person can act on. `evidence` holds JSON values only. `hard` marks
    a fact rather than a sample (a process exited, the chain is broken): it raises at once, without waiting for m of n.
    `rung` is the hold that the finding calls for; None: the probe's usual one. Raises TypeError for a rung that does
    not exist, also if it is put into the evidence, which decides nothing.
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
    rung: Rung | None = None

    def __post_init__(self) -> None:
        if not (self.rung is None or isinstance(self.rung, Rung)):
            raise TypeError(f"{self.probe}: the rung of a finding is a Rung or None, not {self.rung!r}")
        if "rung" in self.evidence:
            raise TypeError(f"{self.probe}: what a finding calls for is its field `rung`, not evidence")

    @property
    def key(self) -> AnomalyKey:
        """Return the anomaly this finding would raise."""
        return AnomalyKey(self.probe, self.subsystem)

    def climbs_above(self, other: Finding) -> bool:
        """Tell if this finding names a firmer rung than the other.

        Where none is named it is the probe's own, which is at least as firm as holding nothing.
        """
        if other.rung is None:
            return False
        return other.rung is Rung.OPEN if self.rung is None else self.rung > other.rung

    @property
    def bad(self) -> bool:
        """Tell if the finding counts towards an anomaly; a warning does not."""
        return self.severity >= Severity.ANOMALY
