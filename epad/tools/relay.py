"""`epad mcp`: pass MCP messages from stdio to the gateway's `/mcp`, and its answers back.

It imports little of the standard library and nothing else of epad: a host starts one for each window, and waits for it.
Messages are lines; each is posted as it is, on a connection of its own where another one is still unanswered, so that
a call that hangs holds up nobody. Which messages these are is the gateway's business: JSON is read here only to answer
a request that the gateway could not.

| ends with | then |
|---|---|
| end of stdin | answers in flight get a second to come, then the connections are closed, which cancels their calls |
| the parent's death | the same, at once: its pidfd is polled, since another process may hold stdin open |
| stdout closed | at once |
| SIGTERM, SIGINT | at once; the kernel closes the connections |

One loop over `poll`, and no threads. Sending to the gateway and to stdout blocks: both take what they are given, or
are gone.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Mapping, Sequence

from epad import EpadError

URL_VARIABLE, KEY_VARIABLE = "EPAD_GATEWAY_URL", "EPAD_GATEWAY_KEY"
USUAL_URL = "http://127.0.0.1:8700"
# More than the gateway takes of one message, so that it is the gateway that refuses one.
MOST_LINE_BYTES = 8 << 20
_READ_BYTES = 1 << 16
_CONNECT_SECONDS = 5.0
_LAST_SECONDS = 1.0
_MOST_IN_FLIGHT = 128
_MOST_IDLE = 4
_STDIN, _STDOUT = 0, 1
_CANNOT, _INVALID = -32000, -32600
USAGE = f"""\
usage: epad mcp [--url URL]

Speak MCP on stdin and stdout, for Claude Code, Cursor, and other programs that start their servers.

  --url URL   of the gateway, http://HOST:PORT or unix:PATH; else ${URL_VARIABLE}, else {USUAL_URL}

${KEY_VARIABLE} is the key of the subsystem (`epactl key rotate NAME` shows a new one); at a subsystem's own socket
none is needed.
"""


class UnreachableError(EpadError):
    """The gateway cannot be asked; the text names it, and what to do."""


class Gateway:
    """Opens connections to the gateway, and knows the head of a request to it."""

    def __init__(self, url: str, key: str) -> None:
        """Raises ValueError for a URL of another kind, or a key that no header can hold."""
        self.url = url
        self._unix = url.removeprefix("unix:") if url.startswith("unix:") else ""
        host, _, port = url.removeprefix("http://").partition("/")[0].rpartition(":")
        if not self._unix and not (url.startswith("http://") and host and port.isdigit()):
            raise ValueError(f"{url}: give the gateway's URL as http://HOST:PORT or unix:PATH")
        if not key.isascii() or not key.isprintable():
            raise ValueError(f"${KEY_VARIABLE}: a key is of printable ASCII characters")
        self._address = host.strip("[]"), int(port or 0) if not self._unix else 0
        name = "localhost" if self._unix else f"{host}:{port}"
        bearer = f"Authorization: Bearer {key}\r\n" if key else ""
        self._head = (
            f"POST /mcp HTTP/1.1\r\nHost: {name}\r\n{bearer}Content-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nEpad-Relay: stdio\r\n"
        ).encode()
        self.session = os.urandom(8).hex().encode()
        """Tells this host's calls from another's; a new one comes with the gateway's hello."""

    def connect(self) -> socket.socket:
        """Return a connection. Raises UnreachableError."""
        try:
            if not self._unix:
                return socket.create_connection(self._address, _CONNECT_SECONDS)
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(self._unix)
        except OSError as error:
            what = f"epad's gateway at {self.url} cannot be reached ({error.strerror or error})"
            raise UnreachableError(what, f"start epad, or set ${URL_VARIABLE}") from error
        return connection

    def request(self, line: bytes) -> bytes:
        """Return the request with a message."""
        session = b"Mcp-Session-Id: %b\r\n" % self.session
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (self._head, session, len(line), line)


