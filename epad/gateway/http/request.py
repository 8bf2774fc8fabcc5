"""A request as it comes, and who answers it."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from enum import Enum
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote

import httptools

from epad.gateway.http.message import Field, Fields, Response, request_head

# Pieces of 64 KiB come from a heap that keeps what is between two others; a block goes back to the system at once.
_BLOCK_BYTES = 1 << 20
_SLASHES = re.compile("//+")


class Fault(Enum):
    """Names the faults of a request before there is one."""

    TOO_LARGE = "its body is too large"
    TOO_SLOW = "its body did not arrive in time"
    MALFORMED = "it is not HTTP"


Answering = Callable[[], Coroutine[None, None, Response | None]]
"""What answers a request once it is whole; None says that it has written the answer itself."""


class Allowance(Protocol):
    """Limits the bytes of a request's body, and counts the present ones."""

    def take(self, request: Request, size: int) -> Response | None:
        """Count so many more bytes; refuse if those are too many, after which nothing of the body is kept."""
        ...

    def whole(self) -> None:
        """Take the end of the body."""
        ...

    def give_back(self) -> None:
        """The request is answered, or its connection gone: nothing is taken up any more."""
        ...


class _Uncounted:
    """For requests whose bodies nobody counts."""

    def take(self, request: Request, size: int) -> Response | None: ...

    def whole(self) -> None: ...

    def give_back(self) -> None: ...


UNCOUNTED = _Uncounted()


class Handler(Protocol):
    """Answers requests."""

    def receive(self, request: Request) -> Response | Answering:
        """Decide on a request by its head alone: refuse it, or return its handler."""
        ...

    def fault(self, request: Request | None, fault: Fault) -> Response:
        """Answer a faulty request; None if not even its head could be read."""
        ...


class Channel(Protocol):
    """The connection that a request came by: who is at its other end, and how the answer is written to it.

    All of the writing raises ConnectionResetError if the client is gone.
    """

    @property
    def owner(self) -> str:
        """Return the subsystem whose own socket it came in by; empty where others come in by it too."""
        ...

    @property
    def local_address(self) -> str:
        """Return our socket that it came in by: HOST:PORT, or unix:PATH; empty once it is gone."""
        ...

    @property
    def peer_uid(self) -> int | None:
        """Return the uid at the other end of a Unix socket, as the kernel vouches for it; None on TCP."""
        ...

    @property
    def stalled(self) -> bool:
        """Tell if the client reads more slowly than it is written to."""
        ...

    def respond(self, response: Response) -> None:
        """Write a whole answer, in one piece."""
        ...

    def start(self, status: int, reason: bytes, fields: list[Field]) -> None:
        """Begin an answer that comes in pieces."""
        ...

    def flush(self) -> None:
        """Write the head alone."""
        ...

    def write(self, data: bytes) -> None:
        """Write a piece."""
        ...

    def end(self, data: bytes = b"") -> None:
        """Write the last piece."""
        ...

    async def drain(self) -> None:
        """Wait until the client has read most of the written bytes."""
        ...

    def rest(self) -> None:
        """Hear nothing more of it for a while."""
        ...

    def abort(self) -> None:
        """Break it off."""
        ...


class Request:
    """A request; its body is whole by the time that it is answered."""

    __slots__ = (
        "_blocks", "_loose_bytes", "_parts", "allowance", "answering", "complete", "connection", "declared", "fields",
        "http11", "keep_alive", "method", "path", "query", "refused", "size",
    )  # fmt: skip

    def __init__(self, connection: Channel, method: bytes, target: bytes, fields: list[Field]) -> None:
        self.connection = connection
        self.method = method.decode()
        if target[:1] not in {b"/", b"*"}:
            target = _origin_form(target)
        path, _, self.query = target.partition(b"?")
        self.path = _path_of(path)
        self.fields = Fields(fields)
        # How long its body is, as far as its head says.
        self.declared = int(self.fields.get("content-length") or 0)
        self.keep_alive = self.http11 = True
        self.complete = self.refused = False
        self.size = 0
        self.answering: Answering | None = None
        self.allowance: Allowance = UNCOUNTED
        self._parts: list[bytes] = []
        self._blocks = self._loose_bytes = 0

    @property
    def body(self) -> bytes:
        """Return all of it."""
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    @property
    def is_small(self) -> bool:
        """Tell if its body is put together in no time."""
        return self.size <= _BLOCK_BYTES

    def head_without_offer(self) -> bytes:
        """A head of the same framing for another parser to go on after, where this one offered another protocol.

        httptools ends such a request at its head (httptools#124), and the HttpClient of every JDK offers h2c.
        """
        fields = [each for each in self.fields.raw if each[0].lower() != b"upgrade"]
        return request_head(b"POST", b"/", fields)

    def take(self, data: bytes) -> None:
        """A piece of the body has come; of one that is refused nothing is kept."""
        self.size += len(data)
        if self.refused:
            return
        self._parts.append(data)
        self._loose_bytes += len(data)
        if self._loose_bytes >= _BLOCK_BYTES:
            loose = self._parts[self._blocks :]
            self._parts[self._blocks :] = [b"".join(loose)]
            self._blocks, self._loose_bytes = self._blocks + 1, 0

    def let_go(self) -> None:
        """Keep nothing of the body any more, nor who was to answer it, who refers to this."""
        self._parts, self._blocks, self._loose_bytes = [], 0, 0
        self.answering = None
        self.allowance.give_back()


@lru_cache(64)
def _path_of(path: bytes) -> str:
    """Return a path in one spelling; few are asked for, again and again."""
    text = path.decode("utf-8", "surrogateescape")
    return _one_spelling(unquote(text) if "%" in text else text)


def _one_spelling(path: str) -> str:
    """The path without doubled slashes and one at its end: base URLs that end in one make them, and servers take both.

    Nothing else is resolved: to a route, `..` and `;` are names like any other, which it does not have.
    """
    if "//" in path:
        path = _SLASHES.sub("/", path)
    return path.rstrip("/") or "/" if path.endswith("/") else path


def _origin_form(target: bytes) -> bytes:
    """Return the path and query of a target that names its host as well, as clients of proxies send it."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return b"*"
    path: bytes = url.path or b"/"
    return path + b"?" + url.query if url.query else path
