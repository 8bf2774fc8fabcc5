"""Serve the gateway's HTTP side: identify the client, admit it, read its request; then the turn takes its course."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from functools import partial

from msgspec import structs

from epad.answers import status
from epad.configuration.schema import GatewayConfig
from epad.gateway import headers
from epad.gateway import refusal as refuse
from epad.gateway.allowance import Wish
from epad.gateway.arrivals import Arriving, may_be_measured, measured
from epad.gateway.authenticator import Doorkeeper
from epad.gateway.bodies import Bodies, BodyAllowance
from epad.gateway.budget import LONGEST_WINDOW_SECONDS, Refused, Usage
from epad.gateway.catalogue import Lookup, Question
from epad.gateway.change import GatewayChanges
from epad.gateway.dialects.dialect import Dialect, Endpoint, OutputLimits
from epad.gateway.dialects.routes import Routes
from epad.gateway.errors import GatewayError, RequestError, UpstreamError
from epad.gateway.http.message import Field, Fields, Response, json_response
from epad.gateway.http.request import Answering, Fault, Request
from epad.gateway.http.server import HttpServer
from epad.gateway.idempotency import Answers, Claim, Copier, KeyReusedError
from epad.gateway.identity import presents_key
from epad.gateway.intake import Intake, may_be_read_now, read_now
from epad.gateway.metrics import BUDGET_LIMIT, BUDGET_USED, IN_FLIGHT, REFUSALS, show_upstreams
from epad.gateway.own_listeners import open_door
from epad.gateway.parts import GatewayParts
from epad.gateway.prompts import MOST_BYTES_A_TOKEN, Prompts
from epad.gateway.refusal import Refusal, RefusalError
from epad.gateway.refusal_rate import Hammering, Rendered
from epad.gateway.relay import Relay, turn_field
from epad.gateway.tally import Tally
from epad.gateway.tokenizing import Tokenizers
from epad.gateway.turn import Arrival, BrokenTurnError, Turn, Turns
from epad.ledger.record import Outcome
from epad.listeners.browser_origin import without_port
from epad.runtime.descriptors import share
from epad.runtime.memory import trim
from epad.storage.database import DatabaseError
from probes.blame import Failure, fault_of_refusal
from probes.turns import TurnRefused

# What handlers in flight get after they were severed, before they are cancelled.
_STOP_SECONDS = 2.0
# Of the files that the daemon may have open; each turn has another one, to its upstream.
_CONNECTIONS_PART = 0.4
_SETTLE_SECONDS = 1.0
# What is asked of a catalogue is a model's name.
_LOOKED_UP_BYTES = 64 << 10


class Gateway:
    """The one way to a model."""

    def __init__(self, parts: GatewayParts) -> None:
        config = parts.config
        self._parts = parts
        limits = OutputLimits(config.default_output_tokens, config.max_output_tokens, config.template_tokens)
        self._prompts = Prompts(config.template_tokens)
        self._tokenizers = Tokenizers(parts.upstreams, parts.clock, parts.tokenizer_files)
        self._turns = Turns(parts, limits, self._prompts)
        self._relay = Relay(parts.upstreams, self._turns, config.write_seconds)
        self._routes = Routes(limits)
        self._doorkeeper = Doorkeeper(
            parts.identities, parts.doors, config.anonymous, parts.clock, parts.alarm, _own_names(config)
        )
        self._hammering = Hammering(config.refusals_before_rest)
        self._rendered = Rendered()
        self._refusals = Tally(parts.metrics.of(REFUSALS).labels)
        parts.metrics.gathers(self._refusals.add_up)
        connections = share(_CONNECTIONS_PART, config.max_connections)
        self._server = HttpServer(
            self, config.max_body_bytes, config.write_seconds, connections, parts.handover
        )
        self.changes = GatewayChanges(parts, self._server, self._doorkeeper, self._tokenizers, self._prompts)
        self._intake = Intake()
        each = max(config.subsystem_bodies_bytes, config.max_body_bytes)
        self._bodies = Bodies(config.bodies_bytes, each, self._refuse, self._settle)
        self._settling = False
        self._stopping = False

    async def start(self, port_hint: int = 0) -> tuple[str, int]:
        """Listen; return where. `port_hint` is the port of last time, taken if the configured port is 0.

        Raises GatewayError if the port is not to be had, UpstreamError if an upstream's key is not.
        """
        await self._parts.upstreams.start()
        host, _, configured = self._parts.config.listen.rpartition(":")
        host = host.strip("[]")
        ports = [int(configured)] if int(configured) else list(dict.fromkeys((port_hint, 0)))
        failure = OSError()
        for port in ports:
            try:
                address = await self._server.listen(host, port)
                break
            except OSError as error:
                failure = error
                self._parts.log.warning("gateway.port_taken", host=host, port=port, error=str(error))
        else:
            await self.stop()
            raise GatewayError(_cannot_listen(self._parts.config.listen, failure))
        for door in self._parts.doors:
            if door.listen:
                await open_door(self._server, door)
        return address

    async def stop(self) -> None:
        """Cut the turns in flight, each in its dialect; return when every turn is closed in the ledger."""
        self._stopping = True
        self._turns.admission.close(RefusalError(refuse.STOPPING))
        self._parts.access.sever(None, refuse.STOPPING)
        await self._server.stop(_STOP_SECONDS)
        await self._turns.drain()
        self._intake.stop()
        await self._parts.upstreams.stop()

    def upstreams(self) -> list[status.Upstream]:
        """Return each upstream: its name, its URL, its health, and the reason if it is not healthy."""
        return self._parts.upstreams.status()

    def spent(self, subsystem: str) -> dict[str, Usage]:
        """Return the subsystem's limits by name, and the amount spent or reserved against each."""
        return self._parts.budgets.snapshot(subsystem, self._parts.clock.monotonic())

    def show_series(self) -> None:
        """Bring the series of budgets and upstreams up to date, for a scrape; what is no more has none."""
        show_upstreams(self._parts.metrics, self.upstreams())
        budgets, metrics = self._parts.budgets, self._parts.metrics
        in_flight, limits, used = metrics.of(IN_FLIGHT), metrics.of(BUDGET_LIMIT), metrics.of(BUDGET_USED)
        for gauge in (in_flight, limits, used):
            gauge.clear()
        for name in budgets.subsystems:
            in_flight.labels(name).set(budgets.in_flight(name))
            for limit, usage in self.spent(name).items():
                if not limit.startswith("tokens_"):
                    continue  # these series count tokens; money and requests are in the status
                limits.labels(name, limit).set(usage.limit)
                used.labels(name, limit).set(usage.used)

    def receive(self, request: Request) -> Response | Answering:
        """Decide on a request by its head: refuse it before its body is read, or return its handler."""
        name = ""
        try:
            if self._routes.greets(request.method, request.path):
                return self._greet(request)
            name = self._identify(request)
            return partial(self._handle, request, name, self._admit(request, name))
        except RefusalError as error:
            return self._refuse(request, name, error)
        except Exception as error:
            return self._failed(request, name, error)

    def _greet(self, request: Request) -> Response:
        """Say that somebody is there, as Ollama does if one is behind this, and nothing else. Raises RefusalError.

        It takes no key, but one that is shown must be right, and pages of other sites do not learn of it.
        """
        if presents_key(request.fields):
            self._identify(request)
        else:
            self._doorkeeper.refuse_strangers(request)
        name = b"Ollama" if self._parts.upstreams.of("ollama") else b"epad"
        return Response(200, name + b" is running", [(b"Content-Type", b"text/plain; charset=utf-8")])

    def fault(self, request: Request | None, fault: Fault) -> Response:
        """Answer a request that could not be read to its end."""
        refusal = self._refusal_of(fault)
        if request is None:
            return _render(self._routes.dialect("", Fields([])), refusal)
        name = ""
        with contextlib.suppress(RefusalError):
            name = self._identify(request)
        return self._refuse(request, name, RefusalError(refusal))

    def _refusal_of(self, fault: Fault) -> Refusal:
        if fault is Fault.TOO_LARGE:
            return refuse.body_too_large(self._parts.config.max_body_bytes)
        if fault is Fault.TOO_SLOW:
            return refuse.BODY_TOO_SLOW
        return refuse.invalid_request(f"the request cannot be read: {fault.value}")

    async def _handle(self, request: Request, name: str, answering: Answering) -> Response | None:
        """Answer a request; an unexpected error is answered too."""
        try:
            return await answering()
        except RefusalError as error:
            return self._refuse(request, name, error)
        except ConnectionError:
            raise  # there is no one left to tell
        except Exception as error:  # whatever it is, the client is told in its dialect and the trace kept
            return self._failed(request, name, error)

    def _failed(self, request: Request, name: str, error: Exception) -> Response:
        self._parts.log.error(
            "gateway.internal_error", subsystem=name, path=request.path, error=str(error), exc_info=error
        )
        return _render(self._routes.dialect(request.path, request.fields), refuse.INTERNAL)

    def _refuse(self, request: Request, name: str, error: RefusalError) -> Response:
        """Say no. Whoever is told so again and again has to wait, at its own door or on this connection."""
        self._note(name, error)
        dialect, refusal = self._routes.dialect(request.path, request.fields), error.refusal
        response = json_response(refusal.status, self._rendered.body(dialect, refusal), _fields(refusal))
        if self._hammering.is_hammering(name, self._parts.clock.monotonic()):
            request.connection.rest()
        return response

    def _identify(self, request: Request) -> str:
        """Name the subsystem that asks. Raises RefusalError."""
        name = self._doorkeeper.identify(request)
        if not self._parts.budgets.covers(name):
            raise RefusalError(refuse.UNKNOWN_IDENTITY)
        return name

    def _admit(self, request: Request, name: str) -> Answering:
        """Return the handler of a request with this head. Raises RefusalError."""
        arrived = self._parts.clock.monotonic()
        if self._stopping:
            raise RefusalError(refuse.STOPPING)
        shut = self._parts.access.check(name)
        if shut is not None:
            raise RefusalError(shut)
        method, path = request.method, request.path
        endpoint = self._routes.endpoint(method, path)
        if endpoint is None:
            lookup = self._routes.lookup(method, path, request.fields)
            if lookup is None:
                raise RefusalError(self._routes.refusal(method, path))
            request.allowance = self._allow(request, name, None)
            return partial(self._look_up, request, lookup)
        # An answer that is kept costs nothing, so a spent budget is no reason to withhold it.
        replayable = self._parts.answers is not None and headers.IDEMPOTENCY_HEADER in request.fields
        crowded = None if replayable else self._turns.admission.foresee(name)
        if crowded is not None:
            raise RefusalError(refuse.over_budget(crowded), crowded)
        request.allowance = self._allow(request, name, self._largest(request, name, endpoint))
        return partial(self._answer, request, name, endpoint, arrived)

    def _largest(self, request: Request, name: str, endpoint: Endpoint) -> Refused | None:
        """The limit that the body could never be paid from, where nothing but its bytes bounds the prompt."""
        limit = self._parts.budgets.largest_limit(name)
        payable = limit is None or 0 < request.declared <= limit * MOST_BYTES_A_TOKEN
        if payable or self._parts.upstreams.tells_context(endpoint.dialect.name):
            return None
        return self._parts.budgets.largest(name)

    def _allow(self, request: Request, name: str, largest: Refused | None) -> BodyAllowance:
        return self._bodies.allow(name, request.declared, self._parts.budgets.places(name), largest)

    def _settle(self) -> None:
        """Give the memory of a burst of bodies back, a little later and once for many."""
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._trim)

    def _trim(self) -> None:
        self._settling = False
        trim()

    async def _answer(
        self, request: Request, name: str, endpoint: Endpoint, arrived: float
    ) -> Response | None:
        """Take one request as far as it goes; None if its answer is written already. Raises RefusalError."""
        try:
            if may_be_read_now(request):
                reading = read_now(endpoint, request)
            else:
                reading = await self._intake.read(endpoint, request)
        except RequestError as error:
            raise RefusalError(refuse.invalid_request(str(error))) from error
        arrival = Arriving(request, name, endpoint, arrived, reading).route(self._parts, self._prompts)
        wish = self._turns.wish(arrival)
        if may_be_measured(arrival, wish, self._parts, self._prompts, self._tokenizers):
            arrival = await measured(arrival, self._tokenizers)
            wish = self._turns.wish(arrival)
        answers = self._parts.answers
        if arrival.idempotency_key is None or answers is None:
            return await self._take(request, await self._turns.admit(arrival, wish))
        return await self._take_once(request, arrival, wish, answers)

    async def _take_once(
        self, request: Request, arrival: Arrival, wish: Wish, answers: Answers
    ) -> Response | None:
        """Give the answer that this key has already, or see to it that it has one. Raises RefusalError."""
        key = arrival.idempotency_key or ""
        digest = hashlib.sha256(arrival.endpoint.path.encode() + b"\0" + arrival.body_sha256).digest()
        claim = Claim(arrival.subsystem, key, digest)
        try:
            async with answers.claim(claim) as kept:
                if kept is not None:
                    self._parts.log.info("turn.replayed", turn=kept.turn, subsystem=arrival.subsystem)
                    return kept.response()
                copier = Copier(arrival.endpoint)
                turn = await self._turns.admit(structs.replace(arrival, endpoint=copier.endpoint), wish)

                async def keep(response: Response) -> None:
                    await answers.keep(claim, copier.answer(turn.id, response))

                return await self._take(request, turn, keep)
        except KeyReusedError as error:
            raise RefusalError(refuse.key_reused(key), prompt_digest=arrival.ask.prompt_digest) from error
        except DatabaseError as error:
            self._parts.log.error("answer.not_read", subsystem=arrival.subsystem, error=str(error))
            raise RefusalError(refuse.LEDGER_UNAVAILABLE) from error

    async def _take(
        self,
        request: Request,
        turn: Turn,
        keep: Callable[[Response], Awaitable[None]] | None = None,
    ) -> Response | None:
        """See an admitted turn through. Raises RefusalError if the ledger does not take it."""
        try:
            await self._open(turn)
            response = await self._relay.carry(request, turn)
            # A redirect is done as well, but it is no answer to be given again.
            if keep is not None and turn.outcome is Outcome.DONE and response.status == 200:
                await self._keep(turn, response, keep)
        except BrokenTurnError as broken:
            response = _render(turn.arrival.endpoint.dialect, broken.refusal)
            response.fields.append(turn_field(turn))
            return response
        except asyncio.CancelledError:
            if turn.severed is None and turn.outcome is not Outcome.DONE:
                turn.end(Outcome.CUT, "the client disconnected", Failure.CLIENT_GONE)
            raise
        finally:
            self._turns.finish(turn)
        return None

    async def _keep(
        self, turn: Turn, response: Response, keep: Callable[[Response], Awaitable[None]]
    ) -> None:
        """Keep the answer before the turn is closed: a closed turn is one that is not paid for twice."""
        try:
            await keep(response)
        except DatabaseError as error:
            self._parts.log.error("answer.not_kept", turn=turn.id, error=str(error))

    async def _open(self, turn: Turn) -> None:
        """Open the turn in the ledger. Raises RefusalError, or BrokenTurnError if it is severed meanwhile."""
        try:
            await self._turns.open(turn)
        except asyncio.CancelledError:
            severed = turn.was_severed()
            if severed is None:
                raise
            turn.end(Outcome.CUT, severed.message, Failure.SEVERED)
            raise BrokenTurnError(severed) from None

    async def _look_up(self, request: Request, lookup: Lookup) -> Response:
        """Answer a request that costs nothing. Raises RefusalError."""
        if request.size > _LOOKED_UP_BYTES:
            raise RefusalError(
                refuse.invalid_request(f"at most {_LOOKED_UP_BYTES:,} bytes are asked with here")
            )
        try:
            reply = await lookup.answer(self._parts.upstreams, Question(request.body, request.fields))
        except RequestError as error:
            raise RefusalError(refuse.invalid_request(str(error))) from error
        except UpstreamError as error:
            return _render(lookup.dialect, refuse.upstream_failed(str(error)))
        return Response(reply.status, reply.body, reply.fields)

    def _note(self, name: str, error: RefusalError) -> None:
        """Count a refusal, and tell the probes whose it was."""
        self._refusals[name, error.refusal.code] += 1
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
                unit=refuse.unit_of(refused.limit) if refused else "tokens",
                # In the recording there is no infinity.
                retry_after_seconds=min(refused.retry_after_seconds, LONGEST_WINDOW_SECONDS)
                if refused
                else float(error.refusal.retry_after_seconds or 0),
                prompt_digest=error.prompt_digest,
                fault=fault_of_refusal(error.refusal.code),
                upstream=error.upstream,
                waited_seconds=error.waited_seconds,
            )
        )


def _render(dialect: Dialect, refusal: Refusal) -> Response:
    return json_response(refusal.status, dialect.error_body(refusal), _fields(refusal))


def _fields(refusal: Refusal) -> list[Field]:
    return [(name.encode(), value.encode()) for name, value in refusal.headers().items()]


def _own_names(config: GatewayConfig) -> frozenset[str]:
    """The public names that the gateway is asked by."""
    return frozenset(map(without_port, (*config.hosts, config.listen)))


def _cannot_listen(listen: str, error: OSError) -> str:
    """Say why the gateway cannot listen, and the fix."""
    where = f"[gateway] listen: {listen} cannot be listened on: "
    if error.errno == errno.EADDRINUSE:
        port = listen.rpartition(":")[2]
        return (
            f"{where}another program has the port; stop that program (`ss -ltnp 'sport = :{port}'` names it), "
            "set another port, or port 0 for one that is free"
        )
    if error.errno == errno.EACCES:
        return f"{where}it is for root alone; set a port of 1024 or above, or port 0 for one that is free"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{where}{reason}; set an address of this machine, such as 127.0.0.1:8700"
