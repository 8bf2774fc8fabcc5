"""Limits that a person has changed at run time: kept through a restart, until the configuration says otherwise.

A change remembers the configured value of its time. Once the configuration has another, that one is newer, and the
change is void.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import get_type_hints

import apsw
import msgspec
import structlog
from msgspec import structs

from epad import EpadError
from epad.configuration.describe import describe
from epad.configuration.money_checks import check_money
from epad.configuration.schema import BudgetConfig, Config, LimitsConfig, SharedBudgetConfig
from epad.gateway.budget import GLOBAL_SCOPE, GROUP_PREFIX
from epad.storage.database import Database, fetch
from statemachine.clock import Clock

BUDGET_SCHEMA = """
CREATE TABLE IF NOT EXISTS budget_change(
    scope TEXT NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, configured REAL NOT NULL, utc TEXT NOT NULL,
    given_by TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY(scope, name)) STRICT;
"""
LIMITS = SharedBudgetConfig.__struct_fields__

Number = int | float


class BudgetChangeError(EpadError):
    """A limit cannot be changed so; the message names the limit and an acceptable value."""


class UnknownScopeError(BudgetChangeError):
    """There is no budget of that name; `known` are those that there are."""

    def __init__(self, scope: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no budget {scope!r}; there are: {', '.join(known)}")
        self.known = tuple(known)


@dataclass(frozen=True, slots=True)
class LimitChange:
    """Holds one limit that a person has changed, and the configured value of that time."""

    scope: str
    name: str
    value: Number
    configured: Number
    utc: str
    by: str
    reason: str


class BudgetChanges:
    """Holds every change in force, on the disk and in memory."""

    def __init__(self, database: Database, clock: Clock, configured: Config) -> None:
        self._database = database
        self._clock = clock
        self._configured = configured
        self._log = structlog.get_logger("epad.budget")
        self._changes: dict[tuple[str, str], LimitChange] = {}

    async def load(self) -> None:
        """Read the changes that the previous run kept. Raises DatabaseError."""
        query = "SELECT scope, name, value, configured, utc, given_by, reason FROM budget_change"
        rows = await self._database.read(lambda connection: fetch(connection, query))
        self._changes = {(row[0], row[1]): LimitChange(*row) for row in rows if row[1] in LIMITS}

    def applied(self, config: Config) -> Config:
        """Return a configuration as it was read, with every change that it does not contradict."""
        self._configured = config
        for key, change in tuple(self._changes.items()):
            if self.in_force(change.scope, change.name) is None:
                continue
            try:
                config = with_limits(config, change.scope, {change.name: change.value})
            except BudgetChangeError as error:
                # As a limit in money whose prices are gone: a daemon that does not start for it would be worse.
                self._log.warning(
                    "budget.change_void", scope=change.scope, limit=change.name, error=str(error)
                )
                del self._changes[key]
        return config

    def in_force(self, scope: str, name: str) -> LimitChange | None:
        """Return the change of a limit, unless the configuration has said something else since."""
        change = self._changes.get((scope, name))
        if change is None or scope not in scopes(self._configured):
            return None
        return change if getattr(limits_of(self._configured, scope), name) == change.configured else None

    def is_configured(self, scope: str) -> bool:
        """Tell if a budget is of the configuration: that of a spawned agent is a part of its parent's."""
        return scope in scopes(self._configured)

    def configured(self, scope: str, name: str) -> Number:
        """Return the configured value of a limit. Raises UnknownScopeError."""
        value: Number = getattr(limits_of(self._configured, scope), name)
        return value

    async def keep(self, scope: str, values: Mapping[str, Number | None], by: str, reason: str) -> None:
        """Remember new values; None leaves a limit to the configuration again. Raises DatabaseError."""
        at = self._clock.utc().astimezone(UTC).isoformat(timespec="seconds")
        given = {name: value for name, value in values.items() if value is not None}
        changes = [
            LimitChange(scope, name, value, self.configured(scope, name), at, by, reason)
            for name, value in given.items()
        ]
        await self._database.write(lambda connection: _write(connection, scope, tuple(values), changes))
        for name in values:
            self._changes.pop((scope, name), None)
        self._changes |= {(scope, change.name): change for change in changes}


def scopes(config: Config) -> dict[str, LimitsConfig]:
    """Return every budget by its name in status: all together, the groups, the subsystems."""
    return {
        GLOBAL_SCOPE: config.budgets.get("global", SharedBudgetConfig()),
        **{GROUP_PREFIX + name: group.budget for name, group in config.groups.items()},
        **{name: spec.budget for name, spec in config.subsystems.items() if spec.gateway},
    }


def limits_of(config: Config, scope: str) -> LimitsConfig:
    """Return the configured limits of a budget. Raises UnknownScopeError."""
    known = scopes(config)
    if scope not in known:
        raise UnknownScopeError(scope, list(known))
    return known[scope]


def check_limits(values: Mapping[str, Number]) -> dict[str, Number]:
    """Values that limits may have, whole ones as whole numbers. Raises BudgetChangeError."""
    if strange := [name for name in values if name not in LIMITS]:
        raise BudgetChangeError(f"{strange[0]} is no limit; there are: {', '.join(LIMITS)}")
    hints = get_type_hints(SharedBudgetConfig, include_extras=True)
    checked: dict[str, Number] = {}
    for name, value in values.items():
        whole = int(value) if float(value).is_integer() else value
        try:
            checked[name] = msgspec.convert(whole, hints[name])
        except msgspec.ValidationError:
            raise BudgetChangeError(f"{name} is {value}; give {describe(hints[name])}") from None
    return checked


def with_limits(config: Config, scope: str, values: Mapping[str, Number]) -> Config:
    """Return a configuration with some limits of one budget changed.

    Raises BudgetChangeError, UnknownScopeError.
    """
    former = limits_of(config, scope)
    limits = structs.replace(former, **check_limits(values))
    changed = _placed(config, scope, limits)
    before = {complaint.key for complaint in check_money(config)}
    for complaint in check_money(changed):
        if complaint.key not in before:
            raise BudgetChangeError(f"{complaint.key[-1]} {complaint.text}")
    return changed


def _placed(config: Config, scope: str, limits: LimitsConfig) -> Config:
    if isinstance(limits, BudgetConfig):
        spec = structs.replace(config.subsystems[scope], budget=limits)
        return structs.replace(config, subsystems={**config.subsystems, scope: spec})
    if scope == GLOBAL_SCOPE:
        return structs.replace(config, budgets={**config.budgets, "global": limits})
    name = scope.removeprefix(GROUP_PREFIX)
    group = structs.replace(config.groups[name], budget=limits)
    return structs.replace(config, groups={**config.groups, name: group})


def _write(
    connection: apsw.Connection, scope: str, names: tuple[str, ...], changes: list[LimitChange]
) -> None:
    for name in names:
        connection.execute("DELETE FROM budget_change WHERE scope = ? AND name = ?", (scope, name))
    for change in changes:
        connection.execute(
            "INSERT INTO budget_change VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(change.scope, change.name, float(change.value), float(change.configured)),
                *(change.utc, change.by, change.reason),
            ),
        )
