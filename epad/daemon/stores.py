"""Open the daemon's files on the disk, in order, and read each once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from epad.agents.answer import read_answer
from epad.agents.book import AGENT_SCHEMA, AgentBook
from epad.configuration.directories import Directories
from epad.configuration.schema import BudgetConfig, Config, LimitsConfig, SharedBudgetConfig
from epad.confinement.host_questions import HostSubject
from epad.confinement.known_hosts import KNOWN_HOST_SCHEMA, KnownHosts
from epad.control_loop.journal import JOURNAL_SCHEMA, Journal, Loaded
from epad.control_loop.standby_journal import StandbyJournal, place_of_copy
from epad.gateway.budget import Budgets, SharedBudgets, Spend
from epad.gateway.costs import COST_SCHEMA, CostBook
from epad.gateway.group_members import GROUP_SCHEMA, remember_groups
from epad.gateway.idempotency import ANSWER_SCHEMA
from epad.gateway.identity import KEY_SCHEMA, Identities
from epad.gateway.limits import LONGEST_WINDOW_SECONDS, REQUEST_SECONDS
from epad.ledger.clock_marks import MARK_SCHEMA, ClockMarks, Marks
from epad.ledger.loss import Accepted
from epad.ledger.paths import STARTS_FILE, Places
from epad.ledger.starts import BESIDE_A_LEDGER, START_SCHEMA, Starts
from epad.ledger.store import Ledger, Totals
from epad.ledger.sums import Spending
from epad.operations.budget_changes import BUDGET_SCHEMA, BudgetChanges
from epad.operations.budgets import BudgetOrders
from epad.operations.reload import Reloader
from epad.response.replay import REPLAY_SCHEMA
from epad.secrets.uses import USE_SCHEMA
from epad.simulate.recorder import RECORDING_SCHEMA
from epad.storage.database import Database, DatabaseError
from epad.storage.event_log import EVENT_SCHEMA
from epad.storage.open_file import OpenFiles
from epad.supervisor.records import PROCESS_SCHEMA, ProcessRecords
from epad.tools.file_labels import FILE_LABEL_SCHEMA
from epad.tools.repeats import TOOL_ANSWER_SCHEMA
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
    + GROUP_SCHEMA
    + MARK_SCHEMA
    + START_SCHEMA
    + KNOWN_HOST_SCHEMA
    + TOOL_ANSWER_SCHEMA
    + USE_SCHEMA
    + AGENT_SCHEMA
    + FILE_LABEL_SCHEMA
)
REQUESTS_NS = int(REQUEST_SECONDS * 1e9)


class PastTurns(Protocol):
    """The part of `epad.ledger.store.Ledger` that the budgets read."""

    async def spending(self, horizon_ns: int, requests_ns: int, marks: Marks | None = None) -> Spending: ...

    async def accepted_losses(self) -> Sequence[Accepted]: ...


@dataclass(frozen=True, slots=True)
class Stores:
    """Holds the open files, and the state that the previous run of the daemon left in them."""

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
    clock_marks: ClockMarks
    starts: Starts
    known_hosts: KnownHosts
    approved_hosts: Sequence[HostSubject]
    agents: AgentBook

    def in_force(self, config: Config) -> Config:
        """Return a configuration as it was read, with the limits that a person has changed and the agents that live."""
        return self.agents.applied(self.budget_changes.applied(config))

    def budget_orders(self, reloader: Reloader, clock: Clock) -> BudgetOrders:
        """Make the part that shows and changes budgets."""
        return BudgetOrders(self.budget_changes, reloader, self.budgets, clock)

    async def change_budgets(self, config: Config) -> None:
        """Adopt the budgets of a changed configuration.

        Raises LedgerError, DatabaseError, and then nothing has changed.

        A window that gets its first limit reads its spending from the ledger, and from the budgets the spending while
        the ledger was read. A turn that was in flight then counts there twice until it has left the window: too much,
        never too little.
        """
        with self.budgets.noting() as noted:
            marks = await self.clock_marks.load()
            spends, now = await spends_before(config, self.ledger, self.costs, marks)
            groups = await remember_groups(self.database, _groups(config, self.agents))
            shared = shared_budgets(config, groups, self.agents.parent_of)
            self.budgets.configure(budget_limits(config), config.gateway.max_in_flight, shared)
            self.budgets.restore_fresh([*spends, *(spend.aged(now) for spend in noted)], now)

    async def accept_loss(self, config: Config, reason: str, now: float) -> str:
        """Give up the missing records, and count every budget as spent.

        Returns their description, empty if there are none.

        Raises LedgerError, DatabaseError.
        """
        what = self.starts.lost
        missing = await self.ledger.accept_loss(reason, what)
        if missing is None and not what:
            return ""
        self.budgets.restore(all_spent(config, 0.0), now)
        await self.starts.accept()
        records = f"records {missing.first} to {missing.last} of the ledger" if missing else ""
        return "; ".join(filter(None, (records, what)))

    def shut(self) -> str:
        """Say why no turn is taken, and all that is lost; empty while turns are."""
        reasons = (self.ledger.shut(), self.starts.sentence, self.journal.stands_by)
        return "; ".join(dict.fromkeys(filter(None, reasons)))

    async def close(self) -> None:
        await self.ledger.close()
        await self.journal.close()
        with contextlib.suppress(DatabaseError):  # a boot without its mark goes by its last record
            await self.clock_marks.keep()
            await self.starts.count()
        await self.known_hosts.close()
        await self.database.close()


async def open_stores(
    config: Config,
    directories: Directories,
    clock: Clock,
    boot_id: str,
    told: Callable[[int], None] = lambda _: None,
) -> Stores:
    """Open and read; `told` hears how far the ledger has been read. Raises DatabaseError, LedgerError."""
    has_ledger = directories.ledger_database.exists()
    database = Database(directories.state_database, SCHEMA, BESIDE_A_LEDGER if has_ledger else "")
    await database.open()
    places = Places.under(directories.state, os.environ)
    ledger = await Ledger.open(directories.ledger_database, config.ledger, clock, boot_id, places, told)
    starts = Starts(database, places.anchor / STARTS_FILE, clock)
    await starts.begin(ledger_is_new=ledger.epoch == 1 and ledger.missing is None)
    files = OpenFiles.of_databases(directories.ledger_database, directories.state_database).and_directories(
        directories.state, places.anchor
    )
    ledger.guard(files.loss, lambda: starts.sentence or files.refusal())
    copy = place_of_copy(directories.runtime, directories.state)
    standby = StandbyJournal(database, JOURNAL_SCHEMA, copy)
    await standby.recover()
    journal = Journal(database, clock, boot_id, standby)
    identities = Identities(database, clock)
    await identities.load()
    costs = CostBook(database, clock, boot_id)
    await costs.settle_left_open()
    agents = await _agents(database, config, directories, boot_id)
    groups = await remember_groups(database, _groups(config, agents))
    marks = ClockMarks(database, clock, boot_id)
    changes = BudgetChanges(database, clock, config)
    await changes.load()
    known_hosts = KnownHosts(database, clock)
    await known_hosts.load()
    return Stores(
        database=database,
        ledger=ledger,
        journal=journal,
        identities=identities,
        budgets=await _budgets(
            agents.applied(changes.applied(config)), groups, agents, ledger, costs, await marks.load()
        ),
        costs=costs,
        loaded=await journal.load(),
        totals=await ledger.totals(),
        budget_changes=changes,
        spent_microusd=await costs.totals(),
        clock_marks=marks,
        starts=starts,
        known_hosts=known_hosts,
        approved_hosts=await known_hosts.approved(),
        agents=agents,
    )


async def _agents(database: Database, config: Config, directories: Directories, boot_id: str) -> AgentBook:
    """Return the book of agents, after the end of those that cannot go on. Raises DatabaseError."""
    book = AgentBook(database)
    await book.load()
    processes = await ProcessRecords(database, boot_id).load()
    await book.end_lost(config.subsystems.keys(), processes.keys(), partial(read_answer, directories))
    return book


async def _budgets(
    config: Config,
    groups: Mapping[str, str],
    agents: AgentBook,
    ledger: Ledger,
    costs: CostBook,
    marks: Marks,
) -> Budgets:
    """Make the budgets with the amounts spent before: a restart gives no one a fresh minute or month."""
    shared = shared_budgets(config, groups, agents.parent_of)
    budgets = Budgets(budget_limits(config), config.gateway.max_in_flight, shared)
    spends, now = await spends_before(config, ledger, costs, marks)
    budgets.restore(spends, now)
    budgets.carve_again(agents.carved(), now)
    return budgets


def budget_limits(config: Config) -> dict[str, BudgetConfig]:
    """Return the own budget of each subsystem that asks the gateway."""
    return {name: spec.budget for name, spec in config.subsystems.items() if spec.gateway}


def _groups(config: Config, agents: AgentBook) -> dict[str, str]:
    return {name: spec.group for name, spec in config.subsystems.items() if name not in agents.parent_of}


def shared_budgets(config: Config, groups: Mapping[str, str], parent_of: Mapping[str, str]) -> SharedBudgets:
    """Return the shared budgets; `groups` has the subsystems too that are configured no more."""
    return SharedBudgets(
        groups={name: group.budget for name, group in config.groups.items()},
        group_of=groups,
        everyone=config.budgets.get("global", SharedBudgetConfig()),
        parent_of=parent_of,
    )


async def spends_before(
    config: Config, ledger: PastTurns, costs: CostBook, marks: Marks
) -> tuple[list[Spend], float]:
    """Return the known spending, as far back as any limit reaches, and the time its ages count from.

    Both by the monotonic clock, so no step of the wall clock makes a spend older or younger.
    """
    counted = (
        *budget_limits(config).values(),
        *(group.budget for group in config.groups.values()),
        config.budgets.get("global", SharedBudgetConfig()),
    )
    spending = await ledger.spending(_horizon_ns(counted), REQUESTS_NS, marks)
    spends = [
        Spend(used.subsystem, used.tokens, used.age_ns / 1e9, requests=used.requests)
        for used in spending.used
    ]
    spends += [
        Spend(cost.subsystem, 0, cost.age_seconds, cost.microusd, requests=0)
        for cost in await costs.load(spending.timeline)
    ]
    for lost in await ledger.accepted_losses():
        spends += all_spent(config, spending.timeline.age_ns(lost) / 1e9)
    return spends, spending.timeline.now.monotonic_ns / 1e9


def all_spent(config: Config, age_seconds: float) -> list[Spend]:
    """Return for each subsystem the largest limit that it counts towards, so that no limit has anything left."""
    everyone = config.budgets.get("global", SharedBudgetConfig())
    return [
        Spend(name, tokens, age_seconds, microusd, requests)
        for name, spec in config.subsystems.items()
        if spec.gateway
        for group in (config.groups[spec.group].budget if spec.group in config.groups else everyone,)
        for tokens, microusd, requests in (_most((spec.budget, group, everyone)),)
    ]


def _most(budgets: Sequence[LimitsConfig]) -> tuple[int, int, int]:
    """Return the largest limits of tokens, micro-USD and requests among these."""

    def largest(prefix: str) -> float:
        names = [name for name in LimitsConfig.__struct_fields__ if name.startswith(prefix)]
        values: list[float] = [getattr(budget, name) for budget in budgets for name in names]
        return max(values)

    return int(largest("tokens_")), int(largest("usd_") * 1e6), int(largest("requests_"))


def _horizon_ns(budgets: Iterable[LimitsConfig]) -> int:
    """Return the time back to which the ledger must be read: a total needs all of it, a month only a month."""
    if any(budget.tokens_in_all for budget in budgets):
        return 1 << 62
    return int(LONGEST_WINDOW_SECONDS * 1e9)
