"""Everything the daemon opens on the disk, opened in order and read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from epad.config import Config
from epad.database import Database
from epad.directories import Directories
from epad.events import EVENT_SCHEMA
from epad.gateway.budget import Budgets, Spend
from epad.gateway.identity import KEY_SCHEMA, Identities
from epad.ledger.store import Ledger, Totals
from epad.response.journal import JOURNAL_SCHEMA, Journal, Loaded
from epad.supervisor.records import PROCESS_SCHEMA
from statemachine.clock import Clock

# How far back spending counts against a budget: the longest window there is.
BUDGET_HORIZON_SECONDS = 86_400.0
SCHEMA = EVENT_SCHEMA + JOURNAL_SCHEMA + KEY_SCHEMA + PROCESS_SCHEMA


@dataclass(frozen=True, slots=True)
class Stores:
    """The open files, and what a former life of the daemon left in them."""

    database: Database
    ledger: Ledger
    journal: Journal
    identities: Identities
    budgets: Budgets
    loaded: Loaded
    totals: Mapping[str, Totals]

    async def close(self) -> None:
        await self.ledger.close()
        await self.database.close()


async def open_stores(config: Config, directories: Directories, clock: Clock, boot_id: str) -> Stores:
    """Open and read. Raises DatabaseError, LedgerError."""
    database = Database(directories.state_database, SCHEMA)
    await database.open()
    ledger = await Ledger.open(directories.ledger_database, config.ledger, clock, boot_id)
    journal = Journal(database, clock, boot_id)
    identities = Identities(database, clock)
    await identities.load()
    return Stores(
        database=database,
        ledger=ledger,
        journal=journal,
        identities=identities,
        budgets=await _budgets(config, ledger, clock),
        loaded=await journal.load(),
        totals=await ledger.totals(),
    )


async def _budgets(config: Config, ledger: Ledger, clock: Clock) -> Budgets:
    """The budgets with what was spent before: a restart gives nobody a fresh minute."""
    limits = {name: spec.budget for name, spec in config.subsystems.items() if spec.gateway}
    budgets = Budgets(limits, config.gateway.max_in_flight)
    now_ns = int(clock.utc().timestamp() * 1e9)
    spends = await ledger.spending_since(now_ns - int(BUDGET_HORIZON_SECONDS * 1e9))
    aged = [Spend(s.subsystem, s.tokens, (now_ns - s.wall_ns) / 1e9) for s in spends]
    budgets.restore(aged, clock.monotonic())
    return budgets
