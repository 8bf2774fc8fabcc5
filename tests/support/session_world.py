"""Sequences of operations on sessions, on the daemon's own parts beside a model that knows no more than the rules.

The parts are real: the book and its table, the budgets, the sessions, the questions for a person, the spawning. Around
them are a house whose processes are names, and a ledger that is a list of turns. A crash drops every object and leaves
the table, the processes and the list; it comes between two operations, or at a write of one.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar, cast

import apsw
import structlog

from epad.agents.agent import Agent, AgentState, Written
from epad.agents.book import AGENT_SCHEMA, AgentBook
from epad.agents.consent import ConsentDesk
from epad.agents.context import SpawnContext
from epad.agents.request import Asked, AskedBudget, SpawnRefusedError
from epad.agents.spawning import Spawning
from epad.configuration.agent_schema import AgentBudgetConfig, AgentConfig
from epad.configuration.schema import BudgetConfig, SharedBudgetConfig, SubsystemConfig
from epad.confinement.approvals import ONCE
from epad.gate.tiers import Tier, TierName
from epad.gateway.budget import Budgets, Refused, Reservation, SharedBudgets, Spend
from epad.storage.database import Database
from epad.tools.consent import ConsentContext, Consents
from epad.tools.sessions import Session, Sessions, process_of_agent
from statemachine.containment import Containable, Hold, desired_holds
from statemachine.phase import Phase

T = TypeVar("T")
ROOT_TIERS: Mapping[str, TierName] = {"alpha": "analyst", "beta": "operator", "client": "reader"}
ROOTS = {
    "alpha": BudgetConfig(tokens_in_all=4_000, usd_in_all=0.004, max_in_flight=0),
    "beta": BudgetConfig(
        tokens_in_all=30_000, tokens_per_minute=2_500, tokens_per_hour=9_000, max_in_flight=0
    ),
    "client": BudgetConfig(tokens_in_all=1_500, max_in_flight=0),
}
EVERYONE = SharedBudgetConfig(tokens_in_all=12_000)


def template(tier: TierName, tokens: int, usd: float, *parents: str) -> AgentConfig:
    return AgentConfig(("x",), parents, tier, budget=AgentBudgetConfig(tokens, usd), timeout_seconds=1e9)


TEMPLATES = {
    "scout": template("reader", 900, 0.001, "alpha", "beta", "client", "scout", "coder"),
    "coder": template("author", 1_500, 0.002, "alpha", "beta", "scout", "coder"),
    "hand": template("operator", 700, 0.001, "alpha", "beta", "coder"),
}
Wish = tuple[str, str, str, int, int, str]
"""A session, and all that it asks for."""
TIERS: tuple[TierName, ...] = ("reader", "analyst", "author", "operator")
MOST_DEPTH, MOST_CHILDREN, MOST_IN_FLIGHT = 2, 4, 4
OPERATIONS = 50


class CrashError(Exception):
    """The daemon is gone."""


class BrokenError(AssertionError):
    """The daemon's parts and the model differ."""


class EscalationError(BrokenError):
    """A session has more than it may have: a tier, an agent, or a life beyond its parent's."""


class ConservationError(BrokenError):
    """A budget is not the sum that it should be, or is over."""


class Disk:
    """The table, which outlives the daemon; it can crash at a write, before or after it is done."""

    def __init__(self) -> None:
        self._connection = apsw.Connection(":memory:")
        self._connection.execute(AGENT_SCHEMA)
        self.crash_in: int | None = None
        self.crash_after = self.is_crashed = False

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        await asyncio.sleep(0)
        if self.is_crashed:
            raise CrashError
        self.is_crashed = self.crash_in == 0
        if self.crash_in is not None:
            self.crash_in -= 1
        if self.is_crashed and not self.crash_after:
            raise CrashError
        with self._connection:
            done = work(self._connection)
        if self.is_crashed:
            raise CrashError
        return done

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        return work(self._connection)


class Clock:
    def __init__(self) -> None:
        self.now = 1e6

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.now + 1.7e9, UTC)


@dataclass
class Turn:
    """A turn as the ledger has it."""

    subsystem: str
    tokens: int
    microusd: int
    at: float
    is_open: bool


@dataclass
class Known:
    """An agent as the model knows it."""

    parent: str
    parent_session: str
    tier: Tier
    depth: int
    tokens: int
    microusd: int
    is_living: bool = True


