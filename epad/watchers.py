"""The probes, made from the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from epad.config import Config, HysteresisConfig, SubsystemConfig
from epad.config_probes import AlertsConfig, ProbesConfig, TokenBurnConfig
from epad.directories import Directories
from epad.events import EventKind, EventLog
from epad.host_readings import HostReader
from epad.integrity import Integrity
from epad.looks import Looks, Sights, dependency_graph
from epad.process_owners import ProcessOwners
from epad.supervisor.identity import ProcessTable
from epad.supervisor.restart import SUCCEEDED
from epad.world import Forgetful
from probes.alerts import Alerts, AlertThresholds
from probes.cascade import Cascade, CascadeThresholds, Neighbourhood
from probes.conversation import ConversationHealth, ConversationThresholds
from probes.datastore import DatastoreIntegrity
from probes.host import Host, HostThresholds
from probes.ledger_integrity import LedgerIntegrity
from probes.liveness import Liveness
from probes.loop_lag import LoopLag
from probes.probe import Probe, Push
from probes.progress import Progress, ProgressThresholds
from probes.subsystems import Snapshots
from probes.token_burn import BurnWindow, SubsystemBudget, TokenBurn, TokenBurnThresholds
from probes.turns import TurnObserver
from probes.vram import VramThresholds
from probes.vram.amd import AmdGpus, cards
from probes.vram.attribution import OwnerOf
from probes.vram.nvidia import NvidiaGpus
from probes.vram.probe import Vram
from probes.vram.prober import DriverProber, worker
from probes.vram.source import GpuSource
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
    liveness: Liveness
    ledger: LedgerIntegrity
    cascade: Cascade
    looks: Looks
    vram: Vram
    host: Host
    alerts: Alerts
    lag: LoopLag
    datastore: DatastoreIntegrity
    budgets: dict[str, SubsystemBudget]

    def configure(self, subsystems: Mapping[str, SubsystemConfig]) -> None:
        """Go by the budgets of these from now on."""
        self.budgets.clear()
        self.budgets.update({name: _budget(spec) for name, spec in subsystems.items()})

    def all(self) -> list[Probe]:
        detectors: list[Probe] = [
            self.token_burn,
            self.conversation,
            self.progress,
            self.liveness,
            self.ledger,
            self.cascade,
        ]
        return [*detectors, self.vram, self.host, self.alerts, self.datastore]

    def turn_observers(self) -> list[TurnObserver]:
        """Those that the gateway tells about turns."""
        return [self.token_burn, self.conversation, self.progress, self.looks]

    def forgetful(self) -> list[Forgetful]:
        """Those that start afresh with a subsystem that was released."""
        return [self.token_burn, self.conversation, self.progress, self.cascade, self.vram]


@dataclass(frozen=True, slots=True)
class Senses:
    """What the probes look at; `parked` names what recovery has given up on."""

    snapshots: Snapshots
    integrity: Integrity
    directories: Directories
    parked: Callable[[], Collection[str]] = frozenset
    sights: Sights = field(default_factory=Sights)


def make_watchers(config: Config, senses: Senses, clock: Clock, push: Push, events: EventLog) -> Watchers:
    """Make the probes. Raises ValueError for a threshold that could never be reached."""
    probes, log = config.probes, structlog.get_logger("epad.probes")
    snapshots, integrity, directories = senses.snapshots, senses.integrity, senses.directories
    graph = dependency_graph(config.subsystems, config.upstreams)
    looks = Looks(config.upstreams, graph, snapshots, senses.sights, clock)
    budgets = {name: _budget(spec) for name, spec in config.subsystems.items()}

    def budget(name: str) -> SubsystemBudget:
        return budgets.get(name, _NO_BUDGET)

    def notice(text: str) -> None:
        log.info(EventKind.NOTICE, text=text)
        events.emit(EventKind.NOTICE, text=text)

    lag = _lag(probes, clock)
    return Watchers(
        token_burn=TokenBurn(token_burn_thresholds(probes.token_burn), budget=budget, clock=clock, push=push),
        conversation=ConversationHealth(
            ConversationThresholds(**_fields(probes.conversation)), clock=clock, push=push
        ),
        progress=Progress(
            ProgressThresholds(**_fields(probes.progress)), snapshots=snapshots, clock=clock, void=lag.void
        ),
        liveness=Liveness(
            probes.liveness.interval_seconds,
            snapshots=snapshots,
            parked=senses.parked,
            clock=clock,
            void=lag.void,
        ),
        ledger=LedgerIntegrity(probes.ledger_integrity.interval_seconds, check=integrity.check, clock=clock),
        cascade=Cascade(
            CascadeThresholds(**_fields(probes.cascade)),
            clock=clock,
            push=push,
            completed=lambda event: event.reason == SUCCEEDED,
            neighbourhood=Neighbourhood(graph, looks, looks.answers_for, len(config.subsystems)),
            void=lag.void,
        ),
        looks=looks,
        alerts=Alerts(_alert_thresholds(probes.alerts), subsystems=lambda: config.subsystems, clock=clock),
        vram=_vram(config, _owner_of(snapshots, directories, Path(probes.vram.root)), clock, notice),
        host=Host(
            HostThresholds(**_fields(probes.host)),
            read=HostReader(directories.state).read,
            lag=lag,
            clock=clock,
        ),
        datastore=DatastoreIntegrity(
            probes.datastore.interval_seconds,
            check=senses.sights.datastores,
            last_verified=senses.sights.last_verified,
            clock=clock,
        ),
        lag=lag,
        budgets=budgets,
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


def _vram(config: Config, owner_of: OwnerOf, clock: Clock, tell: Callable[[str], None]) -> Vram:
    probes = config.probes
    fields, root = _fields(probes.vram), Path(probes.vram.root)
    del fields["root"]
    timeout = probes.vram.timeout_seconds
    nvml = DriverProber(worker("nvml_worker", os.environ), "NVIDIA", timeout_seconds=timeout)
    amdgpu = DriverProber(worker("amd_worker", os.environ, str(root)), "AMD", timeout_seconds=timeout)
    sources: list[GpuSource] = [NvidiaGpus(nvml, clock), AmdGpus(amdgpu, clock, lambda: any(cards(root)))]
    return Vram(
        VramThresholds(**fields),
        sources=sources,
        owner_of=owner_of,
        clock=clock,
        tell=tell,
        fills_by_design=[name for name, spec in config.subsystems.items() if spec.fills_gpu or spec.serves],
    )


def _owner_of(snapshots: Snapshots, directories: Directories, root: Path) -> OwnerOf:
    proc = root / "proc"
    # Nothing is signalled by these pids, so the boot that an identity names does not matter.
    return ProcessOwners(snapshots, ProcessTable("", proc), directories.state, proc).owner_of


def _lag(probes: ProbesConfig, clock: Clock) -> LoopLag:
    host = probes.host
    return LoopLag(
        beat_seconds=host.lag_seconds / 4,
        lag_seconds=host.lag_seconds,
        settle_seconds=host.lag_settle_seconds,
        clock=clock,
    )


def make_assessor(rules: Mapping[str, HysteresisConfig]) -> Assessor:
    """The hysteresis of every probe, and a person's."""
    assessor = Assessor({})
    configure_assessor(assessor, rules)
    return assessor


def configure_assessor(assessor: Assessor, rules: Mapping[str, HysteresisConfig]) -> None:
    """Give an assessor these rules."""
    by_probe = {name: Hysteresis(**_fields(rule)) for name, rule in rules.items() if name != "default"}
    assessor.configure({**by_probe, OPERATOR: _OPERATOR_RULE}, Hysteresis(**_fields(rules["default"])))


def _fields(struct: object) -> dict[str, Any]:
    names: tuple[str, ...] = getattr(struct, "__struct_fields__")  # noqa: B009  msgspec's own list
    return {name: getattr(struct, name) for name in names}
