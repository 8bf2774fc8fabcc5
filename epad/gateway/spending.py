"""Count each subsystem's use: totals over all time, and the budget windows as of now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from epad.answers import status
from epad.gateway.budget import Budgets
from epad.ledger.store import Totals
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import Clock


@dataclass(slots=True)
class _Use:
    input_tokens: int = 0
    output_tokens: int = 0
    turns: int = 0


class SpendingBook:
    """Starts from the ledger's totals and follows the turns; implements `probes.turns.TurnObserver`."""

    def __init__(
        self,
        totals: Mapping[str, Totals],
        budgets: Budgets,
        clock: Clock,
        microusd: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._budgets = budgets
        self._clock = clock
        self._uses = {
            name: _Use(total.input_tokens, total.output_tokens, total.turns) for name, total in totals.items()
        }
        self._microusd = Counter(microusd)

    def admitted(self, event: TurnAdmitted) -> None:
        """Do nothing: nothing is used before it is finished."""

    def refused(self, event: TurnRefused) -> None:
        """A refusal costs nothing."""

    def finished(self, event: TurnFinished) -> None:
        use = self._uses.get(event.subsystem)
        if use is None:
            use = self._uses[event.subsystem] = _Use()
        use.input_tokens += event.input_tokens
        use.output_tokens += event.output_tokens
        use.turns += 1
        if event.microusd:
            self._microusd[event.subsystem] += event.microusd

    def tokens(self, subsystem: str) -> status.Tokens:
        """Return tokens and turns over all time."""
        use = self._uses.get(subsystem, _Use())
        return {"input": use.input_tokens, "output": use.output_tokens, "turns": use.turns}

    def microusd(self, subsystem: str) -> int:
        """Return the cost over all time, by the price table of each time."""
        return self._microusd[subsystem]

    def budgets(self) -> Mapping[str, Mapping[str, tuple[int, int]]]:
        """Return the same for every scope: all together, the groups, the subsystems."""
        now = self._clock.monotonic()
        return {
            scope: {limit: (usage.limit, usage.used) for limit, usage in usages.items()}
            for scope in self._budgets.scopes
            if (usages := self._budgets.snapshot(scope, now))
        }

    def budget(self, subsystem: str) -> Mapping[str, tuple[int, int]]:
        """Limit and use of each window that has a limit."""
        if not self._budgets.covers(subsystem):
            return {}
        usages = self._budgets.snapshot(subsystem, self._clock.monotonic())
        return {window: (usage.limit, usage.used) for window, usage in usages.items() if usage.limit}