class House:
    """Holds processes as names; implements `epad.agents.spawning.House`."""

    def __init__(self) -> None:
        self.starts = itertools.count(1)
        self.processes = {name: f"{name}#{next(self.starts)}" for name in ROOTS if name != "client"}
        self.specs: dict[str, SubsystemConfig] = {}
        self.fails_to_start = False
        self.told: Callable[[str, str, bool], None] = lambda *_: None

    def configure(self, agents: Mapping[str, SubsystemConfig]) -> None:
        """Be as configured, as a daemon is when it comes: agents that are not in it are ended."""
        self.specs = {
            name: SubsystemConfig(
                kind="client" if name == "client" else "process", budget=budget, tier=ROOT_TIERS[name]
            )
            for name, budget in ROOTS.items()
        } | dict(agents)
        for name in self.processes.keys() - self.specs.keys():
            del self.processes[name]

    def spec(self, name: str) -> SubsystemConfig | None:
        return self.specs.get(name)

    def fitted(self, name: str, parent: str, spec: SubsystemConfig) -> SubsystemConfig:
        del name, parent
        return spec

    def runs(self, name: str) -> str:
        return "" if name in self.processes else "it has no process"

    def wider(self, parent: str, child: str, spec: SubsystemConfig) -> str:
        del parent, child, spec
        return ""

    async def written(self, name: str) -> Written:
        return Written(f"the answer of {name}")

    async def forget(self, name: str) -> None:
        del name


