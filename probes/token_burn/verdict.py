"""Define a detector's verdict, and turn it into a finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from statemachine.containment import Rung
from statemachine.finding import Finding, Severity

NAME = "token_burn"
GENTLE_NAME = "token_rate"
"""The name of what calls for less than closing the gateway. An anomaly keeps the rung it was raised with, so a
runaway that goes on under a throttle must be able to raise a second one, which freezes it."""


class Detector(StrEnum):
    """Lists every detector, by its name in evidence and configuration."""

    HARD_LIMIT = "hard_limit"
    BURN_RATE = "burn_rate"
    BUSY_CUSUM = "busy_cusum"
    IDENTICAL_PROMPTS = "identical_prompts"
    DUPLICATE_PROMPTS = "duplicate_prompts"
    SAMPLED_PROMPTS = "sampled_prompts"
    RENUMBERED_PROMPTS = "renumbered_prompts"
    APPENDED_LOOP = "appended_loop"
    RETRY_RATIO = "retry_ratio"
    ERROR_RATIO = "error_ratio"
    PILE_UP = "pile_up"
    LOOPING_OUTPUT = "looping_output"


DETECTORS = frozenset(detector.value for detector in Detector)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Holds one detector's statement about one subsystem at one time. `rung` is the hold it calls for."""

    detector: Detector
    severity: Severity
    rung: Rung
    reason: str
    value: float
    limit: float
    unit: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bad(self) -> bool:
        return self.severity >= Severity.ANOMALY

    def finding(self, subsystem: str, at: float) -> Finding:
        """State it. Every detector but the hard limit counts over a window itself, so one word is enough."""
        return Finding(
            NAME if self.rung >= Rung.BLOCK or not self.bad else GENTLE_NAME,
            subsystem,
            self.severity,
            at,
            self.reason,
            value=self.value,
            limit=self.limit,
            unit=self.unit,
            evidence={"detector": self.detector.value, **self.evidence},
            hard=self.bad and self.detector is not Detector.HARD_LIMIT,
            rung=self.rung,
        )


def firmest(verdicts: list[Verdict]) -> Verdict | None:
    """Return the one to act upon: the most severe, of those the one with the firmest rung."""
    return max(verdicts, key=lambda verdict: (verdict.severity, verdict.rung), default=None)
