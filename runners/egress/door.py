"""Serve one subsystem's door: its listener, its rules, its questions, and all that is open through it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from runners.egress.certificates import Certificates
from runners.egress.connection import Connection
from runners.egress.messages import Decide, Event, EventKind, Limits, OpenDoor, Secret
from runners.egress.network import Network, Streams, streams_of
from runners.egress.outgoing import OutgoingWatch
from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import Target
from runners.egress.rules import HostRule, address_of, first_match, parse
from runners.egress.way import Ways

_NO_ROOM_SECONDS: Final = 0.1
_REFUSALS_A_SECOND: Final = 20
"""Answered at once; with more, a door refuses as many a second as it serves at once, and no more."""
_HELD_BACK_SECONDS: Final = 1.0
_HUNG_UP_SECONDS: Final = 1.0
"""How often a connection that waits for a person is asked if its client is still there."""
_numbers = itertools.count(1)

Report = Callable[[Event], None]


class Door:
    """An open door."""

    def __init__(self, order: OpenDoor, network: Network, report: Report) -> None:
        self.name = order.door
        self.limits: Limits = order.limits
        self._report = report
        self._ways = Ways(network, order.limits.dial_seconds)
        self._room = asyncio.Semaphore(order.limits.connections)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[int, tuple[Connection, asyncio.Task[None] | None]] = {}
        self._questions: dict[int, asyncio.Future[Decide]] = {}
        self._refusing_since = float("-inf")
        self._refusals = 0
        self.secrets: tuple[Secret, ...] = ()
        self.change(order)

    def change(self, order: OpenDoor) -> None:
        """Obey these rules from now on; open connections stay. Raises RuleError."""
        self._rules = tuple(map(parse, order.rules))
        self._asks = order.ask
        self._asks_all = order.asks_all
        self._agreed = tuple(map(parse, order.agreed))
        if order.secrets is not None:
            self.secrets = order.secrets
        self.outgoing = OutgoingWatch(order.decoys, self.secrets)
        authority = order.authority
        self.certificates = None if authority is None else Certificates(authority)

    async def hold_back(self) -> None:
        """Let a refusal wait for a second if there were many in this one: each is told to the daemon."""
        now = asyncio.get_running_loop().time()
        if now - self._refusing_since >= 1.0:
            self._refusing_since, self._refusals = now, 0
        self._refusals += 1
        if self._refusals > _REFUSALS_A_SECOND:
            await asyncio.sleep(_HELD_BACK_SECONDS)

    def report(self, event: Event) -> None:
        """Report something of this door."""
        self._report(replace(event, door=self.name))

    async def listen(self, listener: socket.socket) -> None:
        """Accept for as long as the listener listens, never more at once than there is room for."""
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._room.release()
                if listener.fileno() < 0 or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    return  # the daemon has closed it
                self.report(
                    Event(EventKind.REFUSED, why=Why.NOT_OFFERED, words=f"not accepted: {error.strerror}")
                )
                await asyncio.sleep(_NO_ROOM_SECONDS)
                continue
            self._start(accepted)

    def close(self) -> int:
        """Cut all that is open, at once; return how many connections that were."""
        for connection, _ in self._connections.values():
            connection.cut()
        for task in self._tasks:
            task.cancel()
        return len(self._tasks)

    async def cut(self, host: str, port: int) -> int:
        """Cut what is open, or being opened, to a host and port; return how many connections were open.

        Without a host: to every one that a person would be asked for now.
        A connection that is still being opened has sent nothing on, and sends nothing any more.
        """
        tasks, count = set(), 0
        for connection, task in self._connections.values():
            wants = connection.wants(host, port) if host else self._is_to_be_asked(*connection.place)
            if task is not None and wants:
                count += connection.is_open
                connection.revoke()
                task.cancel()
                tasks.add(task)
        await asyncio.gather(*tasks, return_exceptions=True)
        return count

    async def ended(self) -> None:
        """Wait until all that was cut has ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def rule_for(self, connection: Connection, target: Target) -> HostRule:
        """Return the rule by which a target may be reached; a person may be asked for one. Raises RefusedError."""
        rule = first_match(self._rules, target.host, target.port)
        is_agreed = self._is_agreed(target.host, target.port)
        if rule is not None and is_agreed:
            return rule
        if rule is None and address_of(target.host):
            raise RefusedError(
                Why.BARE_ADDRESS, f"no rule names the address {target}: ask for the host by its name"
            )
        if rule is None and not self._asks:
            raise RefusedError(Why.NOT_LISTED, f"{target} is not among the hosts of {self.name}")
        if not (is_agreed and self._asks_all):
            decided = await self._ask(connection, target)
            if not decided.allow:
                raise RefusedError(Why(decided.why or Why.DENIED), decided.words or f"{target} was denied")
        return rule or HostRule(target.host, port=target.port)

    def _is_to_be_asked(self, host: str, port: int) -> bool:
        """Tell if a connection has found its rule without a question that is due by now."""
        return bool(host) and not self._is_agreed(host, port)

    def _is_agreed(self, host: str, port: int) -> bool:
        """Tell if nobody has to be asked for a host that the rules name."""
        return not self._asks_all or first_match(self._agreed, host, port) is not None

    async def connect(self, target: Target, rule: HostRule, *, tls: bool) -> tuple[str, Streams]:
        """Reach a target by its rule. Raises RefusedError."""
        return await self._ways.connect(target, rule, tls=tls)

    async def look_up(self, target: Target, rule: HostRule) -> Sequence[str]:
        """Return the addresses of a target, by its rule. Raises RefusedError."""
        return await self._ways.look_up(target, rule)

    def decide(self, decided: Decide) -> bool:
        """Let a connection that waits for a person go on, or not; False if it is none of this door's."""
        question = self._questions.get(decided.connection)
        if question is not None and not question.done():
            question.set_result(decided)
        return question is not None

    async def _ask(self, connection: Connection, target: Target) -> Decide:
        """Wait for a person's answer, or until the client hangs up."""
        question: asyncio.Future[Decide] = asyncio.get_running_loop().create_future()
        self._questions[connection.number] = question
        connection.report(EventKind.ASKED)
        try:
            while not question.done():
                await asyncio.wait({question}, timeout=_HUNG_UP_SECONDS)
                if connection.has_hung_up and not question.done():
                    connection.report(EventKind.WITHDRAWN)
                    raise RefusedError(Why.HUNG_UP, f"the client hung up while {target} was asked for")
            return question.result()
        finally:
            del self._questions[connection.number]

    def _start(self, accepted: socket.socket) -> None:
        task = asyncio.create_task(self._serve(accepted), name=f"connection of {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            words = f"a fault of the way out: {type(error).__name__}: {error}"
            self.report(Event(EventKind.REFUSED, why=Why.CUT, words=words[:200]))

    async def _serve(self, accepted: socket.socket) -> None:
        number = next(_numbers)
        with contextlib.suppress(OSError):
            connection = Connection(self, number, await streams_of(accepted))
            self._connections[number] = connection, asyncio.current_task()
            try:
                await connection.serve()
            finally:
                del self._connections[number]
