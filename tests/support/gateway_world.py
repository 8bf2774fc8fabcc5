"""A gateway with everything around it: a model server over loopback, a ledger in memory, a clock that stands still."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import structlog
from aiohttp import web
from patience import PATIENCE_SECONDS

from epad.configuration.schema import BudgetConfig, GatewayConfig, UpstreamConfig
from epad.gateway.access import Access
from epad.gateway.budget import Budgets
from epad.gateway.identity import KEY_SCHEMA, Identities
from epad.gateway.parts import GatewayParts
from epad.gateway.server import Gateway
from epad.gateway.side_routes import NoSideRoutes, SideRoutes
from epad.gateway.turn import Turn
from epad.gateway.upstream import Upstreams
from epad.ledger.entry import CloseTurn, OpenTurn
from epad.ledger.errors import LedgerUnavailableError
from epad.metrics.registry import Metrics
from epad.storage.database import Database
from probes.turns import TurnAdmitted, TurnFinished, TurnObserver, TurnRefused
from statemachine.clock import ManualClock

DEFAULT_OUTPUT_TOKENS = 100
MAX_OUTPUT_TOKENS = 1_000
TEMPLATE_TOKENS = 16


class Serves(Protocol):
    """A stub of a model server."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse: ...


class StubUpstream:
    """A model server speaking both dialects; its attributes say how it behaves."""

    def __init__(self) -> None:
        self.words = ["one", " two", " three", " vier", " füünf"]
        self.input_tokens: int | None = 7
        self.output_tokens: int | None = 5
        self.gives_usage = True
        self.obeys_caps = False
        self.status = 200
        self.piece_bytes = 0
        self.ends = True
        self.gate: asyncio.Event | None = None
        self.words_before_gate = 0
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.hung_up = asyncio.Event()
        self.arrived = asyncio.Event()
        self.sent = b""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.method == "GET":
            return web.json_response(self.catalogue(request.path))
        body = json.loads(await request.read())
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.arrived.set()
        try:
            if self.status != 200:
                return web.json_response({"error": {"message": "boom"}}, status=self.status)
            if request.path == "/api/chat":
                return await self._ollama(request, body)
            return await self._openai(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up.set()
            raise

    def catalogue(self, path: str) -> dict[str, Any]:
        if path == "/api/tags":
            return {"models": [{"name": "tiny:latest", "model": "tiny:latest"}]}
        return {
            "object": "list",
            "data": [{"id": "tiny", "object": "model", "created": 1, "owned_by": "stub"}],
        }

    async def _openai(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        made = body["max_tokens"] if self.obeys_caps else self.output_tokens
        usage = {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": made,
            "total_tokens": (self.input_tokens or 0) + (made or 0),
        }
        base = {"id": "c1", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            await self._wait()
            message = {"role": "assistant", "content": "".join(self.words)}
            answer = {**base, "object": "chat.completion"}
            answer["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return self._whole({**answer, "usage": usage} if self.gives_usage else answer)
        base["object"] = "chat.completion.chunk"
        events = [
            {**base, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
            for word in self.words
        ]
        tail: list[str] = []
        if self.gives_usage and body.get("stream_options", {}).get("include_usage"):
            tail.append(json.dumps({**base, "choices": [], "usage": usage}))
        if self.ends:
            tail.append("[DONE]")
        lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
        return await self._stream(
            request, "text/event-stream", lines, [f"data: {line}\n\n".encode() for line in tail]
        )

    async def _ollama(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        base = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
        counts = {"prompt_eval_count": self.input_tokens, "eval_count": self.output_tokens}
        last = {
            **base,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            **{name: count for name, count in counts.items() if count is not None and self.gives_usage},
        }
        if body.get("stream") is False:
            await self._wait()
            return self._whole({**last, "message": {"role": "assistant", "content": "".join(self.words)}})
        lines = [
            {**base, "message": {"role": "assistant", "content": word}, "done": False} for word in self.words
        ]
        return await self._stream(
            request,
            "application/x-ndjson",
            [json.dumps(line).encode() + b"\n" for line in lines],
            [json.dumps(last).encode() + b"\n"] if self.ends else [],
        )

    def _whole(self, answer: dict[str, Any]) -> web.Response:
        self.sent = json.dumps(answer, indent=1).encode()
        return web.Response(body=self.sent, content_type="application/json", headers={"x-stub": "yes"})

    async def _stream(
        self, request: web.BaseRequest, content_type: str, lines: list[bytes], tail: list[bytes]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        gate_at = self.words_before_gate
        await self._send(response, b"".join(lines[:gate_at]))
        await self._wait()
        await self._send(response, b"".join(lines[gate_at:] + tail))
        await response.write_eof()
        self.sent = b"".join(lines + tail)
        return response

    async def _send(self, response: web.StreamResponse, data: bytes) -> None:
        size = self.piece_bytes or len(data) or 1
        for start in range(0, len(data), size):
            await response.write(data[start : start + size])
            if self.piece_bytes:
                await asyncio.sleep(0)

    async def _wait(self) -> None:
        if self.gate is not None:
            await self.gate.wait()


@dataclass
class MemoryLedger:
    """Keeps turns in memory, or refuses them."""

    opened: list[OpenTurn] = field(default_factory=list)
    closed: list[CloseTurn] = field(default_factory=list)
    broken: bool = False
    gate: asyncio.Event | None = None
    _one_by_one: asyncio.Lock = field(default_factory=asyncio.Lock)

    def open_turn(self, turn: OpenTurn) -> asyncio.Future[int]:
        return asyncio.shield(self._open(turn))

    def close_turn(self, turn: CloseTurn, *, lazily: bool = False) -> asyncio.Future[int]:
        del lazily
        return asyncio.shield(self.close(turn))

    async def _open(self, turn: OpenTurn) -> int:
        if self.broken:
            raise LedgerUnavailableError("the disk is full")
        async with self._one_by_one:
            if self.gate is not None:
                await self.gate.wait()
            self.opened.append(turn)
        return len(self.opened) + len(self.closed)

    async def close(self, turn: CloseTurn) -> int:
        """Write how a turn ended, behind whatever is written before."""
        await asyncio.sleep(0)
        async with self._one_by_one:
            self.closed.append(turn)
        return len(self.opened) + len(self.closed)


@dataclass
class Recorder:
    """Remembers what the probes were told."""

    admissions: list[TurnAdmitted] = field(default_factory=list)
    refusals: list[TurnRefused] = field(default_factory=list)
    endings: list[TurnFinished] = field(default_factory=list)

    def admitted(self, event: TurnAdmitted) -> None:
        self.admissions.append(event)

    def refused(self, event: TurnRefused) -> None:
        self.refusals.append(event)

    def finished(self, event: TurnFinished) -> None:
        self.endings.append(event)


def gateway_config(**overrides: Any) -> GatewayConfig:
    """The configuration of a test."""
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "max_body_bytes": 4 << 20,
        "max_in_flight": 10_000,
        "default_output_tokens": DEFAULT_OUTPUT_TOKENS,
        "max_output_tokens": MAX_OUTPUT_TOKENS,
        "template_tokens": TEMPLATE_TOKENS,
        "connect_seconds": 5.0,
        "idle_seconds": 30.0,
        "write_seconds": 30.0,
        "anonymous": "",
        "refusals_before_rest": 100_000,
        "idempotency_seconds": 3_600.0,
        "idempotency_bytes": 1 << 20,
        "wait_seconds": 0.0,
        **overrides,
    }
    return GatewayConfig(**values)


@dataclass
class World:
    """A running gateway and what a test needs to look at."""

    gateway: Gateway
    stub: StubUpstream
    ledger: Any
    recorder: Any
    access: Access
    budgets: Budgets
    identities: Identities
    clock: ManualClock
    metrics: Metrics
    url: str
    keys: dict[str, str]
    http: aiohttp.ClientSession

    def in_flight(self) -> list[Turn]:
        """The turns that a hold would cut."""
        found = []
        for turn in chain.from_iterable(self.access._turns.values()):
            assert isinstance(turn, Turn)
            found.append(turn)
        return found

    def headers(self, name: str = "writer") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[name]}"}

    async def chat(self, name: str = "writer", **fields: Any) -> tuple[int, Mapping[str, str], bytes]:
        """Ask in the OpenAI dialect."""
        return await self.post("/v1/chat/completions", name, **fields)

    async def post(
        self, path: str, name: str = "writer", **fields: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], **fields}
        async with self.http.post(self.url + path, json=body, headers=self.headers(name)) as response:
            return response.status, response.headers, await response.read()

    async def closings(self, count: int) -> list[CloseTurn]:
        """Wait until that many turns are closed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.ledger.closed) < count:
                await asyncio.sleep(0.001)
        return list(self.ledger.closed)

    def put(self, **parts: Any) -> None:
        """Have the gateway work with other parts."""
        gateway = self.gateway
        gateway._parts = gateway.path.parts = gateway._turns._parts = replace(gateway._parts, **parts)

    def used(self, name: str = "writer") -> int:
        """Tokens spent or reserved in the minute."""
        return self.gateway.spent(name)["tokens_per_minute"].used


@asynccontextmanager
async def serving(stub: Serves) -> AsyncIterator[str]:
    """Serve a stub on a free port."""
    server = web.Server(stub.handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def world(
    directory: Path,
    *,
    budgets: Mapping[str, BudgetConfig] | None = None,
    ledger: Any = None,
    upstreams: Mapping[str, UpstreamConfig] | None = None,
    config: GatewayConfig | None = None,
    observer: TurnObserver | None = None,
    side: SideRoutes | None = None,
) -> AsyncIterator[World]:
    """A gateway in front of one stub, with a key for each subsystem."""
    stub, clock = StubUpstream(), ManualClock()
    limits = budgets or {"writer": BudgetConfig(), "reader": BudgetConfig()}
    config = config or gateway_config()
    database = Database(directory / "state.db", KEY_SCHEMA)
    await database.open()
    async with serving(stub) as base, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        served = upstreams or {"stub": UpstreamConfig(url=base, dialects=("openai", "ollama"))}
        identities = Identities(database, clock)
        await identities.load()
        metrics = Metrics()
        parts = GatewayParts(
            config=config,
            identities=identities,
            budgets=Budgets(limits, config.max_in_flight),
            access=Access(clock),
            upstreams=Upstreams(served, config.connect_seconds, config.idle_seconds, clock),
            ledger=ledger or MemoryLedger(),
            observer=observer or Recorder(),
            clock=clock,
            metrics=metrics,
            log=structlog.get_logger(),
            side=side or NoSideRoutes(),
        )
        gateway = Gateway(parts)
        host, port = await gateway.start()
        keys = {name: await identities.issue(name) for name in limits}
        try:
            yield World(
                gateway=gateway, stub=stub, ledger=parts.ledger, recorder=parts.observer, access=parts.access,
                budgets=parts.budgets, identities=identities, clock=clock, metrics=metrics,
                url=f"http://{host}:{port}", keys=keys, http=http,
            )  # fmt: skip
        finally:
            if stub.gate is not None:
                stub.gate.set()
            await gateway.stop()
            await database.close()
