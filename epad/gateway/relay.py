"""Carrying a request to its upstream and the answer back to the client, as it comes."""

from __future__ import annotations

import asyncio
from functools import partial

from msgspec import structs

from epad.configuration.server_kinds import CHAT
from epad.gateway.answer import Answer
from epad.gateway.charge import NOTHING, Charge
from epad.gateway.dialects.dialect import StreamMeter
from epad.gateway.dialects.seen import Fault
from epad.gateway.early_end import end_of, ended_early
from epad.gateway.errors import UpstreamError
from epad.gateway.form import WHOLE, Form
from epad.gateway.http.message import Response
from epad.gateway.http.request import Channel, Request
from epad.gateway.objections import OBJECTING, OTHER_NAME, USAGE_OPTION, Limit, names_objected, smaller_cap
from epad.gateway.refusal import (
    Refusal,
    compressed,
    reservation_exceeded,
    upstream_failed,
    upstream_unavailable,
)
from epad.gateway.turn import BrokenTurnError, Turn, fields_of
from epad.gateway.turns import Turns
from epad.gateway.upstream import Upstream, Upstreams
from epad.gateway.upstream_key import refused_key
from epad.ledger.record import Outcome, UsageSource
from probes.blame import Failure, said_in

_READ_BYTES = 2_048  # of an error, to see what it says
_NOT_LET_IN = frozenset({401, 407})
# A role, a tool's name, the reason for the end: chunks that no token stands behind, for each choice.
SLACK_CHUNKS = 16
# The name of the cap, its size, and the wish for usage: one server may object to all three, one after the other.
_MOST_OBJECTIONS = 3

# What every turn asks for: see `epad/gateway/health.py`.
_DONE, _NO_FAULT = Outcome.DONE, Fault.NONE


class ClientGoneError(ConnectionResetError):
    """The client disconnected, or has stopped reading; there is no one left to tell."""


class _Lessons:
    """Remembers one turn's lessons from its upstream's refusals of values that epad wrote."""

    def __init__(self) -> None:
        self.teacher: Upstream | None = None
        self.refused: frozenset[str] = frozenset()
        self.count = 0
        self._objected: frozenset[str] = frozenset()
        self._limits: tuple[Limit, ...] = ()

    def heed(self, turn: Turn, body: bytes) -> bool:
        """Learn from a refusal of a value that epad wrote; tell if it was one."""
        arrival = turn.arrival
        upstream, ask, path = arrival.upstream.served_by, arrival.ask, arrival.endpoint.path
        if upstream is not self.teacher:
            self.teacher, self.refused = upstream, upstream.profile.refused(ask.model)
            self._objected, self._limits = frozenset(), ()
        self.count += 1
        if ask.generates and turn.cap != ask.wish:
            smaller = smaller_cap(body, turn.cap, turn.bound.input_tokens)
            if smaller is not None:
                limit, turn.cap = smaller
                self._limits = (limit, *self._limits)
                return True
        names = [USAGE_OPTION] if ask.stream else []
        if path == CHAT:
            names += upstream.habits(path, ask.model, self.refused).caps[:1]
        fresh = frozenset(names_objected(ask, body, names)) - self._objected
        self._objected |= fresh
        self.refused = (self.refused - {OTHER_NAME.get(name, "") for name in fresh}) | fresh
        return bool(fresh)

    def remember(self, turn: Turn) -> None:
        """Apply the lessons to later turns: the server has taken the changed request."""
        upstream, model = turn.arrival.upstream.served_by, turn.arrival.ask.model
        if upstream is not self.teacher:
            return
        if self._objected or self._limits:
            upstream.profile.told(model, self.refused, self._limits)


