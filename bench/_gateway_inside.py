"""The real gateway in this process, over the loopback, with a ledger in memory and a client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import structlog

import epad
from epad.configuration.schema import BudgetConfig, GatewayConfig, UpstreamConfig
from epad.gateway.access import Access
from epad.gateway.budget import Budgets
from epad.gateway.identity import KEY_SCHEMA, Identities
from epad.gateway.parts import GatewayParts
from epad.gateway.server import Gateway
from epad.gateway.upstream import Upstreams
from epad.ledger.entry import CloseTurn, OpenTurn
from epad.metrics.registry import Metrics
from epad.runtime.clock import SystemClock
from epad.storage.database import Database
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import Clock

_PATIENCE_SECONDS = 20.0


@dataclass
class MemoryLedger:
    """Keeps turns in memory."""

    opened: list[OpenTurn] = field(default_factory=list)
    closed: list[CloseTurn] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def open_turn(self, turn: OpenTurn) -> asyncio.Future[int]:
        self.opened.append(turn)
        return self._written()

    def close_turn(self, turn: CloseTurn, *, lazily: bool = False) -> asyncio.Future[int]:
        del lazily
        return asyncio.ensure_future(self._close(turn))

    def _written(self) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(len(self.opened) + len(self.closed))
        return future

    async def _close(self, turn: CloseTurn) -> int:
        self.closed.append(turn)
        async with self.changed:
            self.changed.notify_all()
        return len(self.opened) + len(self.closed)


class _Nobody:
    """Listens to no turn: what the detectors would do is not measured here."""

    def admitted(self, event: TurnAdmitted) -> None: ...

    def refused(self, event: TurnRefused) -> None: ...

    def finished(self, event: TurnFinished) -> None: ...


def gateway_config(**overrides: Any) -> GatewayConfig:
    """The gateway's configuration as it comes out of the box, on a free port; refusals are never slowed down."""
    shipped = tomllib.loads((Path(epad.__file__).parent / "default.toml").read_text())["gateway"]
    ours = {"listen": "127.0.0.1:0", "max_in_flight": 10_000, "refusals_before_rest": 1_000_000, **overrides}
    return msgspec.convert({**shipped, **ours}, GatewayConfig)


def refuses_at_once() -> dict[str, Any]:
    """The setting with which nobody waits for room, where the gateway has it."""
    return {"wait_seconds": 0.0} if "wait_seconds" in GatewayConfig.__struct_fields__ else {}


@dataclass(frozen=True, slots=True)
class Told:
    """What a client got."""

    status: int
    body: bytes


@dataclass
class Inside:
    """A running gateway, and a client of it."""

    ledger: MemoryLedger
    budgets: Budgets
    clock: Clock
    url: str
    keys: Mapping[str, str]
    http: aiohttp.ClientSession

    async def ask(
        self, path: str, body: Mapping[str, Any], *, name: str = "writer", leaves_after: int | None = None
    ) -> Told:
        """Ask, and read the answer; with `leaves_after`, hang up when so many bytes of it have come."""
        headers = {"Authorization": f"Bearer {self.keys[name]}", "Content-Type": "application/json"}
        sent = self.http.post(
            self.url + path, data=json.dumps(body, separators=(",", ":")).encode(), headers=headers
        )
        got = b""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), sent as answer:
                while leaves_after is None or len(got) < leaves_after:
                    data = await answer.content.readany()
                    if not data:
                        return Told(answer.status, got)
                    got += data
                answer.close()
                return Told(answer.status, got)
        except aiohttp.ClientPayloadError:
            return Told(200, got)

    async def leave(self, path: str, body: Mapping[str, Any], seconds: float) -> None:
        """Ask, and hang up before anything has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ask(path, body)

    async def closed(self, count: int) -> list[CloseTurn]:
        """Wait until so many turns are closed."""
        ledger = self.ledger
        async with asyncio.timeout(_PATIENCE_SECONDS), ledger.changed:
            await ledger.changed.wait_for(lambda: len(ledger.closed) >= count)
        return list(ledger.closed)

    async def idle(self) -> None:
        """Wait until every turn that was opened is closed."""
        await self.closed(len(self.ledger.opened))

    def spent(self, name: str = "writer") -> Mapping[str, Any]:
        """What is spent or reserved of each limit of a subsystem."""
        return self.budgets.snapshot(name, self.clock.monotonic())


@asynccontextmanager
async def inside(
    upstreams: Mapping[str, UpstreamConfig],
    budgets: Mapping[str, BudgetConfig],
    *,
    clock: Clock | None = None,
    began: Callable[[Gateway], None] = lambda _: None,
    **config: Any,
) -> AsyncIterator[Inside]:
    """A gateway before these upstreams, with a key for each of these subsystems; `began` gets it before it listens."""
    clock = clock or SystemClock()
    settings = gateway_config(**config)
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory) / "state.db", KEY_SCHEMA)
        await database.open()
        identities = Identities(database, clock)
        await identities.load()
        ledger = MemoryLedger()
        parts = GatewayParts(
            config=settings,
            identities=identities,
            budgets=Budgets(budgets, settings.max_in_flight),
            access=Access(clock),
            upstreams=Upstreams(upstreams, settings.connect_seconds, settings.idle_seconds, clock),
            ledger=ledger,
            observer=_Nobody(),
            clock=clock,
            metrics=Metrics(),
            log=structlog.get_logger(),
        )
        gateway = Gateway(parts)
        began(gateway)
        host, port = await gateway.start()
        keys = {name: identities.lend(name) for name in budgets}
        connector = aiohttp.TCPConnector(limit=0)
        try:
            async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as http:
                yield Inside(ledger, parts.budgets, clock, f"http://{host}:{port}", keys, http)
        finally:
            await gateway.stop()
            await database.close()