@dataclass
class World:
    """One sequence: the daemon's parts, the model, and what both are asked."""

    chance: Random
    clock: Clock = field(default_factory=Clock)
    disk: Disk = field(default_factory=Disk)
    house: House = field(default_factory=House)
    turns: list[Turn] = field(default_factory=list)
    known: dict[str, Known] = field(default_factory=dict)
    consented: dict[Wish, bool] = field(default_factory=dict)
    """What a person has consented to, and whether once alone."""
    asked: dict[int, Wish] = field(default_factory=dict)
    """The questions, by their numbers."""
    at_stake: set[str] = field(default_factory=set)
    """Agents whose end was under way when the daemon died: nobody was told that they have ended."""
    holds: set[str] = field(default_factory=set)
    phase: Phase = Phase.NORMAL
    run: int = 0
    spawning_now: tuple[str, Asked, str] | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # The daemon.

    async def start(self) -> None:
        """Come up as the daemon does: the book, the budgets from the ledger, the sessions, the agents adopted."""
        self.run += 1
        database = cast("Database", self.disk)
        self.book = AgentBook(database)
        await self.book.load()
        running = set(self.house.processes)
        await self.book.end_lost(ROOTS.keys(), running, lambda name: Written(f"the answer of {name}"))
        self.house.configure({name: self.book.living[name].spec for name in self.book.in_force})
        self.budgets = self._budgets(configured=True)
        now = self.clock.now
        self.budgets.restore(
            [Spend(t.subsystem, t.tokens, now - t.at, t.microusd) for t in self.turns if not t.is_open], now
        )
        self.budgets.carve_again(self.book.carved(), now)
        self.open: list[tuple[Reservation, Turn]] = []
        living = self.book.living
        self.sessions = Sessions(
            lambda name: process_of_agent(name) if name in living else self.house.processes.get(name, ""),
            lambda name: Tier[(self.house.specs[name].tier or "reader").upper()],
            f"run {self.run}",
        )
        self.consents = Consents(
            ConsentContext(
                clock=self.clock,
                numbers=itertools.count(self.run * 1_000),
                workspace=lambda _: "",
                lives=self.sessions.lives,
                emit=lambda *_, **__: None,
                log=_QUIET,
                wait_seconds=0.0,
            )
        )
        self.spawning = Spawning(
            SpawnContext(
                book=self.book,
                money=self.budgets,
                sessions=self.sessions,
                house=_Hands(self),
                record=_Records(),
                consent=ConsentDesk(self.consents).ask,
                templates=lambda: TEMPLATES,
                hold=self._hold,
                phase=lambda: self.phase,
                clock=self.clock,
                log=_QUIET,
                emit=lambda *_, **__: None,
            )
        )
        await self.spawning.adopt()
        await self.quiet()

    def _hold(self, name: str) -> Hold:
        """The daemon's own ladder, with whom a person lets rest."""
        parents = self.book.parent_of
        those = [
            Containable(each, essential=False, has_process=each != "client", parent=parents.get(each, ""))
            for each in self.house.specs
        ]
        return desired_holds(those, [], Phase.NORMAL, {}, {}, dict.fromkeys(self.holds, "a person"))[name]

    def _budgets(self, *, configured: bool = False) -> Budgets:
        shared = SharedBudgets({}, {}, EVERYONE, self.book.parent_of)
        limits = {name: spec.budget for name, spec in self.house.specs.items()}
        if configured:
            return Budgets(limits, 99, shared)
        self.budgets.configure(limits, 99, shared)
        return self.budgets

    async def quiet(self) -> None:
        """Wait until nothing is under way."""
        tasks: set[asyncio.Task[object]] = self.spawning._tasks
        while tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def crash(self) -> None:
        """Die, and come back: what was open has cost its reservation at most, and counts so."""
        self.spawning.close()
        tasks = list(self.spawning._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.disk.crash_in, self.disk.is_crashed = None, False
        for _, turn in self.open:
            turn.is_open = False
        self.count("crash")
        self.consented.clear()
        self.bury_below("client")  # whose session ends with each run of the daemon
        await self.start()
        for name in self.at_stake - self.book.living.keys():
            self.known[name].is_living = False
        self.at_stake.clear()
        if self.spawning_now is not None:
            parent, asked, session = self.spawning_now
            for name in self.book.living.keys() - self.known.keys():
                if self.book.living[name].parent != parent:
                    raise BrokenError(f"{name} was asked for by nobody")
                self.admit(self.book.living[name], asked, session)
        self.spawning_now = None

    # The operations.

    async def spawn(self) -> None:
        """Ask for an agent, and hold the answer against the model's."""
        parent = self.chance.choice(list(self.house.specs))
        template = self.chance.choices([*TEMPLATES, "nothing"], [10, 10, 4, 1])[0]
        tier = self.chance.choices([None, *TIERS], [3, 8, 2, 2, 1])[0]
        tokens = self.chance.choice([None, 1, 40, 40, 300, 700, 1_500])
        usd = self.chance.choices([None, 0.0, 0.000_1], [2, 1, 8])[0]
        asked = Asked(template, self.chance.choice(["one", "another"]), tier, AskedBudget(tokens, usd))
        expected = self.expected(parent, asked)
        session = self.sessions.of(parent).name
        self.spawning_now = parent, asked, session
        wish = self.wish(parent, asked) if asked.template in TEMPLATES else None
        try:
            agent = await self.spawning.spawn(parent, asked)
        except SpawnRefusedError as error:
            got = "/".join(error.row.split("/")[:2])
            if wish is not None and (found := re.search(r"question (\d+) asks", error.hint)):
                self.asked.setdefault(int(found[1]), wish)
        else:
            got = "spawned"
            self.admit(agent, asked, session)
        self.spawning_now = None
        if wish is not None and got != "spawn/consent" and self.is_asked_for(parent, asked, got):
            self.consented = {one: once for one, once in self.consented.items() if one != wish or not once}
        self.count(got)
        if expected not in {got, ""}:
            kind = EscalationError if got == "spawned" else BrokenError
            raise kind(f"{parent} asked for {asked}: expected {expected}, got {got}")

    def is_asked_for(self, parent: str, asked: Asked, got: str) -> bool:
        """Whether a request came as far as a person's consent, which it has then used up if it was for once."""
        return got in {"spawned", "spawn/start"} or (
            got == "spawn/budget" and not self.is_too_much(parent, asked)
        )

    def admit(self, agent: Agent, asked: Asked, session: str) -> None:
        """Take a spawned agent into the model, by what was asked and by nothing that the daemon says of it."""
        template = TEMPLATES[asked.template]
        above = self.known.get(agent.parent)
        self.known[agent.name] = Known(
            agent.parent,
            session,
            Tier[(asked.tier or template.tier).upper()],
            1 if above is None else above.depth + 1,
            asked.budget.tokens or template.budget.tokens,
            round((template.budget.usd if asked.budget.usd is None else asked.budget.usd) * 1e6),
        )

    def expected(self, parent: str, asked: Asked) -> str:  # noqa: PLR0911 - a return for each row
        """The answer by the rules; empty where only the windows of a budget decide, which the model does not keep."""
        template, known = TEMPLATES.get(asked.template), self.known.get(parent)
        if template is None:
            return "spawn/parents"
        if self.held(parent):
            return "spawn/hold"
        if self.phase not in {Phase.NORMAL, Phase.QUARANTINE}:
            return "spawn/phase"
        origin = parent if known is None else parent.partition("-")[0]
        if origin not in template.parents:
            return "spawn/parents"
        if known is not None and known.depth >= MOST_DEPTH:
            return "spawn/depth"
        if len(self.children(parent)) >= MOST_CHILDREN:
            return "spawn/fan_out"
        tier, most = Tier[(asked.tier or template.tier).upper()], Tier[template.tier.upper()]
        if tier > most:
            return "spawn/tier"
        if self.is_too_much(parent, asked):
            return "spawn/budget"
        own = Tier[ROOT_TIERS[parent].upper()] if known is None else known.tier
        needs = tier > own or tier > Tier.AUTHOR
        _, _, _, tokens, microusd, _ = wish = self.wish(parent, asked)
        if needs and wish not in self.consented:
            return "spawn/consent"
        if not self.fits(parent, tokens, microusd):
            return "spawn/budget"
        if parent == "beta":
            return ""
        return "spawn/start" if self.house.fails_to_start else "spawned"

    def is_too_much(self, parent: str, asked: Asked) -> bool:
        """Whether a request is refused by its template, or names no money where it has to."""
        _, _, _, tokens, microusd, _ = self.wish(parent, asked)
        most = TEMPLATES[asked.template].budget
        return (
            tokens > most.tokens or microusd > most.usd * 1e6 or (self.counts_money(parent) and not microusd)
        )

    def wish(self, parent: str, asked: Asked) -> Wish:
        template = TEMPLATES[asked.template]
        usd = template.budget.usd if asked.budget.usd is None else asked.budget.usd
        tokens = asked.budget.tokens or template.budget.tokens
        name = asked.tier or template.tier
        return (self.sessions.of(parent).name, asked.template, name, tokens, round(usd * 1e6), asked.reason)

    def answer(self) -> None:
        """A person answers an open question: yes for a time, or no; or nobody does, which is a no."""
        questions = list(self.consents.open())
        if not questions:
            return
        question = self.chance.choice(questions)
        if self.chance.random() < 0.6:
            once = self.chance.random() < 0.3
            self.consents.approve(question.number, ONCE if once else 1e9, "")
            self.consented[self.asked[question.number]] = once
            self.count("consent given")
        else:
            self.consents.deny(question.number, "")
            self.count("consent denied")

    def begin_turn(self) -> None:
        """Reserve a turn of anybody, as large as may fit or not."""
        name = self.chance.choice(list(self.house.specs))
        tokens = self.chance.choice([1, 50, 200, 800])
        microusd = self.chance.choice([0, 0, tokens]) if self.priced(name) else 0
        got = self.budgets.reserve(name, tokens, self.clock.now, microusd)
        if not isinstance(got, Refused):
            turn = Turn(name, tokens, microusd, self.clock.now, is_open=True)
            self.turns.append(turn)
            self.open.append((got, turn))
            self.count("turn")
        elif name != "beta" and self.in_flight(name) < MOST_IN_FLIGHT and self.fits(name, tokens, microusd):
            raise BrokenError(f"a turn of {name} was refused though it fits: {got}")

    def in_flight(self, name: str) -> int:
        """The most turns in flight of an agent, or of one above it: those of its agents are its own too."""
        most = 0
        while name in self.known:
            those = self.below(name)
            most = max(most, sum(turn.subsystem in those for _, turn in self.open))
            name = self.known[name].parent
        return most

    def priced(self, name: str) -> bool:
        known = self.known.get(name)
        return known is None or known.microusd > 0

    def settle_turn(self) -> None:
        if self.open:
            held, turn = self.open.pop(self.chance.randrange(len(self.open)))
            share = self.chance.choice([0.0, 0.5, 1.0])
            turn.tokens, turn.microusd = int(held.tokens * share), int(held.microusd * share)
            turn.at, turn.is_open = self.clock.now, False
            self.budgets.settle(held, turn.tokens, self.clock.now, turn.microusd)

    async def end_agent(self) -> None:
        """A parent ends one of its agents, or it ends by itself."""
        living = [name for name, one in self.known.items() if one.is_living]
        if not living:
            return
        name = self.chance.choice(living)
        self.at_stake = self.below(name) & set(living)
        if self.chance.random() < 0.5:
            await self.spawning.end(name, "its parent has ended it", "session")
        else:
            self.house.processes.pop(name, None)
            self.spawning.exited(name, "exit code 0", wanted=False)
        await self.quiet()
        if not self.disk.is_crashed:
            self.bury(name)
            self.at_stake.clear()
        self.count("end")

    async def end_parent(self) -> None:
        """A root's process ends, and is started anew: another session."""
        name = self.chance.choice(["alpha", "beta"])
        self.at_stake = {one for one in self.below(name) if one in self.known and self.known[one].is_living}
        self.house.processes[name] = f"{name}#{next(self.house.starts)}"
        self.spawning.exited(name, "exit code 1", wanted=False)
        await self.quiet()
        if not self.disk.is_crashed:
            self.bury_below(name)
            self.at_stake.clear()
        self.count("parent's end")

    async def change_hold(self) -> None:
        name = self.chance.choice(list(self.house.specs))
        self.holds = set() if self.holds else {name}

    async def change_phase(self) -> None:
        phases = [Phase.NORMAL, Phase.QUARANTINE, Phase.PRESERVATION, Phase.RECOVERY]
        self.phase = self.chance.choices(phases, [8, 2, 1, 1])[0]

    async def pass_time(self) -> None:
        seconds = self.chance.choice([0.5, 20.0, 70.0, 400.0, 4_000.0])
        self.clock.now += seconds

    async def break_start(self) -> None:
        self.house.fails_to_start = not self.house.fails_to_start

    # The model.

    def held(self, name: str) -> bool:
        """A hold of a parent is its agents' too."""
        while name not in self.holds:
            if name not in self.known:
                return False
            name = self.known[name].parent
        return True

    def children(self, parent: str) -> list[str]:
        return [name for name, one in self.known.items() if one.is_living and one.parent == parent]

    def bury(self, name: str) -> None:
        self.known[name].is_living = False
        self.bury_below(name)

    def bury_below(self, name: str) -> None:
        for child in self.children(name):
            self.bury(child)

    def counts_money(self, name: str) -> bool:
        if name in ROOTS:
            return bool(ROOTS[name].usd_in_all)
        return self.known[name].microusd > 0

    def below(self, name: str) -> set[str]:
        """An agent or root, and all that it has ever spawned, with theirs."""
        found = {name}
        for each, one in self.known.items():
            if one.parent in found:
                found.add(each)
        return found

    def settled(self, name: str, unit: str) -> int:
        those = self.below(name)
        return sum(getattr(t, unit) for t in self.turns if t.subsystem in those and not t.is_open)

    def used(self, name: str, unit: str) -> int:
        """What is spent of a budget, or set aside in it: the sum that everything comes down to."""
        total = self.settled(name, unit) + self.pending(name, unit)
        return total

    def pending(self, name: str, unit: str) -> int:
        """Turns in flight, the living agents' rests, and the turns of those that have ended."""
        total: int = sum(getattr(t, unit) for t in self.turns if t.subsystem == name and t.is_open)
        for each, one in self.known.items():
            if one.parent == name:
                amount: int = getattr(one, unit)
                if one.is_living:
                    total += max(0, amount - self.settled(each, unit))
                else:
                    total += self.pending(each, unit)
        return total

    def fits(self, name: str, tokens: int, microusd: int) -> bool:
        """Whether an amount fits by the totals; windows may still refuse it to beta itself."""
        if name in ROOTS:
            limits = ROOTS[name]
            most_tokens, most_microusd = limits.tokens_in_all, round(limits.usd_in_all * 1e6)
            if sum(self.used(root, "tokens") for root in ROOTS) + tokens > EVERYONE.tokens_in_all:
                return False
        else:
            most_tokens, most_microusd = self.known[name].tokens, self.known[name].microusd
        if self.used(name, "tokens") + tokens > most_tokens:
            return False
        return not most_microusd or self.used(name, "microusd") + microusd <= most_microusd

    def root(self, name: str) -> str:
        while name in self.known:
            name = self.known[name].parent
        return name

    def check(self) -> None:
        """Hold the daemon's parts against the model."""
        living = {name for name, one in self.known.items() if one.is_living}
        if living != self.book.living.keys():
            kind = EscalationError if self.book.living.keys() - living else BrokenError
            raise kind(f"living are {sorted(self.book.living)}, and should be {sorted(living)}")
        running = self.house.processes.keys() - ROOTS.keys()
        if running != living:
            raise BrokenError(
                f"processes of {sorted(running)}, and there should be those of {sorted(living)}"
            )
        for name in living:
            self.check_agent(name, self.known[name])
        for name in (*ROOTS, *living):
            self.check_budget(name)

    def check_agent(self, name: str, known: Known) -> None:
        session = self.sessions.of(name)
        if self.book.living[name].state is not AgentState.RUNNING:
            raise EscalationError(f"{name} is {self.book.living[name].state}, and should run")
        if session.tier is not known.tier:
            raise EscalationError(
                f"{name} has the tier {session.tier.label}, and was given {known.tier.label}"
            )
        if known.depth > MOST_DEPTH or len(self.children(known.parent)) > MOST_CHILDREN:
            raise EscalationError(f"{name} is {known.depth} deep, one of {len(self.children(known.parent))}")
        if not self.sessions.lives(known.parent, known.parent_session):
            raise EscalationError(f"{name} has outlived its parent's session")
        template = TEMPLATES[name.partition("-")[0]]
        if known.tier > Tier[template.tier.upper()]:
            raise EscalationError(f"{name} is above its template")

    def check_budget(self, name: str) -> None:
        usages = self.budgets.snapshot(name, self.clock.now)
        for limit, usage in usages.items():
            unit = "tokens" if limit.startswith("tokens") else "microusd"
            if limit.endswith("in_all"):
                if usage.used != self.used(name, unit):
                    raise ConservationError(
                        f"{name}: {limit} is {usage.used}, and should be {self.used(name, unit)}"
                    )
                if usage.used > usage.limit:
                    raise ConservationError(f"{name}: {limit} is over: {usage}")
            elif limit in _SECONDS:
                spent = sum(
                    getattr(t, unit)
                    for t in self.turns
                    if t.subsystem in self.below(name)
                    and not t.is_open
                    and t.at > self.clock.now - _SECONDS[limit]
                )
                if spent + self.pending(name, unit) > usage.limit:
                    raise ConservationError(f"{name}: {limit} is over: {spent} spent")


_SECONDS = {"tokens_per_minute": 60.0, "tokens_per_hour": 3_600.0}
_QUIET = structlog.wrap_logger(None, processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])


