"""Read and write frames: four bytes of length, big-endian, and so many bytes of JSON."""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

HEADER: Final = struct.Struct(">I")
MOST_BYTES: Final = 16 << 20
"""A longer frame is skipped and told, and the ones after it are served."""


class Request(msgspec.Struct, frozen=True):
    """Holds one request: a call by `id` and `tool`, a `cancel` of a call, or a question of `health`."""

    id: int = -1
    tool: str = ""
    arguments: dict[str, Any] = {}
    timeout: float = 0
    output_bytes: int = 64 << 10
    spill_bytes: int = 0
    """How long the whole of a result may be that is told beside its cut one."""
    stays: bool = False
    """A redirect to another host is not followed."""
    turn: str = ""
    """The name under which before-images of the call are kept."""
    undo: str = ""
    """The name of an earlier call whose before-images are put back, instead of `tool`."""
    only: str = ""
    """Of an undo: `look` tells what it would do, `tidy` removes temporary files alone."""
    cancel: int | None = None
    health: bool = False


class FrameError(Exception):
    """A frame that cannot be read as a request. `id` is the request's, as far as it is known."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.id = number


class Reader:
    """Cuts a stream of bytes into frames. Keeps at most one frame and a block."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[bytes | FrameError]:
        """Take bytes in and return the frames that are whole now."""
        self._buffer += data
        frames: list[bytes | FrameError] = []
        while True:
            if self._skip:
                gone = min(self._skip, len(self._buffer))
                del self._buffer[:gone]
                self._skip -= gone
            if self._skip or len(self._buffer) < HEADER.size:
                return frames
            (size,) = HEADER.unpack_from(self._buffer)
            if size > MOST_BYTES:
                del self._buffer[: HEADER.size]
                self._skip = size
                frames.append(FrameError(f"a frame of {size} bytes is over the limit of {MOST_BYTES}"))
                continue
            if len(self._buffer) < HEADER.size + size:
                return frames
            frames.append(bytes(self._buffer[HEADER.size : HEADER.size + size]))
            del self._buffer[: HEADER.size + size]


def frame(body: bytes) -> bytes:
    """Return bytes as a frame."""
    return HEADER.pack(len(body)) + body


def parse(body: bytes) -> Request:
    """Read a request. Raises FrameError."""
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise FrameError(f"not a request: {error}", _id_of(body)) from error


def _id_of(body: bytes) -> int | None:
    try:
        number = msgspec.json.decode(body)["id"]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


_DECODER: Final = msgspec.json.Decoder(Request)