class Exchange:
    """Reads the answer to one message off its connection."""

    def __init__(self, connection: socket.socket, line: bytes) -> None:
        self.connection = connection
        self.line = line
        self.status = 0
        self.session = b""
        self.ended = False
        self.reusable = False
        self._buffer = b""
        self._left = -1
        self._chunked = self._events = False
        self._body = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes that came; return the messages that are whole. Empty bytes are the connection's end.

        Raises ValueError for an answer that is not HTTP.
        """
        self._buffer += data
        if not self.status and not self._read_head():
            self.ended = not data
            return []
        self._read_body(closed=not data)
        if self._events:
            return self._take_events()
        return [self._body] if self.ended and self._body.strip() else []

    @property
    def answered(self) -> bool:
        """Tell if the answer came whole."""
        return self.status > 0 and self.reusable

    def _read_head(self) -> bool:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        first, *lines = head.split(b"\r\n")
        self.status, self._buffer = int(first.split(b" ", 2)[1]), rest
        fields = dict(_field(line) for line in lines)
        self._chunked = fields.get(b"transfer-encoding") == b"chunked"
        self._events = fields.get(b"content-type", b"").startswith(b"text/event-stream")
        self._left = int(fields.get(b"content-length", -1))
        self.session = fields.get(b"mcp-session-id", b"")
        self._closes = fields.get(b"connection") == b"close"
        if self.status == 204:
            self._left = 0
        return True

    def _read_body(self, *, closed: bool) -> None:
        whole = False
        while self._chunked and not whole:
            size, found, rest = self._buffer.partition(b"\r\n")
            length = int(size, 16) if found else 0
            if not found or len(rest) < length + 2:
                break
            self._body += rest[:length]
            self._buffer = rest[length + 2 :]
            whole = length == 0
        if not self._chunked:
            self._body += self._buffer
            self._buffer = b""
            whole = 0 <= self._left <= len(self._body)
        self.reusable = whole and not self._closes
        self.ended = whole or closed

    def _take_events(self) -> list[bytes]:
        *events, self._body = self._body.split(b"\n\n")
        return [
            line[5:].strip() for each in events for line in each.split(b"\n") if line.startswith(b"data:")
        ]


class Relay:
    """Passes messages on until its host is gone."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._poll = select.poll()
        self._exchanges: dict[int, Exchange] = {}
        self._idle: list[socket.socket] = []
        self._coming = b""
        self._dropping = False

    def run(self) -> int:
        """Pass messages on; return the exit status."""
        parent = _watch_parent()
        for descriptor in (_STDIN, parent):
            if descriptor >= 0:
                self._poll.register(descriptor, select.POLLIN)
        while True:
            listening = len(self._exchanges) < _MOST_IN_FLIGHT
            self._poll.modify(_STDIN, select.POLLIN if listening else 0)
            for descriptor, _ in self._poll.poll():
                if descriptor == parent:
                    return 0
                if descriptor != _STDIN:
                    self._hear(self._exchanges[descriptor])
                elif not self._read():
                    self._poll.unregister(_STDIN)
                    return self._finish(parent)

    def _finish(self, parent: int) -> int:
        """Wait a little for the answers in flight: whoever pipes a file of messages in wants to read them."""
        if parent >= 0:
            self._poll.unregister(parent)
        while self._exchanges and (ready := self._poll.poll(_LAST_SECONDS * 1_000)):
            for descriptor, _ in ready:
                self._hear(self._exchanges[descriptor])
        return 0

    def _read(self) -> bool:
        """Take what has come from the host; False at its end."""
        data = _read_now(_STDIN)
        if data is None:
            return True
        *lines, self._coming = (self._coming + data).split(b"\n") if data else [self._coming, b""]
        for line in lines:
            if self._dropping:
                self._dropping = False
            elif line.strip():
                self._pass_on(line.strip())
        if len(self._coming) > MOST_LINE_BYTES:
            if not self._dropping:
                _write_error(None, _INVALID, f"a message of over {MOST_LINE_BYTES} bytes is not passed on")
            self._dropping, self._coming = True, b""
        return bool(data)

    def _pass_on(self, line: bytes) -> None:
        try:
            connection = self._connection()
            try:
                connection.sendall(self._gateway.request(line))
            except OSError as error:
                connection.close()
                raise UnreachableError(f"epad's gateway at {self._gateway.url} hung up: {error}") from error
        except UnreachableError as error:
            _answer_for(line, str(error))
            return
        self._exchanges[connection.fileno()] = Exchange(connection, line)
        self._poll.register(connection, select.POLLIN)

    def _connection(self) -> socket.socket:
        """Return a connection that nobody uses: an idle one whose other end is still there, or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if not select.select([connection], [], [], 0)[0]:
                return connection
            connection.close()
        return self._gateway.connect()

    def _hear(self, exchange: Exchange) -> None:
        """Take what has come of an answer, and write the messages that are whole."""
        connection, messages = exchange.connection, []
        try:
            messages = exchange.feed(connection.recv(_READ_BYTES))
        except (OSError, ValueError, IndexError):
            exchange.ended, exchange.reusable = True, False
        self._gateway.session = exchange.session or self._gateway.session
        for message in messages:
            _write(message if exchange.status < 400 else _with_id(message, exchange.line))
        if not exchange.ended:
            return
        del self._exchanges[connection.fileno()]
        self._poll.unregister(connection)
        if not exchange.answered and not messages:
            _answer_for(exchange.line, f"epad's gateway at {self._gateway.url} broke off")
        if exchange.reusable and len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()


def main(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the relay; return the exit status."""
    url = environment.get(URL_VARIABLE) or USUAL_URL
    arguments = list(argv)
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    if len(arguments) == 2 and arguments[0] == "--url":
        url = arguments[1]
    elif len(arguments) == 1 and arguments[0].startswith("--url="):
        url = arguments[0].removeprefix("--url=")
    elif arguments:
        sys.stderr.write(USAGE)
        return 2
    try:
        return Relay(Gateway(url, environment.get(KEY_VARIABLE, ""))).run()
    except ValueError as error:
        sys.stderr.write(f"epad mcp: {error}\n")
        return 2
    except (BrokenPipeError, KeyboardInterrupt):
        return 0


