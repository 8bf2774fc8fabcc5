"""Hold the parts of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from epad.configuration.schema import GatewayConfig
from epad.gateway.access import Access
from epad.gateway.budget import Budgets
from epad.gateway.idempotency import Answers
from epad.gateway.identity import Identities
from epad.gateway.money import Prices
from epad.gateway.own_listeners import Door
from epad.gateway.screening import NoScreen, Screen
from epad.gateway.side_routes import NoSideRoutes, SideRoutes
from epad.gateway.tokenizing import Tokenizer
from epad.gateway.upstream import Upstreams
from epad.ledger.entry import CloseTurn, OpenTurn
from epad.metrics.registry import Metrics
from epad.runtime.listener_handover import NoHandover
from probes.turns import TurnObserver
from statemachine.clock import Clock
from statemachine.finding import Finding


class TurnLedger(Protocol):
    """Records turns, each durable once it was awaited, which raises LedgerError if it is not.

    In the order of the calls; whoever does not wait any longer and cancels a future changes nothing of that.
    """

    def open_turn(self, turn: OpenTurn) -> asyncio.Future[int]:
        """Record that a turn is about to be forwarded; return the record's number."""
        ...

    def close_turn(self, turn: CloseTurn, *, lazily: bool = False) -> asyncio.Future[int]:
        """Record how a turn ended, `lazily` together with the next opening; return the record's number."""
        ...


class TurnCosts(Protocol):
    """Records the cost of priced turns, durable when a call returns. Both raise DatabaseError."""

    async def open(self, turn: str, subsystem: str, reserved_microusd: int) -> None:
        """Record the most that a turn can cost, before it is forwarded."""
        ...

    async def close(self, turn: str, charged_microusd: int) -> None:
        """Record its cost."""
        ...


class NoCosts:
    """For a gateway without prices."""

    async def open(self, turn: str, subsystem: str, reserved_microusd: int) -> None: ...

    async def close(self, turn: str, charged_microusd: int) -> None: ...


def _unheard(finding: Finding) -> None:
    """Tell nobody."""


def _no_decoy(body: bytes) -> str:
    """Find none."""
    del body
    return ""


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """The gateway's configuration and everything it works with; without `answers`, none is ever given twice."""

    config: GatewayConfig
    identities: Identities
    budgets: Budgets
    access: Access
    upstreams: Upstreams
    ledger: TurnLedger
    observer: TurnObserver
    clock: Clock
    metrics: Metrics
    log: FilteringBoundLogger
    prices: Prices = field(default_factory=lambda: Prices({}))
    costs: TurnCosts = field(default_factory=NoCosts)
    answers: Answers | None = None
    doors: tuple[Door, ...] = ()
    alarm: Callable[[Finding], None] = _unheard
    decoy_in: Callable[[bytes], str] = _no_decoy
    """Names the subsystem whose decoy is in a body; empty for none."""
    tokenizer_files: Mapping[str, Tokenizer] = field(default_factory=dict)
    handover: NoHandover = field(default_factory=NoHandover)
    side: SideRoutes = field(default_factory=NoSideRoutes)
    """Answers at the paths that lead to no model: the tool door."""
    screen: Screen = field(default_factory=NoScreen)
    """Tells what turns are for, beside their way."""
