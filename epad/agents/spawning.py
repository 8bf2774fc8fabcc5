"""Spawn agents, and end them: with their parent's session, by its order, at their time, or when they end by themselves.

An agent's life, and what a crash of the daemon at each step leaves:

| step | a crash after it |
|---|---|
| judged, and consented to where that is due | nothing is there |
| its amount is reserved in its parent's budgets, in memory | nothing is there |
| it is written to the book as being prepared | the next daemon ends it |
| both sessions' records name each other, and its process starts | the next daemon ends it, and its process |
| the book says that it runs | the next daemon adopts it, and reserves what is left of its amount |
| its children are ended; the book says that it is to end; its process is ended | the next daemon ends it |
| the book says that it has ended | nothing is there |
| what it has not spent is its parent's again, in memory | |

Between the judgement and the reservation nothing is awaited, so bounds and budgets are exact under any concurrency.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from epad import EpadError
from epad.agents.agent import Agent, AgentState, command_digest
from epad.agents.book import AgentBook
from epad.agents.context import SpawnContext
from epad.agents.refusals import not_recorded, unaffordable
from epad.agents.request import Asked, SpawnRefusedError, command_of
from epad.agents.rules import Situation, judge
from epad.agents.template import microusd_of, spec_of
from epad.configuration.agent_schema import AgentConfig
from epad.gate.tiers import Tier, tier_of
from epad.gate.tool_table import Taint
from epad.gateway.carves import Carved
from epad.storage.event_log import EventKind
from epad.tools.sessions import Origin, Session

EPAD: Final = "epad"
MINUTE: Final = 60.0
ITSELF: Final = "itself"
_REASON_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class _Wish:
    """Holds a request that was judged, and all that it comes to."""

    session: Session
    template: AgentConfig
    command: tuple[str, ...]
    tier: Tier
    depth: int
    tokens: int
    microusd: int
    needs_consent: bool


@dataclass(slots=True)
class _Life:
    """Holds one agent's work under way: one step at a time, and the reason to end it, if there is one already."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    why: str = ""
    by: str = EPAD
    exit: str = ""
    timer: asyncio.TimerHandle | None = None

    def to_end(self, why: str, by: str = EPAD) -> None:
        """Note a reason to end it, if there is one; the first counts."""
        if why and not self.why:
            self.why, self.by = why, by

    def is_over(self) -> bool:
        """Tell if there is a reason to end it. Others may give one while this is awaited."""
        return bool(self.why)


