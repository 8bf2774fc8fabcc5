"""Speak WebSocket (RFC 6455) as a client over one connection: a handshake, texts out, texts in, within limits.

No extension is offered, so nothing is compressed. Each frame of ours is masked with random bytes.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Final

from runners.tools.signature import ToolError
from runners.tools.way_out import TimeOverError, Wire
from runners.tools.web_address import WebAddress

MOST_MESSAGES: Final = 100
MOST_BYTES: Final = 1 << 20
"""Of all that is received."""
_MOST_HEAD_BYTES: Final = 128 << 10
_ACCEPT: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_FINAL, _RESERVED, _OPCODE, _MASKED, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F


@dataclass(slots=True)
class Session:
    """Holds one session: its connection, and the bytes that came and are not read."""

    wire: Wire
    rest: bytearray = field(default_factory=bytearray)
    taken: int = 0
    most_bytes: int = MOST_BYTES

    def begin(self, address: WebAddress, fields: Mapping[str, str]) -> None:
        """Ask the server to speak WebSocket. Raises ToolError where it does not."""
        key = base64.b64encode(os.urandom(16))
        own = {
            "host": address.host_field,
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": key.decode(),
        }
        lines = [
            f"GET {address.target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in {**fields, **own}.items()),
        ]
        self.wire.send("\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace"))
        while b"\r\n\r\n" not in self.rest:
            self._fill()
            if len(self.rest) > _MOST_HEAD_BYTES:
                raise ToolError(f"the answer's fields have over {_MOST_HEAD_BYTES} bytes", "")
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        status, accepted = _accepted(bytes(head))
        if status != "101" or accepted != base64.b64encode(
            sha1(key + _ACCEPT, usedforsecurity=False).digest()
        ):
            words = f"{address.host_field} begins no WebSocket there: it answers {status}"
            raise ToolError(words, "look at the path")

    def send_text(self, text: str) -> None:
        """Send one message. Raises ToolError."""
        self._send(_TEXT, text.encode(errors="replace"))

    def close(self) -> None:
        """Say that this is the end. Raises ToolError."""
        self._send(_CLOSE, struct.pack(">H", 1_000))

    def received(self) -> Iterator[str]:
        """Yield the messages that come, until the server ends or the time is over. Raises ToolError."""
        whole, kind = bytearray(), _TEXT
        try:
            while True:
                final, opcode, data = self._frame()
                match opcode:
                    case _ if opcode == _PING:
                        self._send(_PONG, data)
                        continue
                    case _ if opcode == _CLOSE:
                        return
                    case _ if opcode == _PONG:
                        continue
                    case _ if opcode in {_TEXT, _BINARY}:
                        whole, kind = bytearray(data), opcode
                    case _ if opcode == _CONTINUATION:
                        whole += data
                    case _:
                        raise ToolError(
                            f"the server sent a frame of kind {opcode}, which there is none of", ""
                        )
                if final:
                    yield (
                        whole.decode(errors="replace")
                        if kind == _TEXT
                        else f"[{len(whole)} bytes that are no text]"
                    )
                    whole = bytearray()
        except (TimeOverError, EOFError):
            return

    def _send(self, opcode: int, data: bytes) -> None:
        mask, size = os.urandom(4), len(data)
        if size < 126:
            length = bytes([_MASKED | size])
        elif size < 1 << 16:
            length = struct.pack(">BH", _MASKED | 126, size)
        else:
            length = struct.pack(">BQ", _MASKED | 127, size)
        self.wire.send(bytes([_FINAL | opcode]) + length + mask + _masked(data, mask))

    def _frame(self) -> tuple[bool, int, bytes]:
        """Read one frame. Raises EOFError at the end, and ToolError."""
        first, second = self._exactly(2)
        size = second & _LENGTH
        if size >= 126:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8))
        if first & _RESERVED or second & _MASKED:
            raise ToolError("the server sent a frame that no server sends", "")
        self.taken += size + 2
        if self.taken > self.most_bytes:
            raise ToolError(f"over {self.most_bytes} bytes came", "wait for less")
        return bool(first & _FINAL), first & _OPCODE, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            self._fill()
        data = bytes(self.rest[:size])
        del self.rest[:size]
        return data

    def _fill(self) -> None:
        data = self.wire.receive()
        if not data:
            raise EOFError
        self.rest += data


def _accepted(head: bytes) -> tuple[str, bytes]:
    """Return the status of an answer to a handshake, and its proof that the server has read it."""
    first, *lines = head.split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return first[9:12].decode("latin-1"), fields.get(b"sec-websocket-accept", b"")


def _masked(data: bytes, mask: bytes) -> bytes:
    """Return bytes under a mask, as one number: byte by byte would take a second a megabyte."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(size)
