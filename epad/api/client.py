"""The control API's client: a few lines of HTTP over a Unix socket, and nothing but light imports.

It speaks HTTP/1.0, where an answer ends when the connection does. Not http.client: with the e-mail parser
and TLS that come with it, it takes 25 ms to import (measured), as much as all the rest of `epactl status`.
"""

from __future__ import annotations

import json
import socket

from epad import EpadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, BinaryIO

# An order waits for its steps (30 s at most, see epad/operations/implementation.py), a reading for nothing.
READ_SECONDS = 10.0
ORDER_SECONDS = 60.0
# Twice the heartbeat of a stream: after this much silence the daemon is gone or stuck.
STREAM_SECONDS = 30.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_HEADERS = 100
MAX_LINE_BYTES = 1024 * 1024


class ClientError(EpadError):
    """A request to the daemon has failed."""


class NotRunningError(ClientError):
    """No daemon listens there."""


class RefusedError(ClientError):
    """The gate, or the mode of the socket, does not let this user do it."""


class UnknownNameError(ClientError):
    """The daemon knows nothing of that name."""


class UnreachableError(ClientError):
    """A daemon is there and does not answer, or another program answers."""


class FailedError(ClientError):
    """The daemon understood and could not do it."""


_ERRORS: dict[int, type[ClientError]] = {403: RefusedError, 404: UnknownNameError}


class ControlClient:
    """Asks one daemon, with a new connection for each request."""

    def __init__(self, path: str, read_seconds: float = READ_SECONDS) -> None:
        self._path = path
        self._read_seconds = read_seconds

    def get(self, target: str, query: Mapping[str, str] | None = None) -> Any:
        """Read something. Raises ClientError.

        A daemon that dies while it is asked resets the connection. Then its successor is asked, or nobody listens.
        """
        target += query_text(query or {})
        try:
            return self._answer("GET", target, b"", self._read_seconds)
        except UnreachableError as error:
            if not isinstance(error.__cause__, ConnectionError):
                raise
        return self._answer("GET", target, b"", self._read_seconds)

    def order(self, target: str, reason: str, **more: Any) -> Any:
        """Give an order with its reason and its other fields. Raises ClientError."""
        return self._answer("POST", target, json.dumps({"reason": reason, **more}).encode(), ORDER_SECONDS)

    def lines(self, target: str, query: Mapping[str, str] | None = None) -> Iterator[Any]:
        """Read a stream of JSON lines until the daemon ends it. Raises ClientError."""
        with self._connect(STREAM_SECONDS) as connection:
            _send(connection, "GET", target + query_text(query or {}), b"")
            with connection.makefile("rb") as stream:
                status, _ = _head(stream)
                if status != 200:
                    raise _error(status, _body(stream, None))
                while line := _readline(stream):
                    if line.strip():
                        yield _parse(line)

    def _answer(self, method: str, target: str, body: bytes, seconds: float) -> Any:
        with self._connect(seconds) as connection:
            _send(connection, method, target, body)
            with connection.makefile("rb") as stream:
                status, length = _head(stream)
                answer = _body(stream, length)
        if status != 200:
            raise _error(status, answer)
        return _parse(answer)

    def _connect(self, seconds: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(seconds)
        try:
            connection.connect(self._path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            connection.close()
            message = f"no epad listens on {self._path}"
            raise NotRunningError(message, "start it: make run, epad run, or systemctl start epad") from error
        except PermissionError as error:
            connection.close()
            message = f"{self._path}: you may not open it"
            raise RefusedError(message, "use sudo, or join the group of control.operator_group") from error
        except OSError as error:
            connection.close()
            raise UnreachableError(f"{self._path}: {error}", "give the daemon's socket: --socket") from error
        return connection


def query_text(query: Mapping[str, str]) -> str:
    """Return a query as it stands in a URL."""
    pairs = [f"{quote(name)}={quote(value)}" for name, value in query.items()]
    return "?" + "&".join(pairs) if pairs else ""


def quote(text: str) -> str:
    """Text as it may stand in a URL; urllib.parse would be 5 ms of imports."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~"
    return "".join(
        chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode(errors="surrogateescape")
    )


def _send(connection: socket.socket, method: str, target: str, body: bytes) -> None:
    head = f"{method} {target} HTTP/1.0\r\nHost: epad\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        connection.sendall(head.encode("ascii") + body)
    except OSError as error:
        raise _silent(error) from error


def _head(stream: BinaryIO) -> tuple[int, int | None]:
    """Return the status and the length of the body, if it is given."""
    version, _, rest = _readline(stream).partition(b" ")
    code = rest[:3]
    if not (version.startswith(b"HTTP/1.") and code.isdigit()):
        raise UnreachableError("what answers is not epad", "give the daemon's socket: --socket")
    length = None
    for _ in range(MAX_HEADERS):
        name, _, value = _readline(stream).partition(b":")
        if not name.strip():
            break
        if name.lower() == b"content-length" and value.strip().isdigit():
            length = int(value)
    return int(code), length


def _body(stream: BinaryIO, length: int | None) -> bytes:
    try:
        body = stream.read(MAX_ANSWER_BYTES)
    except OSError as error:
        raise _silent(error) from error
    if length is not None and len(body) != length:
        raise UnreachableError("the daemon broke off in the middle of its answer", "ask again")
    return body


def _readline(stream: BinaryIO) -> bytes:
    try:
        return stream.readline(MAX_LINE_BYTES)
    except OSError as error:
        raise _silent(error) from error


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise UnreachableError("the daemon's answer is not JSON", "see the daemon's log") from error


def _error(status: int, body: bytes) -> ClientError:
    try:
        error = json.loads(body)["error"]
        message, fix = str(error["message"]), str(error["fix"])
    except (ValueError, KeyError, TypeError):
        message, fix = f"the daemon answered {status}", "see the daemon's log"
    return _ERRORS.get(status, FailedError)(message, fix)


def _silent(error: OSError) -> UnreachableError:
    return UnreachableError(f"the daemon does not answer: {error}", "see the daemon's log")
