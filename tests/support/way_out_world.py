"""A way out with its real process, and all that it works with: policies, questions, a record that is kept."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fake_internet import Client, Received, hang_up
from patience import until
from tls_hello import real_hello

from epad.confinement.egress_record import EgressRecord
from epad.confinement.guard import NO_GUARD, Guard
from epad.confinement.host_questions import HostQuestions, HostSubject
from epad.confinement.policy import Policy
from epad.confinement.way_out import WayOut
from epad.confinement.way_out_context import WayOutContext
from epad.metrics.registry import Metrics
from epad.runtime.clock import SystemClock
from epad.storage.event_log import EventKind, EventLog
from probes.egress import EgressDirect, EgressOpened, EgressRefused, EgressSent
from runners.egress.rules import parse


class KeptEvents(EventLog):
    """Keeps the events of the log, and writes none."""

    def __init__(self) -> None:
        self.kept: list[tuple[EventKind, str, dict[str, Any]]] = []

    def emit(self, kind: EventKind, subsystem: str = "", **fields: Any) -> None:
        self.kept.append((kind, subsystem, fields))

    def of(self, kind: EventKind) -> list[dict[str, Any]]:
        return [fields for one, _, fields in self.kept if one is kind]

    async def one(self, kind: EventKind, count: int = 1) -> dict[str, Any]:
        """Wait for so many of a kind, and return the last."""
        await until(lambda: len(self.of(kind)) >= count, f"{count} of {kind}")
        return self.of(kind)[count - 1]


@dataclass
class KeptObserver:
    """Keeps what the probe hears."""

    heard: list[EgressRefused | EgressDirect | EgressOpened | EgressSent] = field(default_factory=list)

    def refused(self, event: EgressRefused) -> None:
        self.heard.append(event)

    def direct(self, event: EgressDirect) -> None:
        self.heard.append(event)

    def opened(self, event: EgressOpened) -> None:
        self.heard.append(event)

    def sent(self, event: EgressSent) -> None:
        self.heard.append(event)


class NewHosts:
    """Knows a host once it was reached."""

    def __init__(self) -> None:
        self._known: set[HostSubject] = set()

    def is_first(self, subject: HostSubject) -> bool:
        known = subject in self._known
        self._known.add(subject)
        return not known


class WayOutWorld:
    """A way out, a server that it may lead to, and doors on loopback."""

    def __init__(self) -> None:
        self.events, self.observer, self.metrics = KeptEvents(), KeptObserver(), Metrics()
        self.clock = SystemClock()
        self.approvals = HostQuestions(self.clock)
        self.policies: dict[str, Policy] = {}
        self.guards: dict[str, Guard | None] = {}
        self.reached: list[str] = []
        self.decoy = "a-key-that-opens-nothing-at-all"
        self.server = Received()
        self.server_port = 0
        read = lambda subject: self.reached.append(f"{subject.subsystem} {subject.host}")  # noqa: E731
        record = EgressRecord(self.events, self.metrics, self.observer, NewHosts(), self.clock, read)
        context = WayOutContext(
            self.policies.__getitem__,
            self.approvals,
            record,
            self.events,
            self.metrics,
            self._program,
            decoys=lambda: (self.decoy,),
            guards=lambda door: self.guards.get(door, NO_GUARD),
        )
        self.way_out = WayOut(context)
        self.ports: dict[str, int] = {}
        self.clients: list[Client] = []

    async def _program(self, subsystem: str, port: int) -> str:
        return f"{subsystem}.py"

    def policy(self, name: str, *hosts: str, ask: bool = False) -> None:
        """Give a subsystem its hosts; `HERE` in one is the server's port."""
        rules = tuple(parse(host.replace("HERE", str(self.server_port))) for host in hosts)
        self.policies[name] = Policy(name, "workspace", "/w", "/w", (), hosts=rules, ask=ask)

    async def open(self, name: str, *hosts: str, ask: bool = False) -> None:
        """Open a subsystem's door with these hosts."""
        self.policy(name, *hosts, ask=ask)
        listener = socket.create_server(("127.0.0.1", self.ports.get(name, 0)))
        self.ports[name] = int(listener.getsockname()[1])
        await self.way_out.open(name, listener)

    async def client(self, name: str = "agent") -> Client:
        client = Client(await asyncio.open_connection("127.0.0.1", self.ports[name]))
        self.clients.append(client)
        return client

    async def tunnel(self, name: str = "agent", host: str = "a.example") -> Client:
        """Open a tunnel to the server, through which bytes have passed."""
        client = await self.client(name)
        answer = await client.connect(f"{host}:{self.server_port}")
        assert answer.status == 200, answer
        hello = real_hello(host)
        assert await client.send(hello) == hello
        return client

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def way_out_world() -> AsyncIterator[WayOutWorld]:
    """A world whose way out runs until the block ends."""
    world = WayOutWorld()
    server = await asyncio.start_server(world.server.echo, "127.0.0.1", 0)
    world.server_port = int(server.sockets[0].getsockname()[1])
    running = asyncio.create_task(world.way_out.run())
    try:
        yield world
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()
        await hang_up([*world.server.writers, *(client.writer for client in world.clients)])
