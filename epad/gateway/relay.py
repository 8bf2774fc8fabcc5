"""Carrying a request to its upstream and the answer back to the client, as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from aiohttp import web

from epad.gateway.charge import NOTHING, charge_whole
from epad.gateway.errors import UpstreamError
from epad.gateway.refusal import Refusal, upstream_failed
from epad.gateway.turn import BrokenTurnError, Turn, Turns
from epad.gateway.upstream import Answer, Upstreams
from epad.ledger.record import Outcome

TURN_HEADER = "x-epad-turn"
_NOT_LET_IN = frozenset({401, 407})


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
                arrival.upstream, arrival.endpoint.path, arrival.ask.body, request.headers
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
        turn.end(Outcome.DONE if ok else Outcome.FAILED, "" if ok else f"upstream answered {answer.status}")
        headers = answer.headers()
        headers[TURN_HEADER] = turn.id
        response = web.Response(body=body, status=answer.status, reason=answer.reason, headers=headers)
        await self._write(request, turn, response.prepare(request))
        await self._write(request, turn, response.write_eof())
        return response

    async def _stream(self, request: web.BaseRequest, turn: Turn, answer: Answer) -> web.StreamResponse:
        """Pass on an answer as it comes; whatever breaks it off, the client is told in its dialect."""
        headers = answer.headers()
        headers[TURN_HEADER] = turn.id
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        turn.meter = turn.arrival.endpoint.meter(turn.arrival.ask)
        broken: Refusal | None = None
        try:
            await self._write(request, turn, response.prepare(request))
            broken = await self._pump(request, turn, answer, response)
        except UpstreamError as error:
            turn.end(Outcome.FAILED, str(error))
            broken = upstream_failed(str(error))
        except asyncio.CancelledError:
            broken = turn.was_severed()
            if broken is None:
                raise
            turn.end(Outcome.CUT, broken.message)
        turn.seal()
        self._turns.settle(turn)
        if broken is not None:
            answer.close()
            await self._write(request, turn, response.write(turn.arrival.endpoint.dialect.cut(broken)))
        await self._write(request, turn, response.write_eof())
        return response

    async def _pump(
        self, request: web.BaseRequest, turn: Turn, answer: Answer, response: web.StreamResponse
    ) -> Refusal | None:
        """Copy events until the upstream ends; say what to tell the client if that was too early."""
        meter = turn.meter
        if meter is None:
            raise UpstreamError(f"turn {turn.id} streams without a meter")
        async for data in answer.chunks():
            passed = meter.feed(data)
            if meter.complete:
                # Before the client hears of the end: its next request may come before ours is through.
                self._turns.settle(turn)
            if passed:
                await self._write(request, turn, response.write(passed))
        passed = meter.finish()
        if passed:
            await self._write(request, turn, response.write(passed))
        if meter.failed:
            turn.end(Outcome.FAILED, "the upstream ended its stream with an error")
        elif meter.complete or meter.usage is not None:
            turn.end(Outcome.DONE)
        else:
            message = f"upstream {turn.arrival.upstream.name} ended its stream without the end of the answer"
            turn.end(Outcome.FAILED, message)
            return upstream_failed(message)
        return None

    async def _write(self, request: web.BaseRequest, turn: Turn, writing: Awaitable[object]) -> None:
        """Let the client take its bytes, within its time: one that stalls pins a GPU slot and a reservation.

        Raises ClientGoneError.
        """
        try:
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
