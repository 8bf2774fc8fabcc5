"""Foreign servers without a daemon and without cells: children of the test, their pins, and a record that is kept."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from patience import PATIENCE_SECONDS, until

from epad.configuration.servers_schema import ServerConfig
from epad.foreign.child import Child
from epad.foreign.links import ChildLink
from epad.foreign.pins import PinStore
from epad.foreign.server import ForeignServer, ServerContext, State
from epad.foreign.servers import ForeignServers
from epad.gate.tiers import Tier
from epad.storage.event_log import EventKind
from epad.tools.catalogue import Catalogue
from epad.tools.own import OwnCall
from epad.tools.sessions import Session

PROGRAM = Path(__file__).with_name("foreign_server.py")
ANY: dict[str, Any] = {"type": "object", "properties": {}}


def tool(name: str, description: str = "Do it.", **more: Any) -> dict[str, Any]:
    """A tool as a server lists it."""
    return {"name": name, "description": description, "inputSchema": ANY, **more}


@dataclass
class KeptRecords:
    """Keeps what the ledger would have."""

    kept: list[tuple[str, ...]] = field(default_factory=list)
    fails: BaseException | None = None

    async def pinned(self, server: str, before: str, after: str, why: str, write: Callable[[], None]) -> None:
        if self.fails is not None:
            raise self.fails
        self.kept.append(("pinned", server, before, after, why))
        write()

    async def drifted(self, server: str, before: str, after: str, what: str) -> None:
        self.kept.append(("drifted", server, before, after, what))


@dataclass
class World:
    """The servers of a configuration that a test changes."""

    place: Path
    servers: ForeignServers
    configured: dict[str, ServerConfig]
    records: KeptRecords
    events: list[tuple[EventKind, str, dict[str, Any]]]
    children: list[subprocess.Popen[bytes]]
    served: list[Catalogue] = field(default_factory=list)
    taint: Session = field(default_factory=lambda: Session("s", "agent", Tier.OPERATOR))

    def plan(self, server: str, tools: list[dict[str, Any]], /, **more: Any) -> None:
        """Say what a server does from its next start on."""
        (self.place / f"{server}.json").write_text(json.dumps({"tools": tools, **more}))

    def declare(self, name: str, tools: list[dict[str, Any]], /, **more: Any) -> None:
        """Configure a server, to be started by `start`."""
        self.plan(name, tools, **more)
        self.configured[name] = ServerConfig(command=("x",), start_seconds=PATIENCE_SECONDS)

    async def start(self) -> None:
        """Start what is configured, and wait until each is known."""
        self.servers.serve(lambda: self.served.append(self.catalogue))
        for name in self.configured:
            await self.settled(name)

    def server(self, name: str) -> ForeignServer:
        return self.servers._kept[name].server

    @property
    def catalogue(self) -> Catalogue:
        return self.servers.beside(Catalogue())

    async def settled(self, name: str) -> State:
        """Wait until a server is up, held or down."""
        await until(lambda: self.server(name).facts.state is not State.STARTING, f"{name} to settle")
        return self.server(name).facts.state

    async def in_state(self, name: str, state: State) -> None:
        await until(lambda: self.server(name).facts.state is state, f"{name} to be {state}")

    async def restart(self, name: str) -> None:
        """Kill a server, and wait until it has been started anew and is known."""
        pid = self.server(name).facts.pid
        assert pid is not None
        os.kill(pid, 9)
        await until(
            lambda: (
                self.server(name).facts.pid not in {pid, None}
                and self.server(name).facts.state in {State.UP, State.HELD}
            ),
            f"{name} to come back",
        )

    async def call(self, name: str, /, **arguments: object) -> Any:
        """Call a tool by the name that it is listed by."""
        return await self.servers.tools[name](OwnCall(self.taint, "turn", arguments))

    def under_way(self, name: str) -> int:
        """How many requests wait for the answers of a server."""
        link = self.server(name)._link
        return link.child.peer.under_way if isinstance(link, ChildLink) else 0

    def told(self, kind: EventKind) -> list[dict[str, Any]]:
        return [fields for one, _, fields in self.events if one is kind]


@asynccontextmanager
async def foreign_world(
    place: Path, *, is_pinning: bool = True, fresh: float = 5.0, ping: float = 5.0
) -> AsyncIterator[World]:
    """A world without servers; `declare` makes some. With `is_pinning` off, it is the control of pinning."""
    configured: dict[str, ServerConfig] = {}
    records, events = KeptRecords(), list[tuple[EventKind, str, dict[str, Any]]]()
    children: list[subprocess.Popen[bytes]] = []

    async def connect(name: str, changed: Callable[[], None]) -> ChildLink:
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROGRAM), str(place / f"{name}.json")],
            stdin=theirs_in,
            stdout=theirs_out,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        process.returncode = 0  # `Child` reaps it
        children.append(process)

        def over(why: str) -> None:
            if not ended.done():
                ended.set_result(why)

        child = await Child.hold(process.pid, (ours_in, ours_out), changed, over)
        return ChildLink(child.peer, ended, process.pid, {}, child)

    def emit(kind: EventKind, subject: str = "", **fields: Any) -> None:
        events.append((kind, subject, fields))

    def make(name: str) -> ForeignServer:
        return ForeignServer(
            name,
            ServerContext(
                config=lambda: configured[name],
                connect=connect,
                pins=PinStore(place / "pins"),
                records=records,
                emit=emit,
                changed=servers.pins_changed,
                others=lambda: servers.names_of_others(name),
                log=structlog.get_logger(),
                is_pinning=is_pinning,
                wait_seconds=PATIENCE_SECONDS,
                fresh_seconds=fresh,
                ping_seconds=ping,
            ),
        )

    servers = ForeignServers(configured=lambda: configured, make=make)
    world = World(place, servers, configured, records, events, children)
    try:
        yield world
    finally:
        await servers.close()
