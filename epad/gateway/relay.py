"""Carrying a request to its upstream and the answer back to the client, as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from aiohttp import web

from epad.gateway.charge import NOTHING, charge_whole
from epad.gateway.dialects.dialect import Ask, StreamMeter
from epad.gateway.errors import UpstreamError
from epad.gateway.refusal import Refusal, reservation_exceeded, upstream_failed
from epad.gateway.turn import BrokenTurnError, Turn, Turns
from epad.gateway.upstream import Answer, Upstreams
from epad.ledger.record import Outcome, UsageSource

TURN_HEADER = "x-epad-turn"
_NOT_LET_IN = frozenset({401, 407})
# asyncio makes a writer wait once 64 KiB are unsent; what stays below half of that never has to.
_NEVER_WAITS_BYTES = 32 << 10
# A role, a tool's name, the reason for the end: chunks that no token stands behind, for each choice.
SLACK_CHUNKS = 16


class ClientGoneError(ConnectionResetError):
    """The client disconnected, or has stopped reading; aiohttp ends the connection on it, saying nothing."""


class Relay:
    """Forwards turns."""

    def __init__(self, upstreams: Upstreams, turns: Turns, write_seconds: float) -> None:
        self._upstreams = upstreams
        self._turns = turns
        self._write_seconds = write_seconds

    async def carry(self, request: web.BaseRequest, turn: Turn) -> web.StreamResponse:
        """Forward the turn and answer the client. Raises BrokenTurnError, ClientGoneError."""
        arrival = turn.arrival
        self._turns.forward(turn)
        try:
            answer = await self._upstreams.post(
                arrival.upstream, _target(request, turn), arrival.ask.body, request.headers
            )
            async with answer:
                turn.status = answer.status
                if answer.status == 200 and answer.is_stream:
                    return await self._stream(request, turn, answer)
                return await self._whole(request, turn, answer)
        except UpstreamError as error:
            if error.nothing_spent:
                self._turns.settle(turn, NOTHING)
            turn.end(Outcome.FAILED, str(error))
            raise BrokenTurnError(upstream_failed(str(error))) from error
        except asyncio.CancelledError:
            severed = turn.was_severed()
            if severed is None:
                raise
            turn.end(Outcome.CUT, severed.message)
            raise BrokenTurnError(severed) from None

    async def _whole(self, request: web.BaseRequest, turn: Turn, answer: Answer) -> web.StreamResponse:
        """Pass on an answer in one piece. Raises UpstreamError until it has come, ClientGoneError after."""
        body = await answer.read()
        turn.seal()
        usage = turn.arrival.endpoint.usage(body)
        self._turns.settle(turn, charge_whole(usage, answer.status, turn.arrival.bound))
        name = turn.arrival.upstream.name
        if answer.status in _NOT_LET_IN:
            message = f"upstream {name} does not take epad's key: check [upstreams.{name}] api_key_file"
            turn.end(Outcome.FAILED, message)
            raise BrokenTurnError(upstream_failed(message))
        ok = answer.status < 400
        turn.reply = turn.arrival.endpoint.reply(body).digest() if answer.status == 200 else b""
        turn.end(Outcome.DONE if ok else Outcome.FAILED, "" if ok else f"upstream answered {answer.status}")
        headers = answer.headers()
        headers[TURN_HEADER] = turn.id
        response = web.Response(body=body, status=answer.status, reason=answer.reason, headers=headers)
        await self._write(request, turn, _send(request, response), len(body))
        return response

    async def _stream(self, request: web.BaseRequest, turn: Turn, answer: Answer) -> web.StreamResponse:
        """Pass on an answer as it comes; whatever breaks it off, the client is told in its dialect."""
        headers = answer.headers()
        headers[TURN_HEADER] = turn.id
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        turn.meter = turn.arrival.endpoint.meter(turn.arrival.ask)
        broken: Refusal | None = None
        rest = b""
        try:
            await self._write(request, turn, response.prepare(request))
            broken, rest = await self._pump(request, turn, answer, response)
        except UpstreamError as error:
            turn.end(Outcome.FAILED, str(error))
            broken = upstream_failed(str(error))
        except asyncio.CancelledError:
            broken = turn.was_severed()
            if broken is None:
                raise
            turn.end(Outcome.CUT, broken.message)
        turn.seal()
        self._settle(turn, turn.meter)
        if broken is not None:
            answer.close()
            rest += turn.meter.cut(broken)
        await self._write(request, turn, response.write_eof(rest), len(rest))
        return response

    async def _pump(
        self, request: web.BaseRequest, turn: Turn, answer: Answer, response: web.StreamResponse
    ) -> tuple[Refusal | None, bytes]:
        """Copy events until the upstream ends; say what to tell the client if that was too early.

        What came together with the end of the answer is returned, to go out together with it.
        """
        meter = turn.meter
        if meter is None:
            raise UpstreamError(f"turn {turn.id} streams without a meter")
        overrun, rest = False, b""
        async for data in answer.chunks():
            passed = meter.feed(data)
            self._turns.streamed(turn, meter)
            if overrun and not meter.complete:
                broken = reservation_exceeded(turn.arrival.upstream.name, turn.arrival.ask.output_tokens)
                turn.end(Outcome.CUT, broken.message)
                return broken, b""
            # One that has just come to its end is let end: to cut it would save nothing.
            overrun = _overruns(turn.arrival.ask, meter)
            if meter.complete:
                # Before the client hears of the end: its next request may come before ours is through.
                self._settle(turn, meter)
            if answer.ended:
                rest += passed
            elif passed:
                await self._write(request, turn, response.write(passed), len(passed))
        rest += meter.finish()
        self._turns.streamed(turn, meter)
        if meter.failed:
            turn.end(Outcome.FAILED, "the upstream ended its stream with an error")
        elif meter.complete or meter.usage is not None:
            turn.end(Outcome.DONE)
            turn.reply = meter.reply.digest()
        else:
            message = f"upstream {turn.arrival.upstream.name} ended its stream without the end of the answer"
            turn.end(Outcome.FAILED, message)
            return upstream_failed(message), rest
        return None, rest

    def _settle(self, turn: Turn, meter: StreamMeter) -> None:
        """Settle a stream; one that ran over its cap uncounted costs the chunks that it came in."""
        charge = turn.charge()
        if charge.source is UsageSource.COUNTED and _overruns(turn.arrival.ask, meter):
            charge = replace(charge, output_tokens=max(charge.output_tokens, meter.chunks))
        self._turns.settle(turn, charge)

    async def _write(
        self, request: web.BaseRequest, turn: Turn, writing: Awaitable[object], size: int = 0
    ) -> None:
        """Let the client take its bytes, within its time: one that stalls pins a GPU slot and a reservation.

        A timer takes 4 us, for every event of a stream: where nothing can wait, none is set.
        Raises ClientGoneError.
        """
        transport = request.transport
        try:
            if transport is not None and transport.get_write_buffer_size() + size < _NEVER_WAITS_BYTES:
                await writing
                return
            async with asyncio.timeout(self._write_seconds):
                await writing
        except TimeoutError as error:
            if request.transport is not None:
                request.transport.abort()
            turn.end(Outcome.CUT, f"the client read nothing for {self._write_seconds:g} s")
            raise ClientGoneError(turn.reason) from error
        except ConnectionError as error:
            turn.end(Outcome.CUT, "the client disconnected")
            raise ClientGoneError(turn.reason) from error


async def _send(request: web.BaseRequest, response: web.Response) -> None:
    """Write an answer that is whole."""
    await response.prepare(request)
    await response.write_eof()


def _target(request: web.BaseRequest, turn: Turn) -> str:
    """The route at the upstream, with the query as it came: Anthropic's beta messages are asked for in it."""
    query = request.rel_url.raw_query_string
    return f"{turn.arrival.endpoint.path}?{query}" if query else turn.arrival.endpoint.path


def _overruns(ask: Ask, meter: StreamMeter) -> bool:
    """Say whether more has come than was asked for: by the upstream's own count, or by chunks of a token each."""
    counted = meter.usage.output_tokens if meter.usage is not None else None
    if counted is not None:
        return counted > ask.output_tokens
    return meter.chunks > ask.output_tokens + SLACK_CHUNKS * ask.choices
