"""The routes of the tool door on the gateway's listeners."""

from __future__ import annotations

from functools import partial

from structlog.typing import FilteringBoundLogger

from epad.gateway.http.message import Response
from epad.gateway.http.request import Answering, Request
from epad.gateway.refusal import Refusal, RefusalError, body_too_large
from epad.tools.protocol import Tools
from epad.tools.wire import plain, sse
from epad.tools.wire.listing import SEARCH_ABOVE, Listing
from epad.tools.wire.mcp import Mcp, refusal_of_head
from epad.tools.wire.messages import REFUSED, ProtocolError, failure
from epad.tools.wire.methods import Methods
from epad.tools.wire.plain import Plain
from epad.tools.wire.prompts import Prompts
from epad.tools.wire.resources import Resources
from epad.tools.wire.slow_answer import Pauses
from epad.tools.wire.sse import OldClients

MCP = "/mcp"
# A file's whole text may be an argument; a model writes no more than a part of this.
MOST_BYTES = 4 << 20
_OLD = {sse.STREAM: ("GET",), sse.POSTED: ("POST",)}
_METHODS = {
    MCP: ("POST", "DELETE"),
    plain.TOOLS: ("GET", "HEAD"),
    plain.CALL: ("POST",),
    plain.HEALTH: ("GET", "HEAD"),
}


class ToolDoor:
    """Answers at the paths of tools; implements `epad.gateway.side_routes.SideRoutes`."""

    def __init__(
        self,
        tools: Tools,
        log: FilteringBoundLogger,
        search_above: int = SEARCH_ABOVE,
        pauses: Pauses | None = None,
        *,
        resources: Resources | None = None,
        prompts: Prompts | None = None,
        old_clients: bool = False,
    ) -> None:
        methods = Methods(tools, Listing(tools, search_above), resources, prompts)
        pauses = pauses or Pauses()
        self._mcp = Mcp(tools, methods, log, pauses)
        self._old = OldClients(self._mcp, pauses)
        self._methods = {**_METHODS, **(_OLD if old_clients else {})}
        self._plain = Plain(tools)

    def serves(self, path: str) -> bool:
        """Tell if a path is one of its own."""
        return path in self._methods

    def greet(self, request: Request) -> Response | None:
        """Answer a look at the health without a key: that somebody is there, and nothing of the tools."""
        looks = request.path == plain.HEALTH and request.method in _METHODS[plain.HEALTH]
        return plain.GREETING if looks else None

    def receive(self, request: Request, subsystem: str) -> Response | Answering:
        """Refuse a request by its head, or return its handler. Raises RefusalError."""
        allowed = self._methods[request.path]
        if request.method not in allowed:
            return Response(405, b"", [(b"Allow", ", ".join(allowed).encode())])
        if request.declared > MOST_BYTES:
            raise RefusalError(body_too_large(MOST_BYTES))
        if request.path == MCP:
            if request.method == "DELETE":
                return self._mcp.end_session(request, subsystem)
            return refusal_of_head(request.fields) or self._bounded(
                request, partial(self._mcp.answer, request, subsystem)
            )
        answering: dict[str, Answering] = {
            plain.TOOLS: partial(self._plain.tools, subsystem),
            plain.CALL: partial(self._plain.call, request, subsystem),
            plain.HEALTH: partial(self._plain.health, subsystem),
            sse.STREAM: partial(self._old.stream, request, subsystem),
            sse.POSTED: partial(self._old.post, request, subsystem),
        }
        return self._bounded(request, answering[request.path])

    def error_body(self, path: str, refusal: Refusal) -> bytes:
        """Return the body of a refusal, in the words of this path's clients."""
        if path == MCP:
            data = {"code": refusal.code, "retriable": refusal.retriable}
            return failure(ProtocolError(REFUSED, refusal.message, data))
        return plain.error_body(refusal)

    def _bounded(self, request: Request, answering: Answering) -> Answering:
        """Refuse a body that turned out too large, since its head may not have said so."""

        async def answer() -> Response | None:
            if request.size > MOST_BYTES:
                raise RefusalError(body_too_large(MOST_BYTES))
            return await answering()

        return answer
