"""The container of the lifeboat's first tier: self-describing frames, written in place into a file made beforehand.

Its blocks are allocated while there is room, so it can be written on a full disk. Every frame has its name, length and
hash, so each written frame can be read, regardless of the others.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

MAGIC = b"EPADBOAT"
BLOCK_BYTES = 512
"""Frames begin at multiples of this, the smallest thing a disk writes whole: one behind a damaged one is found."""
_HEADER = struct.Struct(">8s16sIHQ32s")
_ZEROS = bytes(1 << 20)
FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Frame:
    """Holds one saved item, as it was read back. Frames of one writing share its `boat`."""

    boat: bytes
    index: int
    name: str
    data: bytes


def prepare(path: Path, size: int) -> bool:
    """Make the file, all zeros, unless it exists; return True if it was made. Raises OSError.

    An existing one is left as it is: it may hold the savings of the previous run.
    """
    if path.exists() and path.stat().st_size == size:
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        fill(descriptor, size)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    partial.rename(path)
    sync_directory(path.parent)
    return True


def fill(descriptor: int, size: int) -> None:
    """Write zeros, and sync them: some file systems may still refuse room that was merely reserved."""
    left = size
    while left:
        left -= os.write(descriptor, _ZEROS[:left])
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Writer:
    """Writes frames one after the other, each on the disk when `put` returns. Raises OSError."""

    def __init__(self, path: Path, boat: bytes) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size
        self._boat = boat
        self._offset = 0
        self._index = 0

    def room(self, name: str) -> int:
        """Return how many bytes a frame of this name may still hold."""
        return max(0, self._size - self._offset - _HEADER.size - len(name.encode()))

    def put(self, name: str, data: bytes) -> bool:
        """Write a frame; False, and nothing written, where the file has no room for it."""
        if len(data) > self.room(name):
            return False
        frame = encode(self._boat, self._index, name, data)
        os.pwrite(self._descriptor, frame, self._offset)
        os.fdatasync(self._descriptor)
        self._offset += len(frame)
        self._index += 1
        return True

    def close(self) -> None:
        os.close(self._descriptor)


def encode(boat: bytes, index: int, name: str, data: bytes) -> bytes:
    """Return a frame's bytes, filled up to a whole number of blocks."""
    named = name.encode()
    digest = _digest(boat, index, named, data)
    frame = _HEADER.pack(MAGIC, boat, index, len(named), len(data), digest) + named + data
    return frame + bytes(-len(frame) % BLOCK_BYTES)


def frames(data: bytes) -> Iterator[Frame]:
    """Yield every whole frame of any writing, in the order of the file."""
    at = data.find(MAGIC)
    while at >= 0:
        frame, length = _frame_at(data, at) if at % BLOCK_BYTES == 0 else (None, 0)
        if frame is not None:
            yield frame
        at = data.find(MAGIC, at + (length or BLOCK_BYTES - at % BLOCK_BYTES))


def newest(data: bytes) -> list[Frame]:
    """Return the frames of the last writing: it began at the front.

    Behind it stand remains of longer ones before.
    """
    found = list(frames(data))
    return [frame for frame in found if frame.boat == found[0].boat]


def _frame_at(data: bytes, at: int) -> tuple[Frame | None, int]:
    if len(data) - at < _HEADER.size:
        return None, 0
    _, boat, index, name_length, length, digest = _HEADER.unpack_from(data, at)
    start = at + _HEADER.size
    end = start + name_length + length
    if end > len(data):
        return None, 0
    named, body = data[start : start + name_length], data[start + name_length : end]
    if _digest(boat, index, named, body) != digest:
        return None, 0
    whole = end - at + -(end - at) % BLOCK_BYTES
    return Frame(boat, index, named.decode(errors="replace"), body), whole


def _digest(boat: bytes, index: int, named: bytes, data: bytes) -> bytes:
    return sha256(boat + index.to_bytes(4, "big") + len(named).to_bytes(2, "big") + named + data).digest()
