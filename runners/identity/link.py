"""Speak with the daemon: questions of either side have numbers, and their answers the same."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from runners.egress.channel import Channel
from runners.identity import messages
from runners.identity.messages import Keep, Known, Order, Report, Saved, Start, Who, encode, read_order

ANSWER_SECONDS: Final = 10.0
"""The daemon answers within a few milliseconds; without an answer for so long it is asked no more."""

Do = Callable[[Order], Awaitable[None]]


class Link:
    """The child's end. `do` carries out each order that is no answer."""

    def __init__(self, end: socket.socket) -> None:
        self.ended = asyncio.Event()
        self.started: asyncio.Future[tuple[Start, list[int]]] = asyncio.get_running_loop().create_future()
        self.do: Do | None = None
        self._channel = Channel(end, self._hear, self.ended.set)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Known | Saved]] = {}
        self._doing: set[asyncio.Task[None]] = set()

    def tell(self, report: Report) -> None:
        """Report, and wait for nothing."""
        self._channel.send(encode(report))

    async def who(self, connection: int, accepted_at: float) -> Known:
        """Ask who is at the other end of a connection. Raises TimeoutError, OSError."""
        shown = os.dup(connection)  # the message may have to wait, and the client may hang up meanwhile
        try:
            answer = await self._ask(lambda number: Who(number, accepted_at), [shown])
        finally:
            os.close(shown)
        if not isinstance(answer, Known):
            raise TypeError(f"the daemon answers {answer!r}")
        return answer

    async def keep(self, authorities: str, why: str) -> None:
        """Have the authorities put on the disk. Raises OSError, TimeoutError."""
        answer = await self._ask(lambda number: Keep(number, authorities, why))
        if isinstance(answer, Saved) and answer.why:
            raise OSError(answer.why)

    async def _ask(self, report: Callable[[int], Report], descriptors: Sequence[int] = ()) -> Known | Saved:
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._channel.send(encode(report(number)), descriptors)
            return await asyncio.wait_for(future, ANSWER_SECONDS)
        finally:
            del self._waiting[number]

    def _hear(self, message: bytes, descriptors: Sequence[int]) -> None:
        order = read_order(message)
        if isinstance(order, Start):
            self.started.set_result((order, list(descriptors)))
        elif isinstance(order, messages.Known | messages.Saved):
            future = self._waiting.get(order.number)
            if future is not None and not future.done():
                future.set_result(order)
        elif self.do is not None:
            task = asyncio.ensure_future(self.do(order))
            self._doing.add(task)
            task.add_done_callback(self._doing.discard)
