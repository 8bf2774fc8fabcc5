"""Turn alerts from outside into findings: an alert that fires in Alertmanager counts like a finding of a probe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from probes.settings import EnforcedSettings
from statemachine.clock import Clock
from statemachine.finding import HOST, Finding, Severity, SeverityName
from statemachine.value_types import Seconds

# Our own alerts come back by the same way; taken as findings, a quarantine would keep itself alive for ever.
OWN_PREFIX = "Epad"
# More than this fire at once only where something is wrong with Alertmanager itself.
MAX_FIRING = 500


@dataclass(frozen=True, slots=True)
class Alert:
    """Holds one alert as received. `fingerprint` is Alertmanager's own identity of it."""

    fingerprint: str
    name: str
    firing: bool
    severity: str = ""
    subsystem: str = ""
    summary: str = ""


class AlertsSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Maps the severity labels of Alertmanager's alerts to severities."""

    forget_seconds: Seconds  # without a repetition an alert ends whose resolution was lost
    severities: dict[str, SeverityName]  # a label that is not in it counts as a warning


@dataclass(slots=True)
class _Firing:
    alert: Alert
    heard_at: float


class Alerts:
    """Holds the firing alerts; each look states them anew, for as long as they fire."""

    name = "alerts"

    def __init__(
        self, settings: AlertsSettings, *, subsystems: Callable[[], Collection[str]], clock: Clock
    ) -> None:
        self._settings = settings
        self._subsystems = subsystems
        self._clock = clock
        self._firing: dict[str, _Firing] = {}
        self._stated: set[str] = set()

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    def receive(self, alerts: Sequence[Alert]) -> int:
        """Take in one notification; say how many of its alerts count. Later notifications win."""
        taken = 0
        for alert in alerts:
            if alert.name.startswith(OWN_PREFIX):
                continue
            if not alert.firing:
                self._firing.pop(alert.fingerprint, None)
            elif alert.fingerprint in self._firing or len(self._firing) < MAX_FIRING:
                self._firing[alert.fingerprint] = _Firing(alert, self._clock.monotonic())
            else:
                continue
            taken += 1
        return taken

    async def sample(self) -> Sequence[Finding]:
        """Return one finding for each subsystem with alerts, the gravest; one OK after the last alert ended."""
        now = self._clock.monotonic()
        oldest = now - self._settings.forget_seconds
        self._firing = {key: one for key, one in self._firing.items() if one.heard_at > oldest}
        by_subsystem: dict[str, list[Alert]] = {}
        for one in self._firing.values():
            by_subsystem.setdefault(self._place(one.alert), []).append(one.alert)
        ended = self._stated - set(by_subsystem)
        self._stated = set(by_subsystem)
        calm = [Finding(self.name, name, Severity.OK, now, "no alert fires") for name in sorted(ended)]
        return [*(self._finding(name, alerts, now) for name, alerts in by_subsystem.items()), *calm]

    def _place(self, alert: Alert) -> str:
        return alert.subsystem if alert.subsystem in self._subsystems() else HOST

    def _finding(self, subsystem: str, alerts: Sequence[Alert], now: float) -> Finding:
        gravest = max(alerts, key=self._severity)
        others = f" and {len(alerts) - 1} more" if len(alerts) > 1 else ""
        return Finding(
            self.name,
            subsystem,
            self._severity(gravest),
            now,
            f"{gravest.name} fires{others}: {gravest.summary}"
            if gravest.summary
            else f"{gravest.name} fires{others}",
            evidence={"alerts": sorted({alert.name for alert in alerts})},
        )

    def _severity(self, alert: Alert) -> Severity:
        return Severity.labelled(self._settings.severities.get(alert.severity, "warning"))
