"""The control API: HTTP and JSON on a Unix socket, every request through the one gate."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from aiohttp import web

from epad.api import unix
from epad.api.errors import MAX_BODY_BYTES, ApiError, translate
from epad.api.follow import Followers
from epad.api.routes import ROUTES, Call, handler_of
from epad.gate.permissions import allow, tier_of_peer
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


class ControlApi:
    """Listens on the control socket from `start` to `stop`.

    `peer_of` says who is at the other end of a connection, `own_uid` who we are.
    """

    def __init__(
        self,
        operations: Operations,
        path: Path,
        operator_group: str = "",
        *,
        peer_of: PeerReader = unix.peer_of,
        own_uid: int | None = None,
    ) -> None:
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

    async def start(self) -> None:
        """Open the socket. Raises ControlSocketError."""
        self._operator_gid = unix.group_id(self._operator_group)
        server = unix.bind(self._path)
        self._inode = self._path.stat().st_ino
        directory = self._path.parent
        if self._operator_gid is not None and not directory.stat().st_mode & 0o011:
            self._log.warning("control.directory_closed", path=str(directory), fix="chmod g+x,o+x it")
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._errors_as_json])
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
            peer = self._peer(request)
            tier = tier_of_peer(peer.uid, peer.gids, self._own_uid, self._operator_gid)
            decision = allow(tier, operation)
            await self._operations.audit(operation, tier, allowed=decision.allowed, peer=peer)
            if not decision.allowed:
                fix = "run it as root, or be a member of control.operator_group"
                raise ApiError(403, "refused", f"{peer}: {decision.reason}", fix)
            answer = await answer_to(Call(request, operation, self._operations, self._followers, str(peer)))
            return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

        return handle

    def _peer(self, request: web.Request) -> Peer:
        connection = request.get_extra_info("socket")
        if connection is None:
            raise ApiError(400, "gone", "the caller has hung up", "ask again")
        return self._peer_of(connection)

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