def _read_now(descriptor: int) -> bytes | None:
    """Read what has come; None if another process, which has the same end of a pipe, was faster.

    A read that waits would wait on when the parent has died.
    """
    buffer = bytearray(_READ_BYTES)
    try:
        return bytes(buffer[: os.preadv(descriptor, [buffer], -1, os.RWF_NOWAIT)])
    except BlockingIOError:
        return None
    except OSError:  # a terminal, and a file system that knows no such read
        return os.read(descriptor, _READ_BYTES)


def _watch_parent() -> int:
    """Return a descriptor that becomes readable when the parent ends; -1 where there is none, or no parent."""
    parent = os.getppid()
    try:
        descriptor = os.pidfd_open(parent)
    except OSError:
        return -1
    # It may have ended in between, and its number may be another's by now.
    if os.getppid() == parent:
        return descriptor
    os.close(descriptor)
    sys.exit(0)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()


def _write(message: bytes) -> None:
    data = message.replace(b"\n", b" ").strip() + b"\n"
    while data:
        data = data[os.write(_STDOUT, data) :]


def _write_error(message_id: object, code: int, said: str) -> None:
    import json  # noqa: PLC0415  # the usual message is not read here

    error = {"code": code, "message": said}
    _write(json.dumps({"jsonrpc": "2.0", "id": message_id, "error": error}).encode())


def _answer_for(line: bytes, said: str) -> None:
    """Answer a request in the gateway's place; a notification is told to people alone."""
    message = _read_json(line)
    if "method" in message and "id" in message:
        _write_error(message["id"], _CANNOT, said)
    else:
        sys.stderr.write(f"epad mcp: {said}\n")


def _with_id(message: bytes, line: bytes) -> bytes:
    """Return a refusal with the request's id: the gateway refuses some requests before it has read them."""
    import json  # noqa: PLC0415

    answer, asked = _read_json(message), _read_json(line)
    if answer.get("id") is None and "error" in answer and asked.get("id") is not None:
        return json.dumps({**answer, "id": asked["id"]}).encode()
    return message


def _read_json(text: bytes) -> dict[str, object]:
    import json  # noqa: PLC0415

    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