class _Hands:
    """The world's house, which takes agents in and out of the configuration."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.house, name)

    async def begin(self, agent: Agent, data: str) -> None:
        del data
        world = self._world
        await asyncio.sleep(0)
        world.book.in_force.add(agent.name)
        world.house.specs[agent.name] = agent.spec
        world._budgets()
        if not world.house.fails_to_start:
            world.house.processes[agent.name] = process_of_agent(agent.name)

    async def end(self, name: str) -> None:
        world = self._world
        await asyncio.sleep(0)
        world.book.in_force.discard(name)
        world.house.specs.pop(name, None)
        world.house.processes.pop(name, None)
        world.holds.discard(name)
        world._budgets()


class _Records:
    async def spawned(self, agent: Agent, parent: Session, child: Session) -> None:
        if child.name != agent.session or parent.name != agent.parent_session:
            raise BrokenError(f"{agent.name} is not recorded as what it is")

    def ended(self, agent: Agent, by: str) -> None:
        del agent, by


async def play(seed: int, operations: int = OPERATIONS) -> dict[str, int]:
    """Play one sequence, and return how often each thing happened. Raises BrokenError."""
    world = World(Random(seed))
    await world.start()
    for step in range(operations):
        operation = world.chance.choices(*_OPERATIONS)[0]
        if world.chance.random() < 0.08:
            world.disk.crash_in = world.chance.randrange(4)
            world.disk.crash_after = world.chance.random() < 0.5
        try:
            with suppress(CrashError):
                done = operation(world)
                if done is not None:
                    await done
                await world.quiet()
            if world.disk.is_crashed:
                await world.crash()
            world.disk.crash_in = None
            world.check()
        except BrokenError as error:
            raise type(error)(f"seed {seed}, step {step} ({operation.__name__}): {error}") from error
    world.spawning.close()
    return world.counts


_OPERATIONS: tuple[list[Callable[[World], Any]], list[int]] = (
    [
        World.spawn, World.begin_turn, World.settle_turn, World.answer, World.end_agent, World.end_parent,
        World.crash, World.change_hold, World.change_phase, World.pass_time, World.break_start,
    ],
    [40, 24, 20, 8, 4, 2, 3, 3, 2, 4, 1],
)  # fmt: skip
