"""Show each limit, its origin, its use and its rest for `epactl budget`, and change a limit without a reload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from epad.answers.orders import Limit
from epad.configuration.schema import Config, LimitsConfig
from epad.gateway.budget import Budgets
from epad.gateway.limits import IN_FLIGHT
from epad.gateway.money import MICROUSD
from epad.operations.budget_changes import BudgetChanges, LimitChange, Number, limits_of, scopes, with_limits
from epad.operations.reload import Reloader
from statemachine.clock import Clock


@dataclass(frozen=True, slots=True)
class BudgetOrders:
    """Reads the gateway's counters, and changes limits through the same door as a reload."""

    changes: BudgetChanges
    reloader: Reloader
    budgets: Budgets
    clock: Clock

    def show(self) -> list[Limit]:
        """Return every limit that there is, in its own unit (tokens, USD, requests, turns)."""
        config = self.reloader.config
        return [row for scope, limits in scopes(config).items() for row in self._rows(scope, limits)]

    async def change(
        self, scope: str, values: Mapping[str, Number | None], reason: str, by: str
    ) -> list[str]:
        """Set other limits from now on; None leaves one to the configuration again. Returns a sentence for each.

        Raises BudgetChangeError, and then nothing has changed; ChangeRefusedError if the former spending cannot be
        read, and then it is in force from the next reload on; DatabaseError, SupervisorError.
        """
        before = limits_of(self.reloader.config, scope)
        wanted = {
            name: self.changes.configured(scope, name)
            if value is None and hasattr(before, name)
            else value or 0
            for name, value in values.items()
        }

        def changed(config: Config) -> Config:
            return with_limits(config, scope, wanted)

        changed(self.reloader.config)  # before it is kept: what is not possible is not remembered
        await self.changes.keep(scope, values, by, reason)
        await self.reloader.adopt(changed)
        return [
            f"{name}: {_text(getattr(before, name))} -> {_text(value)}"
            + (" (as configured)" if values[name] is None else "")
            for name, value in wanted.items()
        ]

    def _rows(self, scope: str, limits: LimitsConfig) -> Iterator[Limit]:
        used: dict[str, Number] = {IN_FLIGHT: self.budgets.in_flight(scope)}
        used |= {
            _own_unit(name): usage.used / MICROUSD if name.startswith("microusd_") else usage.used
            for name, usage in self.budgets.snapshot(scope, self.clock.monotonic()).items()
        }
        is_configured = self.changes.is_configured(scope)
        for name in limits.__struct_fields__:
            limit, change = getattr(limits, name), self.changes.in_force(scope, name)
            if not limit and change is None:
                continue
            spent = used.get(name, 0)
            yield {
                "scope": scope,
                "name": name,
                "limit": limit,
                "used": spent,
                "left": max(0, limit - spent) if limit else None,
                "configured": self.changes.configured(scope, name) if is_configured else limit,
                "origin": _origin(change) if is_configured else "out of its parent's budget",
            }


def _origin(change: LimitChange | None) -> str:
    return f"{change.by}, {change.utc}: {change.reason}" if change else "configured"


def _own_unit(name: str) -> str:
    return name.replace("microusd_", "usd_")


def _text(value: Number) -> str:
    return f"{value:,}" if value else "no limit"
