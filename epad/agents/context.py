"""Hold the parts that spawning works with, each as it needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from epad.agents.agent import Agent, Written
from epad.agents.book import AgentBook
from epad.agents.request import Asked
from epad.configuration.agent_schema import AgentConfig
from epad.configuration.schema import SubsystemConfig
from epad.gate.tiers import Tier
from epad.gateway.carves import Carved
from epad.gateway.limits import Refused
from epad.tools.sessions import Session, Sessions
from statemachine.clock import Clock
from statemachine.containment import Hold
from statemachine.phase import Phase


class Money(Protocol):
    """The part of `epad.gateway.budget.Budgets` that amounts are carved out of."""

    def carve(self, agent: str, carved: Carved, now: float) -> Refused | None: ...

    def give_back(self, agent: str) -> None: ...

    def counts_money(self, subsystem: str) -> bool: ...


class House(Protocol):
    """Puts agents in force as subsystems, and takes them out again."""

    def spec(self, name: str) -> SubsystemConfig | None:
        """Return a subsystem as it is configured; None if it is not."""
        ...

    def runs(self, name: str) -> str:
        """Return why a subsystem has no process; empty if it has one."""
        ...

    def wider(self, parent: str, child: str, spec: SubsystemConfig) -> str:
        """Name what an agent would reach beyond its parent's cell; empty for nothing."""
        ...

    def fitted(self, name: str, parent: str, spec: SubsystemConfig) -> SubsystemConfig:
        """Return an agent's settings with the variables by which it knows itself, its input, and its answer's place."""
        ...

    async def begin(self, agent: Agent, data: str) -> None:
        """Start an agent's process, with its input. Raises EpadError, OSError."""
        ...

    async def end(self, name: str) -> None:
        """End an agent's process; done again it does nothing. Raises EpadError, OSError."""
        ...

    async def written(self, name: str) -> Written:
        """Return what an agent has left as its answer."""
        ...

    async def forget(self, name: str) -> None:
        """Remove the files of an agent that nobody asks for any more."""
        ...


class Record(Protocol):
    """Puts agents on record."""

    async def spawned(self, agent: Agent, parent: Session, child: Session) -> None:
        """Note in the sessions of both that one has asked for the other. Raises EpadError."""
        ...

    def ended(self, agent: Agent, by: str) -> None:
        """Note the end of an agent's session."""
        ...


Consent = Callable[[Session, Asked, AgentConfig, Tier], Awaitable[str]]
"""Asks a person, and returns who has consented. Raises SpawnRefusedError."""


@dataclass(frozen=True, slots=True)
class SpawnContext:
    """Holds the parts that spawning works with.

    `emit` records an event of a subsystem; `settled` is told when an amount was given back.
    """

    book: AgentBook
    money: Money
    sessions: Sessions
    house: House
    record: Record
    consent: Consent
    templates: Callable[[], Mapping[str, AgentConfig]]
    hold: Callable[[str], Hold]
    phase: Callable[[], Phase]
    clock: Clock
    log: FilteringBoundLogger
    emit: Callable[..., None]
    settled: Callable[[], None] = lambda: None
