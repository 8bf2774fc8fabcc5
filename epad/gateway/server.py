"""The gateway's HTTP side: who asks, may they, what do they ask; then the turn takes its course."""

from __future__ import annotations

import asyncio
import hashlib

from aiohttp import web

from epad.config import GatewayConfig
from epad.gateway import refusal as refuse
from epad.gateway.budget import Usage
from epad.gateway.catalogue import list_models
from epad.gateway.charge import Bound
from epad.gateway.dialects.dialect import Dialect, Endpoint, OutputLimits
from epad.gateway.dialects.ollama import Chat, Ollama
from epad.gateway.dialects.openai import ChatCompletions, OpenAI
from epad.gateway.errors import GatewayError, RequestError, UpstreamError
from epad.gateway.parts import GatewayParts
from epad.gateway.refusal import Refusal, RefusalError
from epad.gateway.relay import TURN_HEADER, Relay
from epad.gateway.turn import Arrival, BrokenTurnError, Turn, Turns
from epad.ledger.record import Outcome
from probes.turns import TurnRefused

# What handlers in flight get after they were severed, before they are cancelled.
_STOP_SECONDS = 2.0
_MAX_IDEMPOTENCY_KEY = 255


class Gateway:
    """The one way to a model."""

    def __init__(self, parts: GatewayParts) -> None:
        config = parts.config
        self._parts = parts
        self._turns = Turns(parts)
        self._relay = Relay(parts.upstreams, self._turns, config.write_seconds)
        limits = OutputLimits(config.default_output_tokens, config.max_output_tokens, config.template_tokens)
        self._openai, self._ollama = OpenAI(), Ollama()
        endpoints: tuple[Endpoint, ...] = (ChatCompletions(self._openai, limits), Chat(self._ollama, limits))
        self._endpoints = {("POST", endpoint.path): endpoint for endpoint in endpoints}
        self._catalogues: dict[tuple[str, str], Dialect] = {
            ("GET", dialect.catalogue.path): dialect for dialect in (self._openai, self._ollama)
        }
        self._metered = [f"{method} {path}" for method, path in (*self._endpoints, *self._catalogues)]
        self._runner: web.ServerRunner | None = None
        self._stopping = False

    async def start(self, port_hint: int = 0) -> tuple[str, int]:
        """Listen; return where. `port_hint` is the port of last time, taken if the configured port is 0.

        Raises GatewayError if the port is not to be had, UpstreamError if an upstream's key is not.
        """
        await self._parts.upstreams.start()
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=_STOP_SECONDS)
        await self._runner.setup()
        host, _, configured = self._parts.config.listen.rpartition(":")
        host = host.strip("[]")
        ports = [int(configured)] if int(configured) else list(dict.fromkeys((port_hint, 0)))
        for port in ports:
            try:
                await web.TCPSite(self._runner, host, port).start()
                break
            except OSError as error:
                self._parts.log.warning("gateway.port_taken", host=host, port=port, error=str(error))
        else:
            await self.stop()
            raise GatewayError(f"[gateway] listen: {self._parts.config.listen} cannot be listened on")
        address = self._runner.addresses[0]
        return str(address[0]), int(address[1])

    async def stop(self) -> None:
        """Sever what is in flight, each in its dialect; return when every turn is closed in the ledger."""
        self._stopping = True
        self._parts.access.sever(None, refuse.STOPPING)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._turns.drain()
        await self._parts.upstreams.stop()

    def spent(self, subsystem: str) -> dict[str, Usage]:
        """The subsystem's limits by name, and what is spent or reserved against each."""
        return self._parts.budgets.snapshot(subsystem, self._parts.clock.monotonic())

    def observe_budgets(self) -> None:
        """Bring the budget series up to date; for the daemon's tick."""
        for name in self._parts.budgets.subsystems:
            for limit, usage in self.spent(name).items():
                self._parts.metrics.budget_limit.labels(name, limit).set(usage.limit)
                self._parts.metrics.budget_used.labels(name, limit).set(usage.used)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        dialect: Dialect = self._ollama if request.path.startswith("/api/") else self._openai
        name = ""
        try:
            name = self._identify(request)
            return await self._answer(request, name)
        except RefusalError as error:
            self._note(name, error)
            return _render(dialect, error.refusal)
        except ConnectionError:
            raise  # there is no one left to tell
        except Exception as error:  # whatever it is, the client is told in its dialect and the trace kept
            self._parts.log.exception(
                "gateway.internal_error", subsystem=name, path=request.path, error=str(error)
            )
            return _render(dialect, refuse.INTERNAL)

    def _identify(self, request: web.BaseRequest) -> str:
        """Name the subsystem that asks. Raises RefusalError."""
        name = self._parts.identities.resolve(request.headers)
        if name is None or not self._parts.budgets.covers(name):
            raise RefusalError(refuse.UNKNOWN_IDENTITY)
        return name

    async def _answer(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        """Take one request as far as it goes. Raises RefusalError."""
        arrived = self._parts.clock.monotonic()
        if self._stopping:
            raise RefusalError(refuse.STOPPING)
        shut = self._parts.access.check(name)
        if shut is not None:
            raise RefusalError(shut)
        route = (request.method, request.path)
        catalogue = self._catalogues.get(route)
        if catalogue is not None:
            return await self._list_models(catalogue)
        endpoint = self._endpoints.get(route)
        if endpoint is None:
            raise RefusalError(refuse.not_metered(*route, self._metered))
        crowded = self._parts.budgets.crowded(name)
        if crowded is not None:
            raise RefusalError(refuse.over_budget(crowded), crowded)
        body = await read_body(request, self._parts.config)
        turn = self._turns.admit(self._arrival(request, name, arrived, endpoint, body))
        return await self._take(request, turn)

    async def _take(self, request: web.BaseRequest, turn: Turn) -> web.StreamResponse:
        """See an admitted turn through. Raises RefusalError if the ledger does not take it."""
        response: web.StreamResponse
        try:
            await self._open(turn)
            response = await self._relay.carry(request, turn)
        except BrokenTurnError as broken:
            response = _render(turn.arrival.endpoint.dialect, broken.refusal)
            response.headers[TURN_HEADER] = turn.id
        except asyncio.CancelledError:
            if turn.severed is None:
                turn.end(Outcome.CUT, "the client disconnected")
            raise
        finally:
            self._turns.finish(turn)
        await self._turns.closed(turn)
        return response

    async def _open(self, turn: Turn) -> None:
        """Open the turn in the ledger. Raises RefusalError, or BrokenTurnError if it is severed meanwhile."""
        try:
            await self._turns.open(turn)
        except asyncio.CancelledError:
            severed = turn.was_severed()
            if severed is None:
                raise
            turn.end(Outcome.CUT, severed.message)
            raise BrokenTurnError(severed) from None

    def _arrival(
        self, request: web.BaseRequest, name: str, arrived: float, endpoint: Endpoint, body: bytes
    ) -> Arrival:
        """Read and route a request. Raises RefusalError."""
        try:
            ask = endpoint.parse(body)
            key = _idempotency_key(request)
        except RequestError as error:
            raise RefusalError(refuse.invalid_request(str(error))) from error
        dialect = endpoint.dialect.name
        upstream = self._parts.upstreams.route(ask.model, dialect)
        if upstream is None:
            patterns = [p for each in self._parts.upstreams.of(dialect) for p in each.models]
            raise RefusalError(refuse.unknown_model(ask.model, dialect, patterns))
        prompt_tokens = ask.prompt_tokens(upstream.context_tokens)
        if prompt_tokens is None:
            message = (
                "images, audio, search and chat templates can only be bounded by the model's context: "
                f"set [upstreams.{upstream.name}] context_tokens"
            )
            raise RefusalError(refuse.invalid_request(message), prompt_digest=ask.prompt_digest)
        return Arrival(
            subsystem=name,
            at=arrived,
            endpoint=endpoint,
            ask=ask,
            upstream=upstream,
            bound=Bound(prompt_tokens, ask.output_tokens),
            body=body,
            body_sha256=hashlib.sha256(body).digest(),
            idempotency_key=key,
            retry=_retry_count(request),
        )

    async def _list_models(self, dialect: Dialect) -> web.Response:
        try:
            body = await list_models(self._parts.upstreams, dialect)
        except UpstreamError as error:
            return _render(dialect, refuse.upstream_failed(str(error)))
        return web.Response(body=body, content_type="application/json")

    def _note(self, name: str, error: RefusalError) -> None:
        """Count a refusal, and tell the probes whose it was."""
        self._parts.metrics.refusals.labels(name, error.refusal.code).inc()
        if not name:
            return
        refused = error.refused
        self._parts.observer.refused(
            TurnRefused(
                subsystem=name,
                at=self._parts.clock.monotonic(),
                code=error.refusal.code,
                limit=refused.limit if refused else "",
                limit_tokens=refused.allowed if refused else 0,
                used_tokens=refused.used if refused else 0,
                asked_tokens=refused.asked if refused else 0,
                prompt_digest=error.prompt_digest,
            )
        )


async def read_body(request: web.BaseRequest, config: GatewayConfig) -> bytes:
    """The whole body, within its size and time. Raises RefusalError."""
    too_large = RefusalError(refuse.body_too_large(config.max_body_bytes))
    if (request.content_length or 0) > config.max_body_bytes:
        raise too_large
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
    parts = []
    size = 0
    try:
        async with asyncio.timeout(config.write_seconds):
            while data := await request.content.readany():
                parts.append(data)
                size += len(data)
                if size > config.max_body_bytes:
                    raise too_large
    except TimeoutError as error:
        raise RefusalError(refuse.BODY_TOO_SLOW) from error
    except web.RequestPayloadError as error:
        raise RefusalError(refuse.invalid_request(f"the body cannot be read: {error}")) from error
    return b"".join(parts)


def _render(dialect: Dialect, refusal: Refusal) -> web.Response:
    return web.Response(
        status=refusal.status,
        body=dialect.error_body(refusal),
        headers=refusal.headers(),
        content_type="application/json",
    )


def _idempotency_key(request: web.BaseRequest) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and (len(key) > _MAX_IDEMPOTENCY_KEY or not (key.isascii() and key.isprintable())):
        raise RequestError(f"Idempotency-Key: at most {_MAX_IDEMPOTENCY_KEY} printable ASCII characters")
    return key or None


def _retry_count(request: web.BaseRequest) -> int:
    """The client's own count, as OpenAI's and Anthropic's libraries send it."""
    count = request.headers.get("x-stainless-retry-count", "")
    return int(count) if count.isascii() and count.isdigit() and len(count) < 4 else 0