class Relay:
    """Forwards turns."""

    def __init__(self, upstreams: Upstreams, turns: Turns, write_seconds: float) -> None:
        self._upstreams = upstreams
        self._turns = turns
        self._write_seconds = write_seconds

    async def carry(self, request: Request, turn: Turn) -> Response:
        """Forward the turn and answer the client; return the answer that was written, a stream's without its body.

        Raises BrokenTurnError, ClientGoneError.
        """
        arrival = turn.arrival
        self._turns.forward(turn)
        try:
            async with await self._ask(request, turn) as answer:
                turn.status = answer.status
                if answer.status != 200:
                    return await self._whole(request.connection, turn, answer)
                if not answer.readable:
                    message = compressed(arrival.upstream.name, answer.codings)
                    turn.end(Outcome.FAILED, message.message, Failure.UNREADABLE)
                    raise BrokenTurnError(turn, message)
                lines = arrival.endpoint.dialect.name == "ollama"
                form = await answer.form(asked=arrival.ask.stream, lines=lines)
                if form is WHOLE:
                    return await self._whole(request.connection, turn, answer)
                return await self._stream(request.connection, turn, answer, form)
        except UpstreamError as error:
            if error.nothing_spent:
                self._turns.settle(turn, NOTHING)
            turn.end(Outcome.FAILED, str(error), error.failure)
            raise BrokenTurnError(turn, self._told(turn, error)) from error
        except asyncio.CancelledError:
            severed = turn.was_severed()
            if severed is None:
                raise
            raise BrokenTurnError(turn, severed) from None

    def _told(self, turn: Turn, error: UpstreamError) -> Refusal:
        """Return the client's refusal for an upstream that failed, or that is not asked since it fails."""
        down = self._upstreams.down(turn.arrival.upstream, turn.arrival.asker)
        if error.failure is Failure.NOT_ASKED and down is not None:
            return upstream_unavailable(down)
        return upstream_failed(str(error))

    async def _ask(self, request: Request, turn: Turn) -> Answer:
        """Ask the upstream; once more if it objects to a value that epad wrote. Raises UpstreamError."""
        lessons: _Lessons | None = None
        arrival, target = turn.arrival, _target(request, turn)
        while True:
            written = partial(_written, turn, lessons)
            answer = await self._upstreams.post(
                arrival.upstream, target, written, request.fields, arrival.asker
            )
            if answer.status == 200 and lessons is not None:
                lessons.remember(turn)
            if answer.status not in OBJECTING or not answer.readable:
                return answer
            lessons = lessons or _Lessons()
            try:
                body = await answer.read()
            except BaseException:
                answer.close()
                raise
            if lessons.count >= _MOST_OBJECTIONS or not lessons.heed(turn, body):
                answer.put_back(body)
                return answer
            answer.close()

    async def _whole(self, client: Channel, turn: Turn, answer: Answer) -> Response:
        """Pass on an answer in one piece. Raises UpstreamError until it has come, ClientGoneError after."""
        body = await answer.read()
        turn.seal()
        read = turn.arrival.endpoint.read(body)
        turn.whole = read.seen
        self._turns.settle(turn)
        name = turn.arrival.upstream.name
        if answer.status >= 400:
            turn.said = said_in(answer.status, _start_of(body), read.failure)
        if answer.status in _NOT_LET_IN:
            asked = turn.arrival.upstream.served_by
            message = refused_key(name, asked.key, asked.secret)
            turn.end(Outcome.FAILED, message)
            raise BrokenTurnError(turn, upstream_failed(message))
        failure = f"upstream answered {answer.status}" if answer.status >= 400 else ""
        if answer.status == 200:
            turn.reply, turn.data = read.reply.digest(), read.reply.is_data
            if read.fault is not _NO_FAULT:
                answer.is_none()
                turn.said = said_in(answer.status, read.failure)
                failure = f"upstream {name} answered 200 with no answer: {read.failure}"
        turn.end(Outcome.FAILED if failure else _DONE, failure)
        response = Response(answer.status, body, [*answer.fields(), *fields_of(turn)], answer.reason)
        try:
            client.respond(response)
        except ConnectionError as error:
            raise _gone(turn) from error
        await self._drain(client, turn)
        return response

    async def _stream(self, client: Channel, turn: Turn, answer: Answer, form: Form) -> Response:
        """Pass on an answer as it comes; whatever breaks it off, the client is told in its dialect."""
        fields = [*answer.fields(), *fields_of(turn)]
        turn.meter = turn.arrival.endpoint.meter(turn.arrival.ask)
        if form is Form.LINES:
            turn.meter.read_lines()
        broken: Refusal | None = None
        rest = b""
        try:
            client.start(answer.status, answer.reason, fields)
            if not answer.ready:
                client.flush()
            broken, rest = await self._pump(client, turn, answer, turn.meter)
        except UpstreamError as error:
            turn.end(Outcome.FAILED, str(error), error.failure)
            broken = upstream_failed(str(error))
        except ClientGoneError:
            raise
        except ConnectionError as error:
            raise _gone(turn) from error
        except asyncio.CancelledError:
            broken = turn.was_severed()
            if broken is None:
                raise
        turn.seal()
        charge = self._settle(turn, turn.meter)
        if broken is not None:
            answer.close()
            rest += end_of(turn.meter, broken, charge)
        try:
            client.end(rest)
        except ConnectionError as error:
            raise _gone(turn) from error
        await self._drain(client, turn)
        return Response(answer.status, b"", fields, answer.reason)

    async def _pump(
        self, client: Channel, turn: Turn, answer: Answer, meter: StreamMeter
    ) -> tuple[Refusal | None, bytes]:
        """Copy events until the upstream ends; return the client's refusal if that was too early.

        The bytes that came together with the end of the answer are returned, to go out together with it.
        """
        overrun, rest = False, b""
        while data := answer.arrived() or await answer.more():
            passed = meter.feed(data)
            if meter.chunks and not answer.judged:
                answer.succeeded()
            why = self._turns.streamed(turn, meter)
            broken = _stopped(turn, why) if why or overrun else None
            if broken is not None and not meter.complete:
                return broken, passed if why else b""
            # One that has just come to its end is let end: to cut it would save nothing.
            overrun = _overruns(turn, meter)
            if meter.complete:
                # Before the client hears of the end: its next request may come before ours is through.
                self._settle(turn, meter)
            if answer.ended:
                rest += passed
            elif passed:
                client.write(passed)
                if client.stalled:
                    await self._drain(client, turn)
        rest += meter.finish()
        self._turns.streamed(turn, meter)
        if meter.failed:
            answer.is_none()
            turn.end(Outcome.FAILED, "the upstream ended its stream with an error", Failure.NO_ANSWER)
        elif meter.complete:
            turn.end(Outcome.DONE)
            turn.reply, turn.data = meter.reply.digest(), meter.reply.is_data
        else:
            answer.is_none()
            message = f"upstream {turn.arrival.upstream.name} ended its stream without the end of the answer"
            turn.end(Outcome.FAILED, message, Failure.BROKE_OFF)
            return upstream_failed(message), rest
        return None, rest

    def _settle(self, turn: Turn, meter: StreamMeter) -> Charge:
        """Settle a stream; one that ran over its cap uncounted costs the chunks that it came in."""
        if turn.charged is not None:
            return turn.charged
        charge = turn.charge()
        if charge.source is not UsageSource.USAGE and _overruns(turn, meter):
            charge = structs.replace(charge, output_tokens=max(charge.output_tokens, meter.chunks))
        return self._turns.settle(turn, charge)

    async def _drain(self, client: Channel, turn: Turn) -> None:
        """Let the client take its bytes, within its time: one that stalls pins a GPU slot and a reservation.

        Raises ClientGoneError.
        """
        if not client.stalled:
            return
        try:
            async with asyncio.timeout(self._write_seconds):
                await client.drain()
        except TimeoutError as error:
            client.abort()
            turn.end(
                Outcome.CUT, f"the client read nothing for {self._write_seconds:g} s", Failure.CLIENT_SLOW
            )
            raise ClientGoneError(turn.reason) from error
        except ConnectionError as error:
            raise _gone(turn) from error


