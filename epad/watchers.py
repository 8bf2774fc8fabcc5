"""The probes, made from the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from epad.config import Config, HysteresisConfig, ProbesConfig, SubsystemConfig, TokenBurnConfig
from epad.events import EventKind, EventLog
from epad.integrity import Integrity
from epad.supervisor.restart import SUCCEEDED
from epad.world import Forgetful
from probes.cascade import Cascade, CascadeThresholds
from probes.conversation import ConversationHealth, ConversationThresholds
from probes.ledger_integrity import LedgerIntegrity
from probes.liveness import Liveness
from probes.probe import Probe, Push
from probes.progress import Progress, ProgressThresholds
from probes.subsystems import Snapshots
from probes.token_burn import BurnWindow, SubsystemBudget, TokenBurn, TokenBurnThresholds
from probes.turns import TurnObserver
from probes.vram import VramThresholds
from probes.vram.nvidia import NvidiaVram, NvmlProber, worker
from statemachine.assessor import Assessor, Hysteresis
from statemachine.clock import Clock
from statemachine.finding import OPERATOR

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
    vram: NvidiaVram
    budgets: dict[str, SubsystemBudget]

    def configure(self, subsystems: Mapping[str, SubsystemConfig]) -> None:
        """Go by the budgets of these from now on."""
        self.budgets.clear()
        self.budgets.update({name: _budget(spec) for name, spec in subsystems.items()})

    def all(self) -> list[Probe]:
        return [
            self.token_burn,
            self.conversation,
            self.progress,
            self.liveness,
            self.ledger,
            self.cascade,
            self.vram,
        ]

    def turn_observers(self) -> list[TurnObserver]:
        """Those that the gateway tells about turns."""
        return [self.token_burn, self.conversation, self.progress]

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
    parked: Callable[[], Collection[str]],
) -> Watchers:
    """Make the probes; `parked` names what recovery has given up on.

    Raises ValueError for a threshold that could never be reached.
    """
    probes, log = config.probes, structlog.get_logger("epad.probes")
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
        liveness=Liveness(probes.liveness.interval_seconds, snapshots=snapshots, parked=parked, clock=clock),
        ledger=LedgerIntegrity(probes.ledger_integrity.interval_seconds, check=integrity.check, clock=clock),
        cascade=Cascade(
            CascadeThresholds(**_fields(probes.cascade)),
            clock=clock,
            push=push,
            completed=lambda event: event.reason == SUCCEEDED,
        ),
        vram=_vram(probes, clock, notice),
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


def _vram(probes: ProbesConfig, clock: Clock, tell: Callable[[str], None]) -> NvidiaVram:
    prober = NvmlProber(worker(os.environ), timeout_seconds=probes.vram.timeout_seconds)
    return NvidiaVram(VramThresholds(**_fields(probes.vram)), prober=prober, clock=clock, tell=tell)


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
