"""Answer the SPIFFE Workload API: who asks is what the daemon says of the process at the other end, and nothing else.

| a request | is answered |
|---|---|
| without `workload.spiffe.io: true` | INVALID_ARGUMENT |
| of a process that is no subsystem's, or of one that is held | PERMISSION_DENIED, with the reason |
| FetchX509SVID | with an SVID; with a new one at half of its life, and when the authorities change |
| FetchX509Bundles, FetchJWTBundles | with the bundle, and again when the authorities change |
| FetchJWTSVID, ValidateJWTSVID | once |
| whose stream's subsystem is held meanwhile | by the end of the stream, PERMISSION_DENIED |

Each part of a stream asks the daemon anew: a process that has ended gets nothing more, whoever has its connection now.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from runners.identity.authority import jwt_keys, x509_bundle
from runners.identity.domain import TrustDomain
from runners.identity.messages import JWT, X509, Issued, Known, Report, subsystem_id
from runners.identity.svid import InvalidError, Signer, validated
from runners.identity.workload_messages import MESSAGES, SERVICE

SECURITY_HEADER: Final = "workload.spiffe.io"
MOST_AUDIENCES: Final = 16
MOST_TEXT: Final = 1_024
"""An audience may have so many characters; they are put on record."""

Ask = Callable[[int, float], Awaitable[Known]]


@dataclass(frozen=True, slots=True)
class Caller:
    """The subsystem that asks, and the process of it that does."""

    name: str
    spiffe_id: str
    pid: int


class WorkloadApi:
    """The service of one trust domain. `ask` asks the daemon who is at the other end of a connection."""

    def __init__(self, domain: TrustDomain, ask: Ask, tell: Callable[[Report], None]) -> None:
        self._domain = domain
        self._ask = ask
        self._tell = tell
        self._streams: dict[str, set[asyncio.Event]] = {}

    def cut(self, name: str) -> None:
        """Have the streams of a subsystem ask anew who they are of: it may be held."""
        for event in self._streams.get(name, ()):
            event.set()

    async def fetch_x509_svid(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        await self._follow(stream, self._x509_svid, self._domain.x509_seconds / 2)

    async def fetch_x509_bundles(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()

        def bundles(_: Caller) -> Any:
            found = {self._trust_id: x509_bundle(self._domain.kept)}
            return MESSAGES["X509BundlesResponse"](bundles=found)

        await self._follow(stream, bundles, None)

    async def fetch_jwt_bundles(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()

        def bundles(_: Caller) -> Any:
            keys = json.dumps({"keys": jwt_keys(self._domain.kept)}).encode()
            return MESSAGES["JWTBundlesResponse"](bundles={self._trust_id: keys})

        await self._follow(stream, bundles, None)

    async def fetch_jwt_svid(self, stream: Stream[Any, Any]) -> None:
        asked = await stream.recv_message()
        caller = await self._caller(stream)
        audience = () if asked is None else tuple(asked.audience)
        if asked is None or not audience or "" in audience:
            raise GRPCError(Status.INVALID_ARGUMENT, "audience must be specified")
        if len(audience) > MOST_AUDIENCES or max(map(len, audience)) > MOST_TEXT:
            text = f"at most {MOST_AUDIENCES} audiences of {MOST_TEXT} characters"
            raise GRPCError(Status.INVALID_ARGUMENT, text)
        if asked.spiffe_id not in {"", caller.spiffe_id}:
            raise GRPCError(
                Status.PERMISSION_DENIED, f"{caller.name} is {caller.spiffe_id}, not {asked.spiffe_id}"
            )
        svid = self._signer.jwt(caller.spiffe_id, audience, time.time())
        self._issued(caller, JWT, audience, svid.until, svid.digest)
        one = MESSAGES["JWTSVID"](spiffe_id=svid.spiffe_id, svid=svid.token)
        await stream.send_message(MESSAGES["JWTSVIDResponse"](svids=[one]))

    async def validate_jwt_svid(self, stream: Stream[Any, Any]) -> None:
        asked = await stream.recv_message()
        await self._caller(stream)
        if asked is None or not asked.audience or not asked.svid:
            raise GRPCError(Status.INVALID_ARGUMENT, "audience and svid must be specified")
        try:
            spiffe_id, claims = validated(asked.svid, asked.audience, self._domain.kept)
        except InvalidError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        answer = MESSAGES["ValidateJWTSVIDResponse"](spiffe_id=spiffe_id)
        answer.claims.update(claims)
        await stream.send_message(answer)

    def _x509_svid(self, caller: Caller) -> Any:
        svid = self._signer.x509(caller.spiffe_id, time.time())
        self._issued(caller, X509, (), svid.until, svid.serial)
        one = MESSAGES["X509SVID"](
            spiffe_id=svid.spiffe_id,
            x509_svid=svid.certificate,
            x509_svid_key=svid.key,
            bundle=x509_bundle(self._domain.kept),
        )
        return MESSAGES["X509SVIDResponse"](svids=[one])

    async def _follow(
        self, stream: Stream[Any, Any], make: Callable[[Caller], Any], seconds: float | None
    ) -> None:
        """Send what `make` makes, again after so many seconds, and whenever the authorities change."""
        caller = await self._caller(stream)
        look = asyncio.Event()
        self._streams.setdefault(caller.name, set()).add(look)
        try:
            while True:
                changed = asyncio.ensure_future(self._domain.change(seconds))
                await stream.send_message(make(caller))
                await self._wait(stream, look, changed)
                caller = await self._caller(stream)
        finally:
            self._streams[caller.name].discard(look)

    async def _wait(
        self, stream: Stream[Any, Any], look: asyncio.Event, changed: asyncio.Future[None]
    ) -> None:
        """Wait for a change or the time; meanwhile, when told to, look if the subsystem still may."""
        try:
            while not changed.done():
                looking: asyncio.Future[bool] = asyncio.ensure_future(look.wait())
                try:
                    await asyncio.wait(_both(changed, looking), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    looking.cancel()
                if look.is_set():
                    look.clear()
                    await self._caller(stream)
        finally:
            changed.cancel()

    async def _caller(self, stream: Stream[Any, Any]) -> Caller:
        """Say who is at the other end. Raises GRPCError for nobody, and for one without the header."""
        if stream.metadata is None or stream.metadata.get(SECURITY_HEADER) != "true":
            raise GRPCError(Status.INVALID_ARGUMENT, "security header missing from request")
        transport: Any = stream.peer._transport  # noqa: SLF001 - grpclib shows the address alone
        connection, accepted_at = transport.get_extra_info("socket"), transport.get_protocol().accepted_at
        if connection is None or connection.fileno() < 0:
            raise GRPCError(Status.UNAVAILABLE, "the connection is gone")
        try:
            known = await self._ask(connection.fileno(), accepted_at)
        except (TimeoutError, OSError) as error:
            raise GRPCError(Status.UNAVAILABLE, "epad does not answer who this is") from error
        if not known.name:
            raise GRPCError(Status.PERMISSION_DENIED, f"no identity issued: {known.why}")
        return Caller(known.name, subsystem_id(self._domain.name, known.name), known.pid)

    def _issued(
        self, caller: Caller, kind: str, audience: tuple[str, ...], until: float, reference: str
    ) -> None:
        self._tell(Issued(caller.spiffe_id, caller.name, kind, audience, until, reference, caller.pid))

    @property
    def _signer(self) -> Signer:
        try:
            return self._domain.signer
        except RuntimeError as error:
            raise GRPCError(Status.UNAVAILABLE, str(error)) from error

    @property
    def _trust_id(self) -> str:
        return f"spiffe://{self._domain.name}"

    def __mapping__(self) -> dict[str, Handler]:
        """Return the methods, as grpclib asks for them."""
        once, on = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        methods = (
            ("FetchX509SVID", self.fetch_x509_svid, on, "X509SVID"),
            ("FetchX509Bundles", self.fetch_x509_bundles, on, "X509Bundles"),
            ("FetchJWTSVID", self.fetch_jwt_svid, once, "JWTSVID"),
            ("FetchJWTBundles", self.fetch_jwt_bundles, on, "JWTBundles"),
            ("ValidateJWTSVID", self.validate_jwt_svid, once, "ValidateJWTSVID"),
        )
        return {
            f"/{SERVICE}/{name}": Handler(deed, form, MESSAGES[f"{kind}Request"], MESSAGES[f"{kind}Response"])
            for name, deed, form, kind in methods
        }


def _both(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> set[asyncio.Future[Any]]:
    return {one, other}


class WorkloadServer(Server):
    """Accepts connections, and notes when."""

    def _protocol_factory(self) -> Any:
        protocol = super()._protocol_factory()
        vars(protocol)["accepted_at"] = time.clock_gettime(time.CLOCK_BOOTTIME)
        return protocol


async def serve(api: WorkloadApi, listening: socket.socket) -> WorkloadServer:
    """Serve clients at a listening socket."""
    server = WorkloadServer([api])
    await server.start(sock=listening)
    return server
