"""Reading a child's log: its last lines, those since a time, and those to come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from epad.supervisor.child_logs import MARK, ChildLog, index

MAX_LINES = 10_000
# A line is cut here: what a child prints need not have line breaks at all.
MAX_LINE_BYTES = 64 * 1024
FOLLOW_SECONDS = 0.25
HEARTBEAT_SECONDS = 15.0
_READ_BYTES = 1 << 20
# In a follower's lines, where a rotation has taken what it had not read: it was too slow, or the disk full.
_MISSING = b"[epad: lines may be missing here]\n"
_BLOCK_BYTES = 64 * 1024
# Of one file in one answer: a log without line breaks ends here.
_MOST_BYTES = 16 << 20


def last_lines(log: ChildLog, count: int, since: float | None = None) -> list[str]:
    """The last `count` lines, of those written after `since` (seconds of UTC) where that is given.

    The marks are seconds apart, so some lines from just before `since` may be among them.
    """
    lines: list[str] = []
    for path in reversed(log.files()):
        start = 0 if since is None else offset_at(path, since)
        with suppress(FileNotFoundError):
            lines = [*_tail(path, count - len(lines), start), *lines]
        # A mark from before that time: what lies in former files is older still.
        if len(lines) >= count or start:
            break
    return lines


def offset_at(path: Path, utc: float) -> int:
    """How large a file was at a time, by the last mark before it; 0 if none tells."""
    try:
        marks = index(path).read_bytes()
    except OSError:
        return 0
    whole = len(marks) - len(marks) % MARK.size
    return next((size for at, size in reversed(list(MARK.iter_unpack(marks[:whole]))) if at <= utc), 0)


async def follow(log: ChildLog) -> AsyncGenerator[list[str], None]:
    """Every line written from now on, in batches; an empty one is a heartbeat."""
    position = _Position(log)
    quiet = 0.0
    while True:
        lines = await asyncio.to_thread(position.new_lines)
        if lines or quiet >= HEARTBEAT_SECONDS:
            yield lines
            quiet = 0.0
        await asyncio.sleep(FOLLOW_SECONDS)
        quiet += FOLLOW_SECONDS


class _Position:
    """How far a follower has read, over rotations: so far into what was written after so many of them."""

    def __init__(self, log: ChildLog) -> None:
        self._log = log
        self._rotation = log.rotations
        self._offset = log.path.stat().st_size if log.path.exists() else 0
        self._rest = b""

    def new_lines(self) -> list[str]:
        with self._log.lock:
            data = self._read_on(self._rest)
            while self._rotation < self._log.rotations and len(data) < _READ_BYTES:
                self._rotation, self._offset = self._rotation + 1, 0
                data = self._read_on(data)
        *lines, self._rest = data.split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        return list(_texts(lines))

    def _read_on(self, data: bytes) -> bytes:
        """Return these bytes with those that follow them in one file, at most so many."""
        missing = False
        while (place := self._log.place(self._rotation)) is None:
            self._rotation, self._offset, missing = self._rotation + 1, 0, True
        path, lacks = place
        if lacks > self._offset:
            self._offset, missing = lacks, True
        if missing:
            data += (b"\n" if data and not data.endswith(b"\n") else b"") + _MISSING
        with suppress(FileNotFoundError):
            fresh = _read(path, self._offset - lacks)
            self._offset += len(fresh)
            return data + fresh
        return data


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(_READ_BYTES)


def _tail(path: Path, count: int, start: int) -> list[str]:
    """The last lines of a file, read from its end backwards, and never from before `start`."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        data = b""
        while position > start and data.count(b"\n") <= count and len(data) < _MOST_BYTES:
            step = min(_BLOCK_BYTES, position - start)
            position = file.seek(position - step)
            data = file.read(step) + data
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    return list(_texts(lines[-count:])) if count > 0 else []


def _texts(lines: Iterable[bytes]) -> Iterator[str]:
    return (line[:MAX_LINE_BYTES].decode(errors="replace") for line in lines)
