"""The probes, made from the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from epad.config import AlertsConfig, Config, HysteresisConfig, ProbesConfig, SubsystemConfig, TokenBurnConfig
from epad.events import EventKind, EventLog
from epad.integrity import Integrity
from epad.looks import Looks, Sights, dependency_graph
from epad.supervisor.restart import SUCCEEDED
from epad.world import Forgetful
from probes.alerts import Alerts, AlertThresholds
from probes.cascade import Cascade, CascadeThresholds, Neighbourhood
from probes.conversation import ConversationHealth, ConversationThresholds
from probes.datastore import DatastoreIntegrity
from probes.ledger_integrity import LedgerIntegrity
from probes.probe import Probe, Push
from probes.progress import Progress, ProgressThresholds
from probes.subsystems import Snapshots
from probes.token_burn import BurnWindow, SubsystemBudget, TokenBurn, TokenBurnThresholds
from probes.turns import TurnObserver
from probes.vram import VramThresholds
from probes.vram.nvidia import NvidiaVram, NvmlProber, worker
from statemachine.assessor import Assessor, Hysteresis
from statemachine.clock import Clock
from statemachine.finding import OPERATOR, Severity

# A person's hold ends by a person's word, never by itself.
_OPERATOR_RULE = Hysteresis(1, 1, float("inf"), 1.0, float("inf"))


@dataclass(frozen=True, slots=True)
class Watchers:
    """Every probe there is."""

    token_burn: TokenBurn
    conversation: ConversationHealth
    progress: Progress
    ledger: LedgerIntegrity
    cascade: Cascade
    looks: Looks
    vram: NvidiaVram
    alerts: Alerts
    datastore: DatastoreIntegrity

    def all(self) -> list[Probe]:
        return [
            self.token_burn,
            self.conversation,
            self.progress,
            self.ledger,
            self.cascade,
            self.vram,
            self.alerts,
            self.datastore,
        ]

    def turn_observers(self) -> list[TurnObserver]:
        """Those that the gateway tells about turns."""
        return [self.token_burn, self.conversation, self.progress, self.looks]

    def forgetful(self) -> list[Forgetful]:
        """Those that start afresh with a subsystem that was released."""
        return [self.token_burn, self.conversation, self.progress, self.cascade]


def make_watchers(
    config: Config,
    clock: Clock,
    push: Push,
    snapshots: Snapshots,
    integrity: Integrity,
    events: EventLog,
    sights: Sights | None = None,
) -> Watchers:
    """Make the probes. Raises ValueError for a threshold that could never be reached."""
    probes, log = config.probes, structlog.get_logger("epad.probes")
    graph = dependency_graph(config.subsystems, config.upstreams)
    sights = sights or Sights()
    looks = Looks(config.upstreams, graph, snapshots, sights, clock)
    budgets = {name: _budget(spec) for name, spec in config.subsystems.items()}

    def budget(name: str) -> SubsystemBudget:
        return budgets.get(name, _NO_BUDGET)

    def notice(text: str) -> None:
        log.info(EventKind.NOTICE, text=text)
        events.emit(EventKind.NOTICE, text=text)

    return Watchers(
        token_burn=TokenBurn(token_burn_thresholds(probes.token_burn), budget=budget, clock=clock, push=push),
        conversation=ConversationHealth(
            ConversationThresholds(**_fields(probes.conversation)), clock=clock, push=push
        ),
        progress=Progress(ProgressThresholds(**_fields(probes.progress)), snapshots=snapshots, clock=clock),
        ledger=LedgerIntegrity(probes.ledger_integrity.interval_seconds, check=integrity.check, clock=clock),
        cascade=Cascade(
            CascadeThresholds(**_fields(probes.cascade)),
            clock=clock,
            push=push,
            completed=lambda event: event.reason == SUCCEEDED,
            neighbourhood=Neighbourhood(graph, looks, looks.answers_for, len(config.subsystems)),
        ),
        looks=looks,
        vram=_vram(probes, clock, notice),
        alerts=Alerts(_alert_thresholds(probes.alerts), subsystems=lambda: config.subsystems, clock=clock),
        datastore=DatastoreIntegrity(
            probes.datastore.interval_seconds,
            check=sights.datastores,
            last_verified=sights.last_verified,
            clock=clock,
        ),
    )


_NO_BUDGET = SubsystemBudget()


def _budget(spec: SubsystemConfig) -> SubsystemBudget:
    budget = spec.budget
    return SubsystemBudget(budget.tokens_per_minute, budget.tokens_per_day, budget.max_in_flight)


def token_burn_thresholds(config: TokenBurnConfig) -> TokenBurnThresholds:
    """The thresholds of every detector. Raises ValueError for one that could never be reached."""
    burn = {name: BurnWindow(**_fields(window)) for name, window in config.burn.items()}
    return TokenBurnThresholds(**{**_fields(config), "burn": burn})


def _alert_thresholds(config: AlertsConfig) -> AlertThresholds:
    severities = {label: Severity[name.upper()] for label, name in config.severities.items()}
    return AlertThresholds(config.interval_seconds, config.forget_seconds, severities)


def _vram(probes: ProbesConfig, clock: Clock, tell: Callable[[str], None]) -> NvidiaVram:
    prober = NvmlProber(worker(os.environ), timeout_seconds=probes.vram.timeout_seconds)
    return NvidiaVram(VramThresholds(**_fields(probes.vram)), prober=prober, clock=clock, tell=tell)


def make_assessor(rules: Mapping[str, HysteresisConfig]) -> Assessor:
    """The hysteresis of every probe, and a person's."""
    by_probe = {name: Hysteresis(**_fields(rule)) for name, rule in rules.items() if name != "default"}
    return Assessor({**by_probe, OPERATOR: _OPERATOR_RULE}, Hysteresis(**_fields(rules["default"])))


def _fields(struct: object) -> dict[str, Any]:
    names: tuple[str, ...] = getattr(struct, "__struct_fields__")  # noqa: B009  msgspec's own list
    return {name: getattr(struct, name) for name in names}
