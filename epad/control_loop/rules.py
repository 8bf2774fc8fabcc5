"""The configured part of deciding, as the values that the pure rooms take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from epad.configuration.schema import Config
from statemachine.containment import Rung
from statemachine.enforcement import Enforcement
from statemachine.situation import Limits

OBSERVE = "observe"


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured part of deciding."""

    limits: Limits
    attempts_per_subsystem: int
    rung_by_probe: Mapping[str, Rung]
    blast_ratio: float = 1.0
    enforcement: Enforcement = field(default_factory=Enforcement)


def make_rules(config: Config) -> Rules:
    """Limits, the rung that each probe calls for, and how much may be touched at once."""
    policy = config.policy
    limits = Limits(
        dwell_seconds=policy.dwell_seconds,
        quarantine_limit_seconds=policy.quarantine_limit_seconds,
        verify_seconds=policy.verify_seconds,
        recovery_attempts=policy.recovery_attempts,
        recovery_limit_seconds=policy.recovery_limit_seconds,
        recoveries_per_hour=policy.recoveries_per_hour,
    )
    rungs = {probe: Rung[name.upper()] for probe, name in config.containment.items()}
    return Rules(
        limits,
        policy.attempts_per_subsystem,
        rungs,
        config.probes.cascade.blast_ratio,
        make_enforcement(config),
    )


def make_enforcement(config: Config) -> Enforcement:
    """Return the detectors that only report: by probe, and the exceptions of subsystems."""
    tables = (
        getattr(getattr(config.probes, probe), "enforce", {}) for probe in config.probes.__struct_fields__
    )
    observed = {name for table in tables for name, how in table.items() if how == OBSERVE}
    own = {
        name: {detector: how == OBSERVE for detector, how in spec.enforce.items()}
        for name, spec in config.subsystems.items()
        if spec.enforce
    }
    return Enforcement(frozenset(observed), own)
