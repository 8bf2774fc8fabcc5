"""What a gateway is put together from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from epad.config import GatewayConfig
from epad.gateway.access import Access
from epad.gateway.budget import Budgets
from epad.gateway.identity import Identities
from epad.gateway.upstream import Upstreams
from epad.ledger.entry import CloseTurn, OpenTurn
from epad.metrics import Metrics
from probes.turns import TurnObserver
from statemachine.clock import Clock


class TurnLedger(Protocol):
    """Where turns are written, each on the disk when the call returns. Both raise LedgerError."""

    async def open_turn(self, turn: OpenTurn) -> int:
        """Record that a turn is about to be forwarded; return the record's number."""
        ...

    async def close_turn(self, turn: CloseTurn) -> int:
        """Record how a turn ended; return the record's number."""
        ...


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """The gateway's configuration and everything it works with."""

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