def _gone(turn: Turn) -> ClientGoneError:
    """The client is."""
    turn.end(Outcome.CUT, "the client disconnected", Failure.CLIENT_GONE)
    return ClientGoneError(turn.reason)


def _start_of(body: bytes) -> str:
    """Return the beginning of an error's body, as text."""
    return body[:_READ_BYTES].decode("utf-8", "replace")


def _stopped(turn: Turn, why: str) -> Refusal:
    """Return the refusal that ends a stream whose server goes on: a detector's reason, or an overrun."""
    if why:
        turn.end(Outcome.CUT, why)
        return ended_early(why)
    broken = reservation_exceeded(turn.arrival.upstream.name, turn.bound.output_tokens)
    turn.end(Outcome.CUT, broken.message, Failure.OVERRAN)
    return broken


def _target(request: Request, turn: Turn) -> str:
    """The route at the upstream, with the query as it came: Anthropic's beta messages are asked for in it."""
    path = turn.arrival.endpoint.path
    return f"{path}?{request.query.decode('latin-1')}" if request.query else path


def _written(turn: Turn, lessons: _Lessons | None, upstream: Upstream) -> bytes:
    """Return the request as this upstream gets it."""
    arrival = turn.arrival
    refused = lessons.refused if lessons is not None and upstream is lessons.teacher else frozenset()
    habits = upstream.habits(arrival.endpoint.path, arrival.ask.model, refused)
    return arrival.endpoint.write(arrival.ask, turn.cap, habits)


def _overruns(turn: Turn, meter: StreamMeter) -> bool:
    """Say whether more has come than was asked for: by the upstream's own count, or by chunks of a token each.

    Its count is believed only upward: one of 0, or one that stands still, does not let a stream run on.
    """
    most, usage = turn.bound.output_tokens, meter.usage
    if usage is not None and (usage.output_tokens or 0) > most:
        return True
    return meter.chunks > most and meter.chunks > most + SLACK_CHUNKS * turn.arrival.ask.choices
