"""Connect to a host by the way out, the only address that a call can connect to (`docs/way-out.md`).

The way out looks the name up, once, and connects to an address that it has judged; nothing is looked up here. Plain
HTTP is asked of it in absolute form; all else goes through a tunnel, in which TLS is spoken and checked here.
"""

from __future__ import annotations

import codecs
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from runners.tools.signature import CONTEXT, ToolError
from runners.tools.web_address import WebAddress

_MOST_HEAD_BYTES: Final = 32_768
_MOST_REFUSAL_BYTES: Final = 16_384
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
LIST: Final = "a person adds the host to [tools.web] hosts"
HINTS: Final = {
    "not_listed": LIST,
    "bare_address": f"ask for the host by its name; or {LIST}, as ADDRESS:PORT",
    "not_public": "if that is meant, a person adds it to [tools.web] hosts, as NAME=ADDRESS:PORT",
    "unknown_name": "look at the name",
    "unreachable": "try again later",
    "no_tls": "http:// for a server without TLS",
    "placeholder": "no secret is filled into a tool's request",
}
_HOSTS_FAULT: Final = frozenset({"unknown_name", "unreachable"})


class NotReachedError(ToolError):
    """A host that may be asked does not answer as it should."""


class TimeOverError(NotReachedError):
    """The time of a request is over."""


class Clock:
    """The time that one request has, whatever its parts are. Raises ToolError when it is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left. Raises ToolError where there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.over()
        return left

    def over(self) -> ToolError:
        """Return the error of a request that has taken too long."""
        return TimeOverError(f"the host did not answer in full within {self.seconds:g} s", "ask for less")


def _trusted() -> ssl.SSLContext:
    """Return the context that checks servers by this machine's roots, read now: a call reads no file.

    The default context would look for roots in a directory too, in the middle of a handshake. The codec of host names
    is loaded for the same reason.
    """
    codecs.lookup("idna")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    known = ssl.get_default_verify_paths()
    for place in (known.cafile, *_BUNDLES):
        with suppress(OSError):
            if place is not None:
                context.load_verify_locations(cafile=place)
                break
    context.set_alpn_protocols(["http/1.1"])
    return context


TRUSTED: Final = _trusted()


@dataclass(frozen=True, slots=True)
class Wire:
    """One connection, by which bytes go within the time of its request."""

    socket: socket.socket
    clock: Clock

    def send(self, data: bytes) -> None:
        """Send all bytes. Raises ToolError."""
        with told(self.clock):
            self.socket.settimeout(self.clock.left())
            self.socket.sendall(data)

    def receive(self, most: int = 65_536) -> bytes:
        """Return the next bytes; none at the end. Raises ToolError."""
        with told(self.clock):
            self.socket.settimeout(self.clock.left())
            return self.socket.recv(most)


@contextmanager
def told(clock: Clock) -> Iterator[None]:
    """Turn what goes wrong on a connection into an error that the caller can read."""
    try:
        yield
    except TimeoutError:
        raise clock.over() from None
    except ssl.SSLCertVerificationError as error:
        raise NotReachedError(f"the server does not prove its name: {error.verify_message}", "") from None
    except ssl.SSLError as error:
        raise NotReachedError(f"TLS failed: {error.reason or error}", "docs/way-out.md, Refusals") from None
    except OSError as error:
        raise NotReachedError(f"the connection broke: {error.strerror or error}", "try again later") from None


@contextmanager
def connected(address: WebAddress, clock: Clock) -> Iterator[Wire]:
    """Give a connection to a host: to the way out for plain HTTP, and to the host itself over TLS. Raises ToolError."""
    with _way_out(clock) as wire:
        if not address.over_tls:
            yield wire
            return
        _open_tunnel(wire, address.authority)
        with told(clock):
            wire.socket.settimeout(clock.left())
            inside = TRUSTED.wrap_socket(wire.socket, server_hostname=address.host)
        with inside:
            yield Wire(inside, clock)


def reach(authority: str, clock: Clock) -> None:
    """Have a port connected to, and leave it. Raises ToolError where that cannot be done."""
    with _way_out(clock) as wire:
        _open_tunnel(wire, authority)


def look_up(authority: str, clock: Clock) -> list[str]:
    """Have a name looked up that may be reached at a port; return its addresses. Raises ToolError."""
    with _way_out(clock) as wire:
        wire.send(f"RESOLVE {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
        status, body = _answer(wire)
        if status != 200:
            raise refusal(body) or ToolError(f"the way out says {status}", "")
        addresses: list[str] = json.loads(body)["addresses"]
        return addresses


@contextmanager
def _way_out(clock: Clock) -> Iterator[Wire]:
    place = CONTEXT.get().way_out
    if place is None:
        raise ToolError(
            "there is no way out from here: no host is reached", "epactl doctor names the missing wall"
        )
    with socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET) as opened:
        with told(clock):
            opened.settimeout(clock.left())
            opened.connect(place)
        yield Wire(opened, clock)


def _open_tunnel(wire: Wire, authority: str) -> None:
    wire.send(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
    status, body = _answer(wire)
    if status != 200:
        raise refusal(body) or ToolError(f"the way out says {status}", "")


def _answer(wire: Wire) -> tuple[int, bytes]:
    """Read the way out's own answer: nothing follows it before we have spoken, but for the body of one that ends."""
    said = b""
    while b"\r\n\r\n" not in said:
        data = wire.receive(_MOST_HEAD_BYTES)
        said += data
        if not data or len(said) > _MOST_HEAD_BYTES:
            raise ToolError("the way out has hung up", "its subsystem may be held: try again later")
    head, _, body = said.partition(b"\r\n\r\n")
    if b"\r\nconnection: close" in head.lower():
        while len(body) < _MOST_REFUSAL_BYTES and (data := wire.receive()):
            body += data
    return int(head.split(b" ", 2)[1]), body


def refusal(body: bytes) -> ToolError | None:
    """Return the error that a refusal of the way out tells; None for a body that is none."""
    with suppress(ValueError, TypeError, KeyError):
        told: dict[str, Any] = json.loads(body)["error"]
        if told["type"] == "egress_refused":
            kind = NotReachedError if told["code"] in _HOSTS_FAULT else ToolError
            return kind(str(told["message"]), HINTS.get(told["code"], "docs/way-out.md, Refusals"))
    return None
