"""The request path: a request's stations from its head to the closing of its turn, in one function, in their order.

`RequestPath.receive` is that function; the walk in `docs/design.md` names the file and function of each station.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial

from msgspec import structs

from epad.gateway import headers
from epad.gateway import refusal as refuse
from epad.gateway.allowance import Wish
from epad.gateway.arrival import Arrival
from epad.gateway.arrivals import Arriving, may_be_measured, measured
from epad.gateway.authenticator import Doorkeeper
from epad.gateway.bodies import Bodies, BodyAllowance, Trimming
from epad.gateway.budget import Refused
from epad.gateway.catalogue import Lookup, Question
from epad.gateway.decoy import sent
from epad.gateway.dialects.dialect import Endpoint
from epad.gateway.dialects.routes import Routes
from epad.gateway.errors import RequestError, UpstreamError
from epad.gateway.http.message import Response
from epad.gateway.http.request import Answering, Fault, Request
from epad.gateway.idempotency import Answers, Claim, Copier, KeyReusedError
from epad.gateway.identity import presents_key
from epad.gateway.intake import Intake, may_be_read_now, read_now
from epad.gateway.parts import GatewayParts
from epad.gateway.prompts import MOST_BYTES_A_TOKEN, Prompts
from epad.gateway.refusal import RefusalError
from epad.gateway.refusal_answers import RefusalAnswers, render
from epad.gateway.relay import Relay
from epad.gateway.tokenizing import Tokenizers
from epad.gateway.turn import Turn
from epad.gateway.turns import Turns
from epad.ledger.record import Outcome
from epad.storage.database import DatabaseError

# What is asked of a catalogue is a model's name.
_LOOKED_UP_BYTES = 64 << 10

Keep = Callable[[Turn, Response], Awaitable[None]]
"""Keeps the answer of a turn that has not been closed yet."""
Take = Callable[[Arrival, Wish, Keep], Awaitable[Response | None]]
"""Takes a request that was read through its turn; None, since its answer is written then."""


class RequestPath:
    """Takes every request along its path; `HttpServer` hands them over by their heads."""

    def __init__(
        self,
        parts: GatewayParts,
        routes: Routes,
        doorkeeper: Doorkeeper,
        turns: Turns,
        prompts: Prompts,
        tokenizers: Tokenizers,
    ) -> None:
        config = parts.config
        self.parts = parts
        self.doorkeeper = doorkeeper
        self._routes = routes
        self._turns = turns
        self._prompts = prompts
        self._tokenizers = tokenizers
        self._relay = Relay(parts.upstreams, turns, config.write_seconds)
        self._refusals = RefusalAnswers(parts, routes)
        self._intake = Intake()
        each = max(config.subsystem_bodies_bytes, config.max_body_bytes)
        self._bodies = Bodies(config.bodies_bytes, each, self._refusals.refuse, Trimming().soon)
        self._stopping = False

    def close(self) -> None:
        """Refuse whatever comes from now on."""
        self._stopping = True

    def stop(self) -> None:
        """Read no more bodies."""
        self._intake.stop()

    def receive(self, request: Request) -> Response | Answering:
        """Take a request along its path: refuse it by its head, or return what answers it once its body is whole."""
        name = ""
        try:
            elsewhere = self._answer_elsewhere(request)
            if elsewhere is not None:
                return elsewhere
            arrived = self.parts.clock.monotonic()
            # Identity; is the subsystem open; is there room for any turn of it.
            name = self.identify(request)
            self._check_open(name)
            endpoint = self._routes.endpoint(request.method, request.path)
            if endpoint is None:
                return self._look_up_later(request, name)
            self._let_body_come(request, name, endpoint)
        except Exception as error:
            return self._refusals.answer(request, name, error)

        async def answer() -> Response | None:
            try:
                # Its model, its servers, and the bound of its prompt.
                arrival, wish = await self._read(request, name, endpoint, arrived)
                if arrival.idempotency_key is not None and self.parts.answers is not None:
                    return await self._take_once(arrival, wish, take, self.parts.answers)
                return await take(arrival, wish)
            except Exception as error:  # whatever it is, the client is told in its dialect
                return self._refusals.answer(request, name, error)

        async def take(arrival: Arrival, wish: Wish, keep: Keep | None = None) -> Response | None:
            # Its worst case is reserved, after a wait if need be.
            turn = await self._turns.admit(arrival, wish)
            try:
                # Opened durably; then the upstream, streamed through, its usage read off the stream and settled.
                await self._turns.open(turn)
                answered = await self._relay.carry(request, turn)
                if keep is not None:
                    await keep(turn, answered)
            except asyncio.CancelledError:
                turn.note_client_gone()
                raise
            finally:
                # Settled, if it is not yet, and closed.
                self._turns.finish(turn)
            return None

        return answer

    def fault(self, request: Request | None, fault: Fault) -> Response:
        """Answer a request that could not be read to its end."""
        if request is None:
            return self._refusals.unreadable(fault)
        name = ""
        with contextlib.suppress(RefusalError):
            name = self.identify(request)
        return self._refusals.refuse(request, name, RefusalError(self._refusals.refusal_of(fault)))

    # On the head.

    def _answer_elsewhere(self, request: Request) -> Response | Answering | None:
        """Answer a request that asks for no model: a greeting, or one to the tool door. Raises RefusalError."""
        if self._routes.greets(request.method, request.path):
            return self._greet(request)
        if self.parts.side.serves(request.path):
            return self._step_aside(request)
        return None

    def _greet(self, request: Request) -> Response:
        """Say that somebody is there, as Ollama does if one is behind this, and nothing else. Raises RefusalError.

        It takes no key, but one that is shown must be right, and pages of other sites do not learn of it.
        """
        if presents_key(request.fields):
            self.identify(request)
        else:
            self.doorkeeper.refuse_strangers(request)
        name = b"Ollama" if self.parts.upstreams.of("ollama") else b"epad"
        return Response(200, name + b" is running", [(b"Content-Type", b"text/plain; charset=utf-8")])

    def _step_aside(self, request: Request) -> Response | Answering:
        """Hand a request to the tool door. Raises RefusalError.

        Pages of other sites are refused even with a key, as MCP asks of every server. A subsystem whose gateway is
        shut comes through: its tools stay listed, and the gate refuses its calls.
        """
        self.doorkeeper.refuse_strangers(request)
        is_nobody = not presents_key(request.fields) and not request.connection.owner
        if is_nobody and (greeting := self.parts.side.greet(request)) is not None:
            return greeting
        name = self.identify(request)
        if self._stopping:
            raise RefusalError(refuse.STOPPING)
        request.allowance = self.allow(request, name, None)
        decided = self.parts.side.receive(request, name)
        if isinstance(decided, Response):
            return decided
        answering = decided

        async def answer() -> Response | None:
            try:
                self._check_decoys(request, name)
                return await answering()
            except Exception as error:
                return self._refusals.answer(request, name, error)

        return answer

    def identify(self, request: Request) -> str:
        """Name the subsystem that asks. Raises RefusalError."""
        name = self.doorkeeper.identify(request)
        if not self.parts.budgets.covers(name):
            raise RefusalError(refuse.UNKNOWN_IDENTITY)
        return name

    def _check_open(self, name: str) -> None:
        """Raise RefusalError if the gateway stops, or is shut to this subsystem."""
        if self._stopping:
            raise RefusalError(refuse.STOPPING)
        shut = self.parts.access.check(name)
        if shut is not None:
            raise RefusalError(shut)

    def _look_up_later(self, request: Request, name: str) -> Answering:
        """Return the handler of a request that costs nothing. Raises RefusalError if this is no route."""
        method, path = request.method, request.path
        lookup = self._routes.lookup(method, path, request.fields)
        if lookup is None:
            raise RefusalError(self._routes.refusal(method, path))
        request.allowance = self.allow(request, name, None)
        return partial(self._look_up, request, name, lookup)

    def _let_body_come(self, request: Request, name: str, endpoint: Endpoint) -> None:
        """Let the body come, with an allowance of bytes. Raises RefusalError if it could never be answered."""
        # An answer that is kept costs nothing, so a spent budget is no reason to withhold it.
        replayable = self.parts.answers is not None and headers.IDEMPOTENCY_HEADER in request.fields
        crowded = None if replayable else self._turns.admission.foresee(name)
        if crowded is not None:
            raise RefusalError(refuse.over_budget(crowded), crowded)
        request.allowance = self.allow(request, name, self.largest(request, name, endpoint))

    def largest(self, request: Request, name: str, endpoint: Endpoint) -> Refused | None:
        """The limit that the body could never be paid from, where nothing but its bytes bounds the prompt."""
        limit = self.parts.budgets.largest_limit(name)
        payable = limit is None or 0 < request.declared <= limit * MOST_BYTES_A_TOKEN
        if payable or self.parts.upstreams.tells_context(endpoint.dialect.name):
            return None
        return self.parts.budgets.largest(name)

    def allow(self, request: Request, name: str, largest: Refused | None) -> BodyAllowance:
        """Return the allowance of a body. Raises RefusalError."""
        return self._bodies.allow(name, request.declared, self.parts.budgets.places(name), largest)

    # With the body.

    async def _read(
        self, request: Request, name: str, endpoint: Endpoint, arrived: float
    ) -> tuple[Arrival, Wish]:
        """Read a request, choose its upstreams, and bound its prompt and its output. Raises RefusalError."""
        try:
            if may_be_read_now(request):
                reading = read_now(endpoint, request)
            else:
                reading = await self._intake.read(endpoint, request)
        except RequestError as error:
            raise RefusalError(refuse.invalid_request(str(error))) from error
        self._check_decoys(request, name)
        arrival = Arriving(request, name, endpoint, arrived, reading).route(self.parts, self._prompts)
        wish = self._turns.wish(arrival)
        if may_be_measured(arrival, wish, self.parts, self._prompts, self._tokenizers):
            arrival = await measured(arrival, self._tokenizers)
            wish = self._turns.wish(arrival)
        return arrival, wish

    def _check_decoys(self, request: Request, name: str) -> None:
        """Raise RefusalError for a body with a decoy in it, and tell of it: whoever sends one has collected keys."""
        owner = self.parts.decoy_in(request.body)
        if owner:
            self.parts.alarm(sent(name, owner, request.path, self.parts.clock.monotonic()))
            raise RefusalError(refuse.decoy_sent(owner))

    async def _take_once(self, arrival: Arrival, wish: Wish, take: Take, answers: Answers) -> Response | None:
        """Give the answer that this key has already, or see to it that it has one. Raises RefusalError."""
        key = arrival.idempotency_key or ""
        digest = hashlib.sha256(arrival.endpoint.path.encode() + b"\0" + arrival.body_sha256).digest()
        claim = Claim(arrival.subsystem, key, digest)
        try:
            async with answers.claim(claim) as kept:
                if kept is not None:
                    self.parts.log.info("turn.replayed", turn=kept.turn, subsystem=arrival.subsystem)
                    return kept.response()
                copier = Copier(arrival.endpoint)
                keep = partial(self._keep, answers, claim, copier)
                return await take(structs.replace(arrival, endpoint=copier.endpoint), wish, keep)
        except KeyReusedError as error:
            raise RefusalError(refuse.key_reused(key), prompt_digest=arrival.ask.prompt_digest) from error
        except DatabaseError as error:
            self.parts.log.error("answer.not_read", subsystem=arrival.subsystem, error=str(error))
            raise RefusalError(refuse.LEDGER_UNAVAILABLE) from error

    async def _keep(
        self, answers: Answers, claim: Claim, copier: Copier, turn: Turn, response: Response
    ) -> None:
        """Keep the answer before the turn is closed: a closed turn is one that is not paid for twice."""
        if turn.outcome is not Outcome.DONE or response.status != 200:
            return  # a redirect is done as well, but it is no answer to be given again
        try:
            await answers.keep(claim, copier.answer(turn.id, response))
        except DatabaseError as error:
            self.parts.log.error("answer.not_kept", turn=turn.id, error=str(error))

    async def _look_up(self, request: Request, name: str, lookup: Lookup) -> Response:
        """Answer a request that costs nothing."""
        if request.size > _LOOKED_UP_BYTES:
            refusal = refuse.invalid_request(f"at most {_LOOKED_UP_BYTES:,} bytes are asked with here")
            return self._refusals.refuse(request, name, RefusalError(refusal))
        try:
            reply = await lookup.answer(self.parts.upstreams, Question(request.body, request.fields))
        except RequestError as error:
            refusal = refuse.invalid_request(str(error))
            return self._refusals.answer(request, name, RefusalError(refusal))
        except UpstreamError as error:
            return render(lookup.dialect, refuse.upstream_failed(str(error)))
        except Exception as error:
            return self._refusals.answer(request, name, error)
        return Response(reply.status, reply.body, reply.fields)
