"""A request as it comes, and who answers it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

import httptools

from epad.gateway.http.message import Field, Fields, Response, request_head

if TYPE_CHECKING:
    from epad.gateway.http.connection import Connection


class Fault(Enum):
    """What may be wrong with a request before there is one."""

    TOO_LARGE = "its body is too large"
    TOO_SLOW = "its body did not arrive in time"
    MALFORMED = "it is not HTTP"


Answering = Callable[[], Coroutine[None, None, Response | None]]
"""What answers a request once it is whole; None says that it has written the answer itself."""


class Handler(Protocol):
    """Who answers."""

    def receive(self, request: Request) -> Response | Answering:
        """Decide on a request by its head alone: say no, or say what is to answer it."""
        ...

    def fault(self, request: Request | None, fault: Fault) -> Response:
        """Say what is wrong with a request; None where not even the head of it could be read."""
        ...


class Request:
    """A request; its body is whole by the time that it is answered."""

    __slots__ = (
        "_parts", "answering", "complete", "connection", "fields", "http11", "keep_alive", "method", "path", "query",
        "refused", "size",
    )  # fmt: skip

    def __init__(self, connection: Connection, method: bytes, target: bytes, fields: list[Field]) -> None:
        self.connection = connection
        self.method = method.decode()
        if target[:1] not in {b"/", b"*"}:
            target = _origin_form(target)
        path, _, query = target.partition(b"?")
        text = path.decode("utf-8", "surrogateescape")
        self.path = unquote(text) if "%" in text else text
        self.query = query
        self.fields = Fields(fields)
        self.keep_alive = self.http11 = True
        self.complete = self.refused = False
        self.size = 0
        self.answering: Answering | None = None
        self._parts: list[bytes] = []

    @property
    def body(self) -> bytes:
        """All of it."""
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def head_without_offer(self) -> bytes:
        """A head of the same framing for another parser to go on after, where this one offered another protocol.

        httptools ends such a request at its head (httptools#124), and the HttpClient of every JDK offers h2c.
        """
        fields = [each for each in self.fields.raw if each[0].lower() != b"upgrade"]
        return request_head(b"POST", b"/", fields)

    def take(self, data: bytes) -> None:
        """A piece of the body has come; of one that is refused nothing is kept."""
        self.size += len(data)
        if not self.refused:
            self._parts.append(data)


def _origin_form(target: bytes) -> bytes:
    """The path and query of a target that names its host as well, as clients of proxies send it."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return b"*"
    path: bytes = url.path or b"/"
    return path + b"?" + url.query if url.query else path
