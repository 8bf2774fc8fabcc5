"""The control API: HTTP and JSON on a Unix socket, every request through the one gate."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import structlog
from aiohttp import web

from epad.api import unix
from epad.api.errors import MAX_DOCUMENT_BYTES, ApiError, translate
from epad.api.follow import Followers
from epad.api.routes import ROUTES, Call, handler_of
from epad.gate.permissions import Tier, allow
from epad.gate.persons import Caller, Person, caller_by_uid
from epad.listeners.aiohttp_site import Site
from epad.operations.protocol import Operations, Peer
from epad.operations.registry import Operation
from epad.runtime.descriptors import share

# How long requests under way may take to end when the daemon stops.
STOP_SECONDS = 2.0
# Programs that follow the events hold one each.
_MAX_CONNECTIONS = 256
_PART = 0.1

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PeerReader = Callable[[unix.HasSocketOptions], Peer]


def _connection_of(request: web.Request) -> unix.HasSocketOptions:
    connection: unix.HasSocketOptions | None = request.get_extra_info("socket")
    if connection is None:
        raise ApiError(400, "gone", "the caller has hung up", "ask again")
    return connection


class ControlApi:
    """Listens on the control socket from `start` to `stop`.

    `peer_of` says who is at the other end of a connection, `own_uid` who we are, `persons` whom the configuration
    names, and `owner_of` whose process a pid is: a supervised subsystem's is refused, whatever its uid.
    """

    def __init__(
        self,
        operations: Operations,
        path: Path,
        operator_group: str = "",
        *,
        peer_of: PeerReader = unix.peer_of,
        own_uid: int | None = None,
        persons: Callable[[], Collection[Person]] = tuple,
        owner_of: Callable[[int], str | None] = lambda _: None,
    ) -> None:
        self._persons = persons
        self._owner_of = owner_of
        self._operations = operations
        self._path = path
        self._operator_group = operator_group
        self._operator_gid: int | None = None
        self._peer_of = peer_of
        self._own_uid = os.getuid() if own_uid is None else own_uid
        self._followers = Followers(operations)
        self._log = structlog.get_logger("epad.control")
        self._site: Site | None = None
        self._inode = 0
        self._names: dict[int, str] = {}

    async def start(self) -> None:
        """Open the socket. Raises ControlSocketError."""
        self._operator_gid = unix.group_id(self._operator_group)
        server = unix.bind(self._path)
        self._inode = self._path.stat().st_ino
        directory = self._path.parent
        if self._operator_gid is not None and not directory.stat().st_mode & 0o011:
            self._log.warning("control.directory_closed", path=str(directory), fix="chmod g+x,o+x it")
        app = web.Application(client_max_size=MAX_DOCUMENT_BYTES, middlewares=[self._errors_as_json])
        for operation in ROUTES:
            app.router.add_route(operation.method, operation.path, self._gated(operation))
        self._site = Site(app, "control", share(_PART, _MAX_CONNECTIONS), STOP_SECONDS)
        await self._site.listen_on(server)

    async def stop(self) -> None:
        """Remove the socket, end the streams, and finish the requests in progress."""
        site, self._site = self._site, None
        if site is None:
            return
        # Only our own socket: by now another daemon may have put its socket in its place.
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        self._followers.stop()
        await site.stop()

    def _gated(self, operation: Operation) -> Handler:
        """Return the handler of an operation, behind the gate."""
        answer_to = handler_of(operation)

        async def handle(request: web.Request) -> web.StreamResponse:
            connection = _connection_of(request)
            peer = self._peer_of(connection)
            caller = await self._caller(connection, peer)
            decision = allow(caller.tier, operation)
            await self._operations.audit(
                operation, caller.tier, allowed=decision.allowed, peer=peer, by=caller.name
            )
            if not decision.allowed:
                raise ApiError(403, "refused", f"{caller.described}: {decision.reason}", caller.way_in)
            answer = await answer_to(Call(request, operation, self._operations, self._followers, caller.name))
            return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

        return handle

    async def _caller(self, connection: unix.HasSocketOptions, peer: Peer) -> Caller:
        """Return who asks, as the kernel says of the other end of the connection."""
        if (stranger := self._stranger(connection, peer)) is not None:
            return stranger
        if peer.uid not in self._names:  # a directory of users may be slow to answer
            self._names[peer.uid] = await asyncio.to_thread(unix.user_name, peer.uid)
        name = self._names[peer.uid]
        return caller_by_uid(self._persons(), peer.uid, peer.gids, self._own_uid, self._operator_gid, name)

    def _stranger(self, connection: unix.HasSocketOptions, peer: Peer) -> Caller | None:
        """Return the caller if it is no person, whatever its uid: an agent, or a process that cannot be looked at."""
        subsystem = self._owner_of(peer.pid)
        if subsystem is not None:
            told = f"{subsystem}, whose process {peer.pid} is a supervised subsystem's and no person's,"
            return Caller(subsystem, Tier.STRANGER, told, "ask from a shell that epad did not start")
        if unix.has_ended(connection):
            told = f"process {peer.pid} (uid {peer.uid}), which connected and has ended,"
            return Caller(f"uid {peer.uid}", Tier.STRANGER, told, "stay until the answer has come")
        return None

    @web.middleware
    async def _errors_as_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ConnectionError:
            raise  # the caller has gone: there is no one to answer
        except Exception as error:
            answer = translate(error, request)
            if answer.status == 500:
                self._log.exception("control.failed", method=request.method, path=request.path)
            return answer.response()
