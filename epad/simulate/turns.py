"""The turns of a recording, told to the budgets and the detectors anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

from epad.answers.reports import RefusedTurns
from epad.configuration.schema import BudgetConfig, Config, SharedBudgetConfig
from epad.gateway.budget import LONGEST_WINDOW_SECONDS, Budgets, Reservation, SharedBudgets
from epad.gateway.limits import Refused as OverLimit
from probes.token_burn import SubsystemBudget, TokenBurn
from probes.token_burn.probe import BUDGET_EXCEEDED
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.assessor import LONGEST_MEMORY
from statemachine.clock import Clock
from statemachine.containment import Hold, Rung
from statemachine.finding import Finding

HELD = "subsystem_quarantined"
"""The gateway's refusal of what is held."""
SHUT_TO_ALL = frozenset({"gateway_closed", "ledger_unavailable"})
"""What the gateway says before it looks at who is held."""
MOST_REFUSALS = LONGEST_MEMORY
"""Of those recorded as one, this many are told."""

Tally = Counter[tuple[str, str]]
"""Refusals by subsystem and code."""


class Turns:
    """Counts the refusals then and now; feeds `burn`, if it is run anew."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        hold_of: Callable[[str], Hold],
        *,
        judge_holds: bool,
        judge_budgets: bool,
        judge_burn: bool,
    ) -> None:
        self.did: Tally = Counter()
        self.would: Tally = Counter()
        self.findings: list[Finding] = []
        self._clock = clock
        self._hold_of = hold_of
        self._judge_holds = judge_holds
        self._judge_budgets = judge_budgets
        self.judges_burn = judge_burn
        self._open: dict[str, Reservation] = {}
        self._budgets = Budgets({}, config.gateway.max_in_flight)
        self._never: set[str] = set()
        self.begin(config)

    def begin(self, config: Config, *, same_boot: bool = False) -> None:
        """Begin with a daemon's start: empty detectors, budgets as spent; open turns count in full."""
        if same_boot:
            for reservation in self._open.values():
                self._budgets.settle(reservation, reservation.tokens, self._clock.monotonic())
        else:
            own, shared = _limits(config)
            self._budgets = Budgets(own, config.gateway.max_in_flight, shared)
        self._limits: dict[str, SubsystemBudget] = {}
        self._open.clear()
        self._burn = TokenBurn(
            config.probes.token_burn,
            budget=lambda name: self._limits.get(name, SubsystemBudget()),
            clock=self._clock,
            push=self.findings.append,
        )
        self.interval_seconds = config.probes.token_burn.interval_seconds
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take a reload: other budgets, the same detectors."""
        own, shared = _limits(config)
        self._budgets.configure(own, config.gateway.max_in_flight, shared)
        self._limits = {
            name: SubsystemBudget(b.tokens_per_minute, b.tokens_per_day, b.max_in_flight)
            for name, b in own.items()
        }

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem."""
        self._burn.forget(subsystem)
        self._budgets.forget(subsystem)

    def admitted(self, event: TurnAdmitted) -> None:
        """Judge a recorded admission again."""
        if self._judge_holds and self._hold_of(event.subsystem).rung >= Rung.BLOCK:
            self._never.add(event.turn)
            self.would[event.subsystem, HELD] += 1
            return
        refusal = self._reserve(event.subsystem, event.turn, event.reserved_tokens)
        if refusal is not None:
            self._never.add(event.turn)
            self._refuse(event.subsystem, refusal, event.reserved_tokens, event.prompt_digest)
        elif self.judges_burn:
            self._burn.admitted(event)

    def refused(self, event: TurnRefused, more: int) -> None:
        """Judge a recorded refusal again; one that is admitted now counts as all it asked for."""
        count = 1 + more
        self.did[event.subsystem, event.code] += count
        if self._judge_holds and event.code not in SHUT_TO_ALL:
            # The gateway looks at the hold before it looks at the request, whatever it then refused it for.
            if self._hold_of(event.subsystem).rung >= Rung.BLOCK:
                self.would[event.subsystem, HELD] += count
                return
            if event.code == HELD:
                return
        if not (self._judge_budgets and event.code == BUDGET_EXCEEDED and event.unit == "tokens"):
            self.would[event.subsystem, event.code] += count
            for _ in range(min(count, MOST_REFUSALS) if self.judges_burn else 0):
                self._burn.refused(event)
            return
        refusal = None
        for _ in range(min(count, MOST_REFUSALS)):
            refusal = self._reserve(event.subsystem, "", event.asked_tokens)
            if refusal is not None:
                self._refuse(event.subsystem, refusal, event.asked_tokens, event.prompt_digest)
        if refusal is not None:
            self.would[event.subsystem, BUDGET_EXCEEDED] += max(0, count - MOST_REFUSALS)

    def finished(self, event: TurnFinished) -> None:
        """Take in a turn that was closed."""
        if event.turn in self._never:
            self._never.discard(event.turn)
            return
        reservation = self._open.pop(event.turn, None)
        if reservation is not None:
            spent = min(event.charged_tokens, reservation.tokens)
            self._budgets.settle(reservation, spent, self._clock.monotonic())
        if self.judges_burn:
            self._burn.finished(event)

    def sample(self) -> list[Finding]:
        """Return the scheduled findings of the detectors."""
        return list(_at_once(self._burn.sample()))

    def as_rows(self) -> list[RefusedTurns]:
        """Return both tallies, side by side."""
        return [
            {"subsystem": key[0], "code": key[1], "did": self.did[key], "would": self.would[key]}
            for key in sorted(self.did.keys() | self.would.keys())
        ]

    def _reserve(self, subsystem: str, turn: str, tokens: int) -> OverLimit | None:
        if not (self._judge_budgets and self._budgets.covers(subsystem)):
            return None
        now = self._clock.monotonic()
        held = self._budgets.reserve(subsystem, tokens, now)
        if isinstance(held, OverLimit):
            return held
        if turn:
            self._open[turn] = held
        else:
            self._budgets.settle(held, tokens, now)
        return None

    def _refuse(self, subsystem: str, refusal: OverLimit, asked: int, digest: bytes) -> None:
        self.would[subsystem, BUDGET_EXCEEDED] += 1
        if self.judges_burn:
            now = self._clock.monotonic()
            told = TurnRefused(
                subsystem,
                now,
                BUDGET_EXCEEDED,
                refusal.limit,
                refusal.allowed,
                refusal.used,
                asked,
                digest,
                retry_after_seconds=min(refusal.retry_after_seconds, LONGEST_WINDOW_SECONDS),
            )
            self._burn.refused(told)


def _limits(config: Config) -> tuple[dict[str, BudgetConfig], SharedBudgets]:
    specs = config.subsystems
    shared = SharedBudgets(
        {name: group.budget for name, group in config.groups.items()},
        {name: spec.group for name, spec in specs.items()},
        config.budgets.get("global", SharedBudgetConfig()),
    )
    return {name: spec.budget for name, spec in specs.items() if spec.gateway}, shared


def _at_once(sampling: Any) -> Sequence[Finding]:
    """Return the result of a coroutine that waits for nothing."""
    try:
        sampling.send(None)
    except StopIteration as ended:
        return cast("Sequence[Finding]", ended.value)
    raise RuntimeError("a detector waits for something")
