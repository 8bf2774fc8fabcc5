"""Everything the daemon opens on the disk, opened in order and read once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from epad.budget_changes import BUDGET_SCHEMA, BudgetChanges
from epad.budget_orders import BudgetOrders
from epad.config import BudgetConfig, Config, LimitsConfig, SharedBudgetConfig
from epad.database import Database
from epad.directories import Directories
from epad.events import EVENT_SCHEMA
from epad.gateway.budget import Budgets, SharedBudgets, Spend
from epad.gateway.costs import COST_SCHEMA, CostBook
from epad.gateway.idempotency import ANSWER_SCHEMA
from epad.gateway.identity import KEY_SCHEMA, Identities
from epad.gateway.limits import LONGEST_WINDOW_SECONDS
from epad.ledger.places import Places
from epad.ledger.store import Ledger, Totals
from epad.reload import Reloader
from epad.response.journal import JOURNAL_SCHEMA, Journal, Loaded
from epad.response.replay import REPLAY_SCHEMA
from epad.simulate.recorder import RECORDING_SCHEMA
from epad.supervisor.records import PROCESS_SCHEMA
from statemachine.clock import Clock

SCHEMA = (
    EVENT_SCHEMA
    + JOURNAL_SCHEMA
    + KEY_SCHEMA
    + PROCESS_SCHEMA
    + COST_SCHEMA
    + ANSWER_SCHEMA
    + RECORDING_SCHEMA
    + REPLAY_SCHEMA
    + BUDGET_SCHEMA
)


@dataclass(frozen=True, slots=True)
class Stores:
    """The open files, and what a former life of the daemon left in them."""

    database: Database
    ledger: Ledger
    journal: Journal
    identities: Identities
    budgets: Budgets
    costs: CostBook
    loaded: Loaded
    totals: Mapping[str, Totals]
    budget_changes: BudgetChanges
    spent_microusd: Mapping[str, int]

    def budget_orders(self, reloader: Reloader, clock: Clock) -> BudgetOrders:
        """What shows the budgets, and changes them."""
        return BudgetOrders(self.budget_changes, reloader, self.budgets, clock)

    async def change_budgets(self, config: Config, clock: Clock) -> None:
        """Have the budgets of a changed configuration. Raises LedgerError, DatabaseError.

        A window that gets its first limit is told by the ledger what was spent in it. A turn in flight then
        counts there twice until it has left the window: too much, never too little.
        """
        self.budgets.configure(_limits(config), config.gateway.max_in_flight, _shared(config))
        spends = await _spends(config, self.ledger, self.costs, clock)
        self.budgets.restore_fresh(spends, clock.monotonic())

    async def close(self) -> None:
        await self.ledger.close()
        await self.database.close()


async def open_stores(config: Config, directories: Directories, clock: Clock, boot_id: str) -> Stores:
    """Open and read. Raises DatabaseError, LedgerError."""
    database = Database(directories.state_database, SCHEMA)
    await database.open()
    places = Places.under(directories.state, os.environ)
    ledger = await Ledger.open(directories.ledger_database, config.ledger, clock, boot_id, places)
    journal = Journal(database, clock, boot_id)
    identities = Identities(database, clock)
    await identities.load()
    costs = CostBook(database, clock)
    changes = BudgetChanges(database, clock, config)
    await changes.load()
    return Stores(
        database=database,
        ledger=ledger,
        journal=journal,
        identities=identities,
        budgets=await _budgets(changes.applied(config), ledger, costs, clock),
        costs=costs,
        loaded=await journal.load(),
        totals=await ledger.totals(),
        budget_changes=changes,
        spent_microusd=await _spent_microusd(costs),
    )


async def _budgets(config: Config, ledger: Ledger, costs: CostBook, clock: Clock) -> Budgets:
    """The budgets with what was spent before: a restart gives nobody a fresh minute, nor a fresh month."""
    budgets = Budgets(_limits(config), config.gateway.max_in_flight, _shared(config))
    budgets.restore(await _spends(config, ledger, costs, clock), clock.monotonic())
    return budgets


async def _spent_microusd(costs: CostBook) -> Mapping[str, int]:
    """What each subsystem has cost so far; a turn that a crash left open counts at its most."""
    spent: Counter[str] = Counter()
    for cost in await costs.load():
        spent[cost.subsystem] += cost.microusd
    return spent


def _limits(config: Config) -> dict[str, BudgetConfig]:
    return {name: spec.budget for name, spec in config.subsystems.items() if spec.gateway}


def _shared(config: Config) -> SharedBudgets:
    return SharedBudgets(
        groups={name: group.budget for name, group in config.groups.items()},
        group_of={name: spec.group for name, spec in config.subsystems.items()},
        everyone=config.budgets.get("global", SharedBudgetConfig()),
    )


async def _spends(config: Config, ledger: Ledger, costs: CostBook, clock: Clock) -> list[Spend]:
    """What the ledger knows to be spent, as far back as any limit reaches; an open turn counts as all it may."""
    shared = _shared(config)
    now_ns = int(clock.utc().timestamp() * 1e9)
    counted = (*_limits(config).values(), *shared.groups.values(), shared.everyone)
    spends = [
        Spend(s.subsystem, s.tokens, (now_ns - s.wall_ns) / 1e9)
        for s in await ledger.spending_since(max(0, now_ns - _horizon_ns(counted)))
    ]
    return spends + [
        Spend(c.subsystem, 0, (now_ns - c.wall_ns) / 1e9, c.microusd, requests=0) for c in await costs.load()
    ]


def _horizon_ns(budgets: Iterable[LimitsConfig]) -> int:
    """How far back the ledger must be read: a sum over all time needs all of it, a month only a month."""
    if any(budget.tokens_in_all for budget in budgets):
        return 1 << 62
    return int(LONGEST_WINDOW_SECONDS * 1e9)
