"""The identity child as the daemon runs it, with a registrar that says of each connection what a test wants."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import structlog
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from patience import PATIENCE_SECONDS, until

from epad.configuration.identity_schema import IdentityConfig
from epad.identity.attestation import Attested
from epad.identity.child import Attests, IdentityChild, IdentityContext
from epad.identity.record import IdentityRecord
from epad.metrics.registry import Metrics
from runners.identity.messages import Issued
from runners.identity.workload_messages import MESSAGES
from statemachine.clock import ManualClock

TRUST = "epad.test"
HEADER = {"workload.spiffe.io": "true"}


@dataclass
class Registrar:
    """Attests as it is told, and keeps the record."""

    attested: Attested = field(default_factory=lambda: Attested("agent", pid=7, uid=0))
    issued_ones: list[Issued] = field(default_factory=list)
    refused_ones: list[Attested] = field(default_factory=list)
    rotations: list[str] = field(default_factory=list)

    def attest(self, connection: socket.socket, accepted_at: float) -> Attested:
        return self.attested

    def issued(self, one: Issued) -> None:
        self.issued_ones.append(one)

    def refused(self, attested: Attested) -> None:
        self.refused_ones.append(attested)

    def rotated(self, why: str) -> None:
        self.rotations.append(why)


@dataclass
class IdentityWorld:
    """One child, its registrar, and calls to it."""

    directory: Path
    registrar: Registrar
    child: IdentityChild

    @property
    def path(self) -> Path:
        return self.directory / "api" / "workload.sock"

    @property
    def keys(self) -> Path:
        return self.directory / "identity.json"

    async def ready(self) -> None:
        await until(lambda: self.child.state == "ready", "the child to be ready")

    @asynccontextmanager
    async def call(
        self,
        method: str,
        kind: str,
        request: dict[str, Any] | None = None,
        *,
        streams: bool = False,
        header: dict[str, str] | None = None,
    ) -> AsyncIterator[Callable[[], Any]]:
        """Make a call; what is yielded returns its next answer."""
        channel = Channel(path=str(self.path))
        form: Callable[..., Any] = UnaryStreamMethod if streams else UnaryUnaryMethod
        asked, answered = MESSAGES[f"{kind}Request"], MESSAGES[f"{kind}Response"]
        method_of = form(channel, f"/SpiffeWorkloadAPI/{method}", asked, answered)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                async with method_of.open(metadata=HEADER if header is None else header) as stream:
                    await stream.send_message(asked(**(request or {})), end=True)

                    async def receive() -> Any:
                        message = await stream.recv_message()
                        if message is None:
                            await stream.recv_trailing_metadata()
                        return message

                    yield receive
                    if streams:
                        with suppress(Exception):
                            await stream.cancel()
        finally:
            channel.close()

    async def once(self, method: str, kind: str, request: dict[str, Any] | None = None, **how: Any) -> Any:
        """Return the first answer of a call. Raises GRPCError."""
        async with self.call(method, kind, request, **how) as receive:
            return await receive()


@asynccontextmanager
async def identity_world(
    directory: Path,
    agent: Path | None = None,
    keys: str = "identity.json",
    attestor: Attests | None = None,
    **settings: Any,
) -> AsyncIterator[IdentityWorld]:
    """A child that serves in a directory, or that is a client of the agent at a path."""
    registrar = Registrar()
    socket_of_agent = f"unix://{agent}" if agent else ""
    context = IdentityContext(
        config=IdentityConfig(True, TRUST, socket_of_agent),
        keys=directory / keys,
        path=directory / "api" / "workload.sock",
        attestor=attestor or registrar,
        record=cast("IdentityRecord", registrar),
        metrics=Metrics(),
        clock=ManualClock(),
        log=structlog.get_logger(),
        **settings,
    )
    child = IdentityChild(context)
    child.open()
    running = asyncio.ensure_future(child.run())
    try:
        world = IdentityWorld(directory, registrar, child)
        await until(child._ready.is_set, "the child to serve")
        yield world
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def in_python(code: str, *arguments: str) -> str:
    """Run a program of a process of its own; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode()
