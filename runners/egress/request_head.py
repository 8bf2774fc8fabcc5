"""Read the head of a request to a proxy (RFC 9112), and write the one that goes on to the server.

A head that two readers may understand differently is refused: a field that stands twice or is folded, a space before
a colon, two lengths, a bare line feed, a user before an `@`. The head that goes on is written anew from the parsed one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from runners.egress.refusal import RefusedError, Why
from runners.egress.rules import HTTPS_PORT, RuleError, host_name, port_number

HTTP_PORT: Final = 80
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) (HTTP/1\.[01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
_SCHEME: Final = "http://"
# Of this connection only (RFC 9110, 7.6.1), or of the proxy: they do not go on. No protocol is changed behind our back.
_OF_THE_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "upgrade"}
)
_ONCE: Final = frozenset({"host", "content-length", "transfer-encoding", "content-type", "authorization"})


@dataclass(frozen=True, slots=True)
class Target:
    """Holds the host and port that a client wants to reach; `host` is as `host_name` returns it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Head:
    """Holds a request's first line and its fields; names are lower case, in their order."""

    method: str
    target: str
    version: str
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """Return the value of a field; None without one."""
        return next((value for known, value in self.fields if known == name), None)


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """Holds a request for a host by plain HTTP. `length` of its body is None if it comes in chunks."""

    target: Target
    path: str
    length: int | None


def read_head(data: bytes) -> Head:
    """Read a head, up to and with its empty line. Raises RefusedError."""
    first, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise _bad("the first line is no request to a proxy")
    fields = []
    for text in lines:
        field = _FIELD.fullmatch(text)
        if field is None:
            raise _bad(f"the field {text[:40].decode('latin-1')!r} is not well formed")
        fields.append((field[1].decode("ascii").lower(), field[2].decode("latin-1").strip(" \t")))
    names = [name for name, _ in fields]
    twice = next((name for name in names if name in _ONCE and names.count(name) > 1), None)
    if twice is not None:
        raise _bad(f"the field {twice} stands there twice")
    method, target, version = (part.decode("ascii") for part in line.groups())
    return Head(method, target, version, tuple(fields))


def read_target(text: str, default_port: int | None = None) -> Target:
    """Read `host:port`. Raises RefusedError; also without a port, if there is no default."""
    if "@" in text:
        raise _bad("a user name before the host is not taken: send credentials in a field")
    place, colon, digits = text.rpartition(":")
    if not colon or text.endswith("]"):
        if default_port is None:
            raise _bad(f"{text[:80]!r} has no port: ask for HOST:PORT")
        place, digits = text, str(default_port)
    if ":" in place and not (place.startswith("[") and place.endswith("]")):
        raise _bad(f"{text[:80]!r}: an IPv6 address stands in brackets")
    try:
        return Target(host_name(place), port_number(digits))
    except RuleError as error:
        raise _bad(str(error)) from None


def read_plain(head: Head) -> PlainRequest:
    """Read a request that is to go out as plain HTTP. Raises RefusedError."""
    if not head.target.lower().startswith(_SCHEME):
        raise _bad("ask for http://HOST/PATH, or for a tunnel with CONNECT")
    authority, slash, path = head.target[len(_SCHEME) :].partition("/")
    authority, question, query = authority.partition("?")
    if "#" in head.target:
        raise _bad("a fragment is not part of a request")
    target = read_target(authority, HTTP_PORT)
    host = head.get("host")
    if host is None and head.version == "HTTP/1.1":
        raise _bad("the field host is missing")
    if host is not None and read_target(host, HTTP_PORT) != target:
        raise _bad("the field host names another host than the first line")
    path = f"/?{query}{slash}{path}" if question else f"/{path}"
    return PlainRequest(target, path, _length(head))


def read_inner(head: Head, tunnel: Target) -> PlainRequest:
    """Read a request inside a tunnel, which must be for the tunnel's own host. Raises RefusedError."""
    if not head.target.startswith("/") or "#" in head.target:
        raise _bad(f"inside a tunnel to {tunnel.host} ask for a path: GET /PATH")
    host = head.get("host")
    if host is None:
        raise _bad("the field host is missing")
    if read_target(host, HTTPS_PORT) != tunnel:
        words = f"the tunnel is to {tunnel.host}, the field host names {host[:253]}"
        raise RefusedError(Why.OTHER_SERVER_NAME, words)
    if head.get("upgrade") is not None:
        words = f"no other protocol is begun where epad reads, WebSocket neither: take {tunnel.host} out of intercept"
        raise RefusedError(Why.NOT_OFFERED, words)
    return PlainRequest(tunnel, head.target, _length(head))


def wants_more(head: Head) -> bool:
    """Tell if a client keeps its connection for another request."""
    named = ",".join(value for name, value in head.fields if name == "connection").lower().split(",")
    return head.version == "HTTP/1.1" and "close" not in map(str.strip, named)


def forwarded(head: Head, request: PlainRequest, *, inside: bool = False) -> bytes:
    """Write the head that goes on to the server: one request a connection, but for one inside a tunnel."""
    values = ",".join(value for name, value in head.fields if name == "connection")
    named = {name.strip().lower() for name in values.split(",")}
    left_out = _OF_THE_HOP | (named - _ONCE) | {"host", "content-length", "transfer-encoding"}
    host = str(request.target).removesuffix(f":{HTTPS_PORT if inside else HTTP_PORT}")
    lines = [f"{head.method} {request.path} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in head.fields if name not in left_out]
    if request.length is None:
        lines.append("transfer-encoding: chunked")
    elif request.length or head.get("content-length") is not None:
        lines.append(f"content-length: {request.length}")
    lines += [] if inside else ["connection: close"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _length(head: Head) -> int | None:
    """Return the length of the body; None for one in chunks. Raises RefusedError."""
    coding, length = head.get("transfer-encoding"), head.get("content-length")
    if coding is not None:
        if length is not None or coding.lower() != "chunked" or head.version != "HTTP/1.1":
            raise _bad("the length of the body can be read in two ways")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdecimal() and len(length) <= 18):
        raise _bad("the field content-length is no number")
    return int(length)


def _bad(words: str) -> RefusedError:
    return RefusedError(Why.BAD_REQUEST, words)
