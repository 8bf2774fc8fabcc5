"""Reading a child's log: its last lines, those since a time, and those to come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from epad.supervisor.child_logs import MARK, ChildLog, index
from epad.supervisor.regular_file import open_regular

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
    """Return the last `count` lines, of those written after `since` (seconds of UTC) where that is given.

    The marks are seconds apart, so some lines from just before `since` may be among them.
    """
    lines: list[str] = []
    for path in reversed(log.files()):
        start = 0 if since is None else offset_at(path, since)
        with suppress(OSError):  # it was rotated away, or is no log
            lines = [*_tail(path, count - len(lines), start), *lines]
        # A mark from before that time: what lies in former files is older still.
        if len(lines) >= count or start:
            break
    return lines


def offset_at(path: Path, utc: float) -> int:
    """Return a file's size at a time, by the last mark before it; 0 if there is none."""
    try:
        with os.fdopen(open_regular(index(path), os.O_RDONLY), "rb") as file:
            marks = file.read()
    except OSError:
        return 0
    whole = len(marks) - len(marks) % MARK.size
    return next((size for at, size in reversed(list(MARK.iter_unpack(marks[:whole]))) if at <= utc), 0)


async def follow(log: ChildLog) -> AsyncGenerator[list[str], None]:
    """Yield every line written from now on, in batches; an empty one is a heartbeat."""
    position = _Position(log)
    quiet = 0.0
    try:
        while True:
            lines = await asyncio.to_thread(position.new_lines)
            if lines or quiet >= HEARTBEAT_SECONDS:
                yield lines
                quiet = 0.0
            await asyncio.sleep(FOLLOW_SECONDS)
            quiet += FOLLOW_SECONDS
    finally:
        position.close()


@dataclass(frozen=True, slots=True)
class _Seen:
    """Holds one look at one file of a log: its identity, under any later name, and the time of its last write."""

    path: Path
    device: int
    inode: int
    written_ns: int = field(compare=False)

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> _Seen:
        return cls(path, status.st_dev, status.st_ino, status.st_mtime_ns)


class _Position:
    """Holds a follower's place, over rotations: an offset in a file, which is held open under any later name.

    The log pump, another process, rotates meanwhile. A file is told from its successors by its inode, which nobody
    else is given while it is held open.
    """

    def __init__(self, log: ChildLog) -> None:
        self._log = log
        files = log.files()
        self._file = _open(files[-1]) if files else -1
        self._offset = 0 if self._file < 0 else os.fstat(self._file).st_size
        self._rest = b""

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def new_lines(self) -> list[str]:
        """Return the lines that have come since, of about a megabyte at most."""
        data = self._rest
        while len(data) < _READ_BYTES:
            data += self._read_on()
            successor, missing = self._successor()
            if len(data) >= _READ_BYTES or successor is None:
                break
            file = _open(successor.path)
            if file < 0 or _Seen.of(successor.path, os.fstat(file)) != successor:
                _close(file)
                break  # it was rotated just now: the next look finds it under its new name
            data += self._read_on()  # what was written between the last reading and the rotation
            self.close()
            self._file, self._offset = file, 0
            if missing:
                data += (b"\n" if data and not data.endswith(b"\n") else b"") + _MISSING
        *lines, self._rest = data.split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        return list(_texts(lines))

    def _read_on(self) -> bytes:
        """Return the next bytes of the open file, at most so many."""
        if self._file < 0:
            return b""
        truncated = os.fstat(self._file).st_size < self._offset
        if truncated:
            self._offset = 0
        data = os.pread(self._file, _READ_BYTES, self._offset)
        self._offset += len(data)
        return _MISSING + data if truncated else data

    def _successor(self) -> tuple[_Seen | None, bool]:
        """Find the file after the open one, None while there is none; and say whether others between them are gone."""
        files = _look(self._log)
        if files != _look(self._log):
            return None, False  # it is being rotated: a file may show twice now, or not at all
        if self._file < 0:
            return (files[0] if files else None), False
        mine = _Seen.of(self._log.path, os.fstat(self._file))
        for number, seen in enumerate(files):
            if (seen.device, seen.inode) == (mine.device, mine.inode):
                return (files[number + 1] if number + 1 < len(files) else None), False
        # It was deleted: by a rotation, after which all files are later ones, or by somebody.
        later = [seen for seen in files if seen.written_ns >= mine.written_ns]
        return (later[0] if later else None), True


def _look(log: ChildLog) -> list[_Seen]:
    """Look at every file of a log, the oldest first."""
    found: list[_Seen] = []
    for path in log.files():
        with suppress(OSError):
            found.append(_Seen.of(path, os.lstat(path)))
    return found


def _open(path: Path) -> int:
    """Open a file to read; below 0 where it cannot be."""
    try:
        return open_regular(path, os.O_RDONLY)
    except OSError:
        return -1


def _close(file: int) -> None:
    if file >= 0:
        os.close(file)


def _tail(path: Path, count: int, start: int) -> list[str]:
    """Return the last lines of a file, read from its end backwards, and never from before `start`."""
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
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