class Spawning:
    """Spawns agents and ends them; the book has those there are."""

    def __init__(self, context: SpawnContext) -> None:
        self._context = context
        self._lives: dict[str, _Life] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_closed = False

    @property
    def book(self) -> AgentBook:
        return self._context.book

    async def spawn(self, parent: str, asked: Asked) -> Agent:
        """Spawn an agent for a parent, which is whoever asks. Raises SpawnRefusedError.

        Whoever asks and goes away changes nothing of it.
        """
        return await asyncio.shield(self._start(self._spawn(parent, asked), f"spawn for {parent}"))

    async def _spawn(self, parent: str, asked: Asked) -> Agent:
        told = {"template": asked.template, "reason": asked.reason}
        try:
            agent = await self._try(parent, asked)
        except SpawnRefusedError as error:
            self._context.emit(EventKind.AGENT_REFUSED, parent, row=error.row, why=str(error), **told)
            raise
        self._context.emit(
            EventKind.AGENT_SPAWNED,
            parent,
            agent=agent.name,
            session=agent.session,
            parent_session=agent.parent_session,
            tier=agent.label,
            tokens=agent.tokens,
            microusd=agent.microusd,
            consent=agent.consent,
            **told,
        )
        return agent

    async def _try(self, parent: str, asked: Asked) -> Agent:
        wish = self._judge(parent, asked)
        consent = ""
        if wish.needs_consent:
            consent = await self._context.consent(wish.session, asked, wish.template, wish.tier)
            before, wish = wish, self._judge(parent, asked)
            if (wish.session.name, wish.command, wish.tier) != (
                before.session.name,
                before.command,
                before.tier,
            ):
                why = f"{parent}, or [agents.{asked.template}], has changed since the person was asked"
                raise SpawnRefusedError("spawn/consent", why, "ask again", 409)
        agent = self._reserve(wish, asked, consent)
        return await self._bring(agent, wish.session, asked.input)

    def _judge(self, parent: str, asked: Asked) -> _Wish:
        """Judge a request by all but the budgets. Raises SpawnRefusedError."""
        context, book = self._context, self._context.book
        if self._is_closed:
            raise SpawnRefusedError("spawn/phase", "the daemon is stopping", "ask the next one", 503)
        template = context.templates().get(asked.template)
        if template is None:
            known = ", ".join(
                name for name, one in context.templates().items() if self._origin(parent) in one.parents
            )
            why = f"there is no template {asked.template!r}; for {parent} there are: {known or 'none'}"
            raise SpawnRefusedError(
                "spawn/parents", why, "templates are [agents.NAME] of the configuration", 404
            )
        session, own = context.sessions.of(parent), tier_of(template.tier, has_workspace=False)
        tier = own if asked.tier is None else tier_of(asked.tier, has_workspace=False)
        facts = Situation(
            parent=parent,
            origin=self._origin(parent),
            template=asked.template,
            parents=template.parents,
            parent_tier=session.tier,
            tier=tier,
            template_tier=own,
            depth=book.depth(parent),
            children=len(book.children(parent)),
            recent=book.recent(parent, context.clock.utc().timestamp() - MINUTE),
            hold=context.hold(parent),
            phase=context.phase(),
        )
        needs_consent = judge(facts)
        command = command_of(asked.template, template, asked.parameters)
        self._check_parent(parent)
        tokens, microusd = self._amounts(parent, asked, template)
        return _Wish(session, template, command, tier, facts.depth + 1, tokens, microusd, needs_consent)

    def _origin(self, parent: str) -> str:
        agent = self.book.living.get(parent)
        return parent if agent is None else agent.template

    def _check_parent(self, parent: str) -> None:
        """Raise SpawnRefusedError for one that ends, or is no more."""
        life = self._lives.get(parent)
        spec = self._context.house.spec(parent)
        if spec is None or (life is not None and life.why):
            raise SpawnRefusedError(
                "spawn/parent", f"{parent} is ending", "nothing helps; its agents end with it", 409
            )
        if spec.kind == "process" and (why := self._context.house.runs(parent)):
            raise SpawnRefusedError("spawn/parent", f"{parent} has no process: {why}", "start it first", 409)

    def _amounts(self, parent: str, asked: Asked, template: AgentConfig) -> tuple[int, int]:
        """Return the tokens and micro-USD that are asked for. Raises SpawnRefusedError."""
        tokens = asked.budget.tokens or template.budget.tokens
        microusd = microusd_of(template.budget.usd if asked.budget.usd is None else asked.budget.usd)
        if tokens > template.budget.tokens or microusd > microusd_of(template.budget.usd):
            most = f"{template.budget.tokens:,} tokens and {template.budget.usd:g} USD"
            why = f"[agents.{asked.template}.budget] gives {most} at most"
            raise SpawnRefusedError("spawn/budget", why, "ask for less")
        if not microusd and self._context.money.counts_money(parent):
            why = f"{parent} has a limit in money, and no part of it is given to the agent"
            raise SpawnRefusedError(
                "spawn/budget", why, "name it: budget.usd, which [agents.NAME.budget] usd bounds"
            )
        return tokens, microusd

    def _reserve(self, wish: _Wish, asked: Asked, consent: str) -> Agent:
        """Take the amount out of the parent's budgets. Raises SpawnRefusedError. Awaits nothing."""
        context, session = self._context, wish.session
        parent = session.subsystem
        parent_spec = context.house.spec(parent)
        if parent_spec is None:
            raise SpawnRefusedError("spawn/parent", f"{parent} is configured no more", "nothing helps", 409)
        name = context.book.next_name(asked.template, lambda taken: context.house.spec(taken) is not None)
        spec = spec_of(
            wish.template, wish.command, wish.tier, Carved(parent, wish.tokens, wish.microusd), parent_spec
        )
        if wider := context.house.wider(parent, name, spec):
            why = f"it would reach more than its parent {parent}: {wider}"
            hint = f"narrow [agents.{asked.template}.confine], or widen [subsystems.{parent}.confine]"
            raise SpawnRefusedError("spawn/walls", why, hint)
        agent = Agent(
            name=name,
            template=asked.template,
            parent=parent,
            parent_session=session.name,
            session=context.sessions.name_of_agent(name),
            tier=wish.tier,
            depth=wish.depth,
            reason=asked.reason,
            tokens=wish.tokens,
            microusd=wish.microusd,
            spec=context.house.fitted(name, parent, spec),
            timeout_seconds=wish.template.timeout_seconds,
            begun_at=context.clock.utc().timestamp(),
            command_sha256=command_digest(wish.command),
            taint=int(session.taint),
            consent=consent,
        )
        refused = context.money.carve(name, agent.carved, context.clock.monotonic())
        if refused is not None:
            raise unaffordable(parent, refused)
        return agent

    async def _bring(self, agent: Agent, parent: Session, data: str) -> Agent:
        """Write an agent down, and start it; whatever goes wrong ends it. Raises SpawnRefusedError."""
        context, life = self._context, _Life()
        self._lives[agent.name] = life
        async with life.lock:
            try:
                await context.book.begin(agent)
            except EpadError as error:
                self._give_back(agent.name)
                self._lives.pop(agent.name, None)
                raise not_recorded(agent, error) from error
            child = context.sessions.begin_agent(agent.name, Tier(agent.tier))
            try:
                await context.record.spawned(agent, parent, child)
                # Whatever it is given comes from its parent.
                child.label(Taint(agent.taint) | parent.taint, Origin(f"its parent {agent.parent}"))
                if not life.is_over():
                    await context.house.begin(agent, data)
                    life.to_end(context.house.runs(agent.name))
                if not life.is_over():
                    agent = await context.book.started(agent.name)
            except (EpadError, OSError) as error:
                life.to_end(f"it could not be started: {error}")
            if not life.is_over():
                self._set_timer(agent, agent.timeout_seconds)
                return agent
        why = life.why
        await self.end(agent.name, why, life.by)
        if life.exit:  # it was so quick that it had ended before anybody looked
            return self.book.agent(agent.name) or agent
        raise SpawnRefusedError(
            "spawn/start", f"{agent.name} was not started: {why}", "epactl logs says more", 502
        )

    async def end(self, name: str, why: str, by: str = EPAD) -> None:
        """End an agent, those that it has spawned first; done again it waits for the first. `by` says who wants it."""
        if name not in self.book.living:
            return
        life = self._lives.setdefault(name, _Life())
        life.to_end(why, by)
        async with life.lock:
            if name in self.book.living:
                await self._end(name, life)

    async def _end(self, name: str, life: _Life) -> None:
        context = self._context
        if life.timer is not None:
            life.timer.cancel()
        for child in context.book.children(name):
            await self.end(child.name, f"its parent {name} has ended")
        session = context.sessions.of(name)  # while it is configured, which its tier comes from
        try:
            await context.book.ending(name, life.why[:_REASON_CHARACTERS], life.by)
            await context.house.end(name)
            left = await context.house.written(name)
            ended = structs.replace(
                context.book.living[name],
                state=AgentState.ENDED,
                ended_at=context.clock.utc().timestamp(),
                exit=life.exit,
                answer=left.text,
                is_cut=left.is_cut,
                answer_taint=int(session.taint),
            )
            await context.book.end(ended)
        except (EpadError, OSError) as error:
            # Its amount stays reserved: too much, never too little. The next daemon ends it.
            context.log.error("agent.not_ended", agent=name, error=str(error))
            return
        self._give_back(name)
        context.record.ended(ended, life.by)
        context.sessions.forget(name)
        self._lives.pop(name, None)
        self._tell_of_end(ended)
        while context.book.forgotten:
            await context.house.forget(context.book.forgotten.pop())

    def exited(self, name: str, status: str, *, wanted: bool) -> None:
        """Take the end of a process: of an agent, or of a parent, whose agents end with it."""
        if self._is_closed:
            return
        if name in self.book.living:
            life = self._lives.setdefault(name, _Life())
            life.exit = status
            self._start(self.end(name, "it ended", EPAD if wanted else ITSELF), f"end of {name}")
            return
        for child in self.book.children(name):
            self._start(
                self.end(child.name, f"its parent {name} has ended: {status}"), f"end of {child.name}"
            )

    async def adopt(self) -> None:
        """Go on with the agents that run still, and end those without a process, and those without their parent."""
        for agent in self.book.lost:
            self._tell_of_end(agent)
        for agent in sorted(self.book.living.values(), key=lambda one: -one.depth):
            if agent.name not in self.book.living:
                continue
            if why := self._orphaned(agent):
                await self.end(agent.name, why)
                continue
            session = self._context.sessions.of(agent.name)
            session.label(Taint(agent.taint), Origin(f"its parent {agent.parent}"))
            passed = self._context.clock.utc().timestamp() - agent.begun_at
            self._set_timer(agent, max(0.0, min(agent.timeout_seconds, agent.timeout_seconds - passed)))

    def _orphaned(self, agent: Agent) -> str:
        """Say why an agent of the previous run cannot go on; empty if it can."""
        if why := self._context.house.runs(agent.name):
            return f"it ended while epad did not run: {why}"
        if not self._context.sessions.lives(agent.parent, agent.parent_session):
            return f"its parent {agent.parent} ended while epad did not run"
        return ""

    def close(self) -> None:
        """Begin and end nothing any more: the daemon goes, and the next one adopts the agents, or they go too."""
        self._is_closed = True
        for life in self._lives.values():
            if life.timer is not None:
                life.timer.cancel()

    def _set_timer(self, agent: Agent, seconds: float) -> None:
        why = f"its time is over: {agent.timeout_seconds:g} s"
        life = self._lives.setdefault(agent.name, _Life())
        life.timer = asyncio.get_running_loop().call_later(
            seconds, lambda: self._start(self.end(agent.name, why), f"timeout of {agent.name}")
        )

    def _tell_of_end(self, agent: Agent) -> None:
        told = {"agent": agent.name, "session": agent.session, "exit": agent.exit, "why": agent.why}
        self._context.emit(EventKind.AGENT_ENDED, agent.parent, **told, by=agent.ended_by)

    def _give_back(self, name: str) -> None:
        self._context.money.give_back(name)
        self._context.settled()

    def _start(self, work: Awaitable[Agent] | Awaitable[None], name: str) -> asyncio.Task[Agent]:
        task: asyncio.Task[Agent] = asyncio.ensure_future(work)  # type: ignore[arg-type]
        task.set_name(name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, SpawnRefusedError):
            self._context.log.error("agent.task_failed", task=task.get_name(), error=repr(error))
