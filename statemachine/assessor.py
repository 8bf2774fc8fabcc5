"""Turn findings into anomalies: raise after m of n, clear after a quiet time, hold longer if they flap."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from msgspec import Meta, Struct

from statemachine.finding import AnomalyKey, Finding, Severity
from statemachine.tool_targets import whose
from statemachine.value_types import Seconds

LONGEST_MEMORY = 100
"""As many findings as a rule may look back. Who is well need not say so more often, and nobody keep more of it."""


class Hysteresis(Struct, frozen=True, forbid_unknown_fields=True):
    """Says how many bad findings raise an anomaly, and how long a quiet time clears it."""

    # `raise_after` bad ones among the last `out_of` raise. With 0, none ever do, not even hard ones, and a raised
    # anomaly is not kept up: the probe is only observed. `clear_after_seconds` without a bad one clears. Each time an
    # anomaly comes back within `flap_window_seconds`, the quiet time it must show doubles, up to
    # `flap_hold_max_seconds`, so a flapping subsystem is held instead of released again and again.
    raise_after: Annotated[int, Meta(ge=0, le=LONGEST_MEMORY)]
    out_of: Annotated[int, Meta(ge=1, le=LONGEST_MEMORY)]
    clear_after_seconds: Seconds
    flap_window_seconds: Seconds
    flap_hold_max_seconds: Seconds


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A finding that held. Times are `Clock.monotonic()` seconds; `raises` counts within the flap window."""

    finding: Finding
    raised_at: float
    last_bad_at: float
    raises: int = 1

    @property
    def key(self) -> AnomalyKey:
        return self.finding.key

    @property
    def severity(self) -> Severity:
        return self.finding.severity


@dataclass(frozen=True, slots=True)
class Raised:
    """An anomaly that was not there before, or one that grew more severe or calls for a firmer hold."""

    anomaly: Anomaly


@dataclass(frozen=True, slots=True)
class Cleared:
    """An anomaly that is gone, and why."""

    anomaly: Anomaly
    reason: str


Change = Raised | Cleared


@dataclass(slots=True)
class _Track:
    """Remembers the findings of one (probe, subsystem)."""

    recent: deque[bool]
    raised_at: list[float] = field(default_factory=list)


class Assessor:
    """Holds the active anomalies. Fed findings by `observe`, and time by `sweep`."""

    def __init__(self, rules: Mapping[str, Hysteresis], default: Hysteresis) -> None:
        self._rules = dict(rules)
        self._default = default
        self._tracks: dict[AnomalyKey, _Track] = {}
        self._active: dict[AnomalyKey, Anomaly] = {}

    def configure(self, rules: Mapping[str, Hysteresis], default: Hysteresis) -> None:
        """Apply these rules from the next finding on; a raised anomaly stays until it clears by them."""
        self._rules = dict(rules)
        self._default = default
        for key, track in self._tracks.items():
            track.recent = deque(track.recent, maxlen=self.rule(key.probe).out_of)

    @property
    def active(self) -> tuple[Anomaly, ...]:
        """Return the anomalies that hold now, oldest first."""
        return tuple(sorted(self._active.values(), key=lambda a: (a.raised_at, a.key)))

    def rule(self, probe: str) -> Hysteresis:
        """Return the hysteresis of a probe."""
        return self._rules.get(probe, self._default)

    def quiet_needed(self, anomaly: Anomaly) -> float:
        """Return seconds without a bad finding before this anomaly clears; doubles with each comeback."""
        rule = self.rule(anomaly.key.probe)
        doubled = rule.clear_after_seconds * 2.0 ** min(anomaly.raises - 1, 32)
        return min(doubled, max(rule.flap_hold_max_seconds, rule.clear_after_seconds))

    def clears_at(self, anomaly: Anomaly) -> float:
        """Return when this anomaly clears if nothing bad is found of it until then; infinity if it never does."""
        return anomaly.last_bad_at + self.quiet_needed(anomaly)

    def observe(self, finding: Finding) -> list[Change]:
        """Take in one finding and return the changes it makes."""
        rule = self.rule(finding.probe)
        track = self._tracks.setdefault(finding.key, _Track(deque(maxlen=rule.out_of)))
        track.recent.append(finding.bad)
        if not (finding.bad and rule.raise_after):
            return []
        current = self._active.get(finding.key)
        if current is None:
            return self._maybe_raise(finding, track, rule)
        updated = replace(current, last_bad_at=max(current.last_bad_at, finding.at))
        worse = finding.severity > current.severity or (
            finding.severity is current.severity and finding.climbs_above(current.finding)
        )
        if worse:
            updated = replace(updated, finding=finding)
        self._active[finding.key] = updated
        return [Raised(updated)] if worse else []

    def _maybe_raise(self, finding: Finding, track: _Track, rule: Hysteresis) -> list[Change]:
        enough = finding.hard or sum(track.recent) >= rule.raise_after
        if not enough:
            return []
        horizon = finding.at - rule.flap_window_seconds
        track.raised_at = [at for at in track.raised_at if at > horizon] + [finding.at]
        anomaly = Anomaly(finding, finding.at, finding.at, len(track.raised_at))
        self._active[finding.key] = anomaly
        return [Raised(anomaly)]

    def sweep(self, now: float, blind_probes: Collection[str] = ()) -> list[Change]:
        """Clear each anomaly that has been quiet for long enough; the silence of a blind probe does not count."""
        return [
            self._clear(anomaly, f"quiet for {self.quiet_needed(anomaly):.0f} s")
            for anomaly in self.active
            if now - anomaly.last_bad_at >= self.quiet_needed(anomaly)
            and anomaly.key.probe not in blind_probes
        ]

    def acknowledge(self, subsystem: str, reason: str) -> list[Change]:
        """Clear every anomaly of a subsystem because a person says so, and of the tools that are held for it alone."""
        about = {a.key for a in self.active if subsystem in {a.key.subsystem, whose(a.key.subsystem)}}
        return self.dismiss(about, reason)

    def dismiss(self, keys: Collection[AnomalyKey], reason: str) -> list[Change]:
        """Clear these anomalies: they must be found again to count."""
        return [self._clear(anomaly, reason) for anomaly in self.active if anomaly.key in keys]

    def _clear(self, anomaly: Anomaly, reason: str) -> Cleared:
        del self._active[anomaly.key]
        self._tracks[anomaly.key].recent.clear()
        return Cleared(anomaly, reason)

    def restore(self, anomalies: Iterable[Anomaly]) -> None:
        """Restore the anomalies that the previous run of the daemon had raised."""
        for anomaly in anomalies:
            rule = self.rule(anomaly.key.probe)
            self._tracks[anomaly.key] = _Track(
                deque(maxlen=rule.out_of), [anomaly.raised_at] * anomaly.raises
            )
            self._active[anomaly.key] = anomaly
