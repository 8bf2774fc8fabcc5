"""Gather everything the policy may look at into one value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from msgspec import Struct

from statemachine.phase import Phase
from statemachine.value_types import Count, Seconds


class Persist(StrEnum):
    """States how far the persist step of this incident has come."""

    NOT_TRIED = "not_tried"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Order(StrEnum):
    """Names an operator's order that is not yet carried out."""

    NONE = "none"
    LIFEBOAT = "lifeboat"
    RELAUNCH = "relaunch"


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the times and numbers by which phases are entered and left."""

    dwell_seconds: Seconds
    quarantine_limit_seconds: Seconds
    verify_seconds: Seconds
    recovery_attempts: Count
    recovery_limit_seconds: Seconds
    recoveries_per_hour: Count
    attempts_per_subsystem: Count


@dataclass(frozen=True, slots=True)
class Situation:
    """The facts at one moment.

    `anomalies` counts the active ones, `held` those of them that wait for a person: a person's own holds, and the
    findings about a subsystem that recovery has parked. `critical` counts the other critical ones,
    `oldest_anomaly_seconds` is the age of the oldest other one (0 if none), and `quiet_seconds` the time since there
    was any other.

    `dependent` counts those of the others that are no independent trouble: the second of one subsystem, a symptom of
    another's trouble, one that is only throttled.

    `degraded` counts the targets that need repair. `attempts` are the recovery attempts begun in this incident,
    `since_attempt_seconds` the time since the last one ended, `recent_recoveries` the recoveries begun within the last
    hour.
    """

    phase: Phase
    in_phase_seconds: float = 0.0
    anomalies: int = 0
    held: int = 0
    critical: int = 0
    oldest_anomaly_seconds: float = 0.0
    quiet_seconds: float = 0.0
    degraded: int = 0
    persist: Persist = Persist.NOT_TRIED
    attempt_running: bool = False
    attempts: int = 0
    since_attempt_seconds: float = 0.0
    recent_recoveries: int = 0
    order: Order = Order.NONE
    dependent: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the facts for the journal; times to the millisecond are exact enough for people."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        if not self.attempts:
            del facts["since_attempt_seconds"]
        return {name: round(fact, 3) if isinstance(fact, float) else fact for name, fact in facts.items()}
