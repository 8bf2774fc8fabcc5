"""Carry out one exchange of HTTP/1.1 by the way out, and keep each of its appetites within a limit.

| limit | for |
|---|---|
| `seconds` | the whole request with its redirects: a byte a second keeps nobody |
| `wire_bytes` | all that is received |
| `inflated_bytes`, `ratio` | the body, once inflated |
| `head_bytes` | the fields of one answer |
| `redirects` | followed by hand, each judged like a first address |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httptools

from runners.tools import way_out
from runners.tools.inflation import CODINGS, Inflater
from runners.tools.signature import CONTEXT, ToolError
from runners.tools.way_out import Clock, NotReachedError, Wire
from runners.tools.web_address import WebAddress, read_redirect

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_WITHOUT_BODY: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Limits:
    """Sets how much one request may take."""

    seconds: float = 30.0
    wire_bytes: int = 5 << 20
    inflated_bytes: int = 20 << 20
    ratio: int = 100
    head_bytes: int = 128 << 10
    redirects: int = 5


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class WebRequest:
    """Holds one request. `fields` are the caller's; those of the connection are written here."""

    address: WebAddress
    method: str = "GET"
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def head(self) -> bytes:
        """Return the head as the way out, or the server in a tunnel, takes it."""
        address = self.address
        target = address.target if address.over_tls else f"http://{address.authority}{address.target}"
        own = {"host": address.host_field, "accept-encoding": ", ".join(CODINGS), "user-agent": "epad"}
        if self.body is not None:
            own["content-length"] = str(len(self.body))
        fields = {"accept": "*/*", **self.fields, **own, "connection": "close"}
        lines = [f"{self.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace")


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """Holds an answer: names of fields are lower case, and `body` is inflated."""

    address: WebAddress
    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def get(self, name: str) -> str:
        """Return the last field of a name; empty without one."""
        return next((value for known, value in reversed(self.fields) if known == name), "")


def ask(request: WebRequest, clock: Clock, limits: Limits = LIMITS) -> WebAnswer:
    """Send a request, and read its answer. A redirect is an answer like another. Raises ToolError."""
    with way_out.connected(request.address, clock) as wire:
        wire.send(request.head() + (request.body or b""))
        answer = _Reading(request, limits).read(wire)
    if not request.address.over_tls and answer.status >= 400:
        refused = way_out.refusal(answer.body)
        if refused is not None:
            raise refused
    return answer


def fetch(address: WebAddress, fields: Mapping[str, str], limits: Limits = LIMITS) -> WebAnswer:
    """Get an address, and follow its redirects. Raises ToolError.

    `fields` are sent to each host on the way, so they hold no credential; and no cookie is kept.
    """
    clock = Clock(limits.seconds)
    for _ in range(limits.redirects + 1):
        answer = ask(WebRequest(address, fields=fields), clock, limits)
        location = answer.get("location")
        if answer.status not in _REDIRECTS or not location:
            return answer
        address = _led(address, read_redirect(address, location))
    raise ToolError(
        f"{address.host_field} redirects more than {limits.redirects} times", "ask for the last address"
    )


def _led(address: WebAddress, to: WebAddress) -> WebAddress:
    """Return where a redirect leads. Raises ToolError where the call must stay with its host."""
    if CONTEXT.get().stays and to.host_field != address.host_field:
        raise ToolError(
            f"{address.host_field} leads to {to.host_field}, and a person has consented to the first alone",
            "ask for that address by itself: a person is asked about it",
        )
    return to


class _Reading:
    """Reads one answer; the parser's callbacks."""

    def __init__(self, request: WebRequest, limits: Limits) -> None:
        self._request, self._limits = request, limits
        self._parser: Any = httptools.HttpResponseParser(self)
        self._fields: list[tuple[str, str]] = []
        self._pieces: list[bytes] = []
        self._has_head = self._is_whole = False
        self._status = 0

    # The names are the parser's.
    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip()))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._has_head = self._status >= 200
        if not self._has_head:
            self._fields.clear()

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self._is_whole = self._has_head

    def read(self, wire: Wire) -> WebAnswer:
        """Read until the answer is whole. Raises ToolError."""
        received, body = 0, bytearray()
        inflater: Inflater | None = None
        while not self._is_whole and not (self._has_head and self._is_without_body()):
            data = wire.receive()
            if not data:
                self._end()
                break
            received += len(data)
            self._parse(data)
            self._check(received)
            if self._has_head and inflater is None:
                inflater = Inflater(
                    self._get("content-encoding"), self._limits.inflated_bytes, self._limits.ratio
                )
            for piece in self._taken():
                body += inflater.feed(piece) if inflater is not None else b""
        return WebAnswer(self._request.address, self._status, tuple(self._fields), bytes(body))

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise ToolError("the server begins another protocol, which was not asked for", "") from None
        except httptools.HttpParserError as error:
            if not self._is_whole:  # bytes behind the end are nobody's
                raise NotReachedError(f"the answer is none of HTTP/1.1: {error}", "") from None

    def _check(self, received: int) -> None:
        """Raise ToolError where the answer is too large, as soon as that is known."""
        limits = self._limits
        if not self._has_head and received > limits.head_bytes:
            raise ToolError(f"the answer's fields have over {limits.head_bytes} bytes", "")
        length = self._get("content-length")
        told = int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else 0
        if received > limits.wire_bytes or (told > limits.wire_bytes and not self._is_without_body()):
            raise ToolError(f"the answer has over {limits.wire_bytes} bytes", "ask for a part of it")

    def _end(self) -> None:
        """Take the end of the connection for that of the body where nothing else tells it. Raises ToolError."""
        if not self._has_head or self._get("content-length") or self._get("transfer-encoding"):
            raise NotReachedError("the server ended before its answer was whole", "try again later")

    def _is_without_body(self) -> bool:
        return self._request.method == "HEAD" or self._status in _WITHOUT_BODY

    def _get(self, name: str) -> str:
        return next((value for known, value in self._fields if known == name), "")

    def _taken(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces
