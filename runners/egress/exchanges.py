"""Carry the requests of one intercepted tunnel, one after the other: each is read, checked, filled, and then sent on.

The head goes through the same code as that of a plain request, and is written anew. The next one is read once the
answer before it is whole, so requests that a client sends at once stay in their order, and none hides in another's
body. The connection ends with the first request that is refused, or whose answer has no end of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from runners.egress import plain
from runners.egress.messages import INTERCEPT, Event, EventKind, Limits, Secret
from runners.egress.network import Streams
from runners.egress.outgoing import OutgoingWatch
from runners.egress.placeholders import filled
from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import Target, forwarded, read_head, read_inner, wants_more
from runners.egress.tunnel import Tunnel


class Checks(Protocol):
    """Defines the parts of a door by which requests are judged, as of now."""

    limits: Limits
    secrets: tuple[Secret, ...]
    outgoing: OutgoingWatch

    def report(self, event: Event) -> None:
        """Report something to the daemon."""
        ...


@dataclass(frozen=True, slots=True)
class Inner:
    """Holds a request as it goes on. `length` of its body is None if it comes in chunks."""

    head: bytes
    length: int | None
    is_head: bool
    wants_more: bool


class Exchanges:
    """Reads the requests of one client to one host."""

    def __init__(self, client: Streams, target: Target, checks: Checks) -> None:
        self._client = client
        self._target = target
        self._checks = checks
        self.may_answer = True
        """Whether a refusal can still be told: nothing of a server's answer to the same request was sent."""

    async def first(self) -> Inner:
        """Read the first request. Raises RefusedError, and OSError if none comes."""
        limits = self._checks.limits
        try:
            async with asyncio.timeout(limits.head_seconds):
                begun = await self._client[0].read(1)
        except TimeoutError:
            raise RefusedError(Why.TOO_SLOW, f"no request came within {limits.head_seconds:g} s") from None
        if not begun:
            raise ConnectionResetError
        return await self._read(begun)

    async def run(self, tunnel: Tunnel, server: Streams, request: Inner) -> None:
        """Carry this request and those that follow. Raises RefusedError and OSError."""
        seconds = self._checks.limits.body_seconds
        following: Inner | None = request
        while following is not None:
            answered = tunnel.down
            await tunnel.send(following.head)
            body = plain.BodyReader(self._client[0], seconds).pieces(following.length)
            pieces = self._checks.outgoing.pieces(body, self._target.host)
            try:
                more = await plain.carry(
                    tunnel, pieces, server, is_head=following.is_head, keeps=following.wants_more
                )
            finally:
                self.may_answer = tunnel.down == answered
            if not more:
                return
            self.may_answer = True
            following = await self._next(server)

    async def _next(self, server: Streams) -> Inner | None:
        """Read the next request; None once either side has ended. The idle time is the tunnel's."""
        asking = asyncio.create_task(self._client[0].read(1))
        ending = asyncio.create_task(server[0].read(1))
        try:
            await asyncio.wait({asking, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done() or not (begun := await asking):
                return None  # a server that speaks before it is asked is out of step
        finally:
            for task in (asking, ending):
                task.cancel()
            await asyncio.gather(asking, ending, return_exceptions=True)
        return await self._read(begun)

    async def _read(self, begun: bytes) -> Inner:
        """Read the rest of a head, and check it. Raises RefusedError."""
        limits = self._checks.limits
        try:
            async with asyncio.timeout(limits.head_seconds):
                data = begun + await self._client[0].readuntil(b"\r\n\r\n")
        except TimeoutError:
            raise RefusedError(Why.TOO_SLOW, f"no request came within {limits.head_seconds:g} s") from None
        except asyncio.LimitOverrunError:
            raise RefusedError(Why.TOO_LARGE, "the head of the request is too long") from None
        except asyncio.IncompleteReadError:
            raise ConnectionResetError from None
        head = read_head(data)
        request = read_inner(head, self._target)
        passed_on = forwarded(head, request, inside=True)
        self._checks.outgoing.check(passed_on, self._target.host)
        passed_on = filled(
            passed_on, self._checks.secrets, self._target, over_tls=True, used=self._tell_filled
        )
        return Inner(passed_on, request.length, head.method == "HEAD", wants_more(head))

    def _tell_filled(self, name: str) -> None:
        at = self._target
        self._checks.report(Event(EventKind.FILLED, host=at.host, port=at.port, how=INTERCEPT, words=name))
