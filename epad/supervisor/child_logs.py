"""Keep a child's output in files: each within its size, with room ahead when the disk is full.

A child writes into a named pipe, and the log pump (`pump.py`) appends the pipe's bytes here. It rotates before a file
would outgrow its size, so the limit holds at any rate, and a full disk costs output and blocks no one: the oldest makes
way. Space is reserved ahead of each file, so that the newest lines can be kept even then.

A file may have another writer: a child that an epad before 0.2 has started, or that was started while no pipe could be
made, holds the file open itself, in append mode. Such a file is cut between two looks: its contents are copied away and
the file truncated, which an appending writer does not notice.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from contextlib import contextmanager, suppress
from pathlib import Path

from epad.supervisor.regular_file import open_regular, require_one_name

# The pump is a process of its own and small: it loads neither msgspec nor structlog, and neither typing (0.7 MiB)
# nor dataclasses (1.7 MiB).
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Limits(Protocol):
        """Limits how much of an output is kept: `max_bytes` in the present file, and `keep` former ones."""

        @property
        def max_bytes(self) -> int: ...

        @property
        def keep(self) -> int: ...


TEND_SECONDS = 2.0
# Room ahead of each file: at 100 lines of 100 bytes a second, 50 rounds of tending.
RESERVE_BYTES = 1 << 20
_FEWEST_MARKS = 128
_BYTES_PER_MARK = 20_480
_COPY_BYTES = 1 << 20
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own
_KEEP_SIZE = 0x01  # FALLOC_FL_KEEP_SIZE
_NOT_HAD = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ROOM = "the disk is full"
_TOO_MUCH = f"more was printed than is kept, within {TEND_SECONDS:g} s"
_GREW = "it outgrew what is kept between two looks, written to by another than the log pump"
MARK = struct.Struct("<dQ")
"""When, in seconds of UTC, the file had how many bytes; one after the other in the file's index."""


class ChildLog:
    """Keeps one subsystem's log: `path`, and its former files `path.1` (the newest) to `path.KEEP`.

    `dropped_bytes` counts the bytes lost before they could be read, `dropped_because` is the last reason.
    """

    def __init__(self, path: Path, config: Limits) -> None:
        self.path = path
        self.config = config
        self.rotations = 0
        self.dropped_bytes = 0
        self.dropped_because = ""
        self._file = -1
        self._tended = -1
        self._marked = 0
        self._appended = 0

    def former(self, number: int) -> Path:
        """Return the path of the former file of this number; 1 is the newest."""
        return self.path.with_name(f"{self.path.name}.{number}")

    def files(self) -> list[Path]:
        """List the files of it that exist, the oldest first."""
        numbers = range(self.config.keep, 0, -1)
        return [path for path in (*map(self.former, numbers), self.path) if path.exists()]

    def append(self, data: bytes, utc: float) -> None:
        """Append output; rotate before the file outgrows its size, at the end of a line if there is one.

        On a full disk the oldest output makes way, and output without room even then is dropped. Raises OSError if the
        file cannot be opened or written to for another reason.
        """
        self._appended += len(data)
        made_way = False
        while data:
            try:
                file = self._open()
                size = os.fstat(file).st_size
                if piece := _fitting(data, self.config.max_bytes - size, size):
                    data = data[os.write(file, piece) :]
                    made_way = False
                else:
                    self._begin_next(file, utc)
            except OSError as error:
                if error.errno not in _NOT_HAD:
                    raise
                if made_way:
                    self._drop(len(data), _NO_ROOM)
                    return
                self._make_way(self._file)
                made_way = True

    def tend(self, utc: float) -> None:
        """Cut a file that another writer has let grow, keep room ahead, note the size. Raises OSError."""
        kept = (self.config.keep + 1) * self.config.max_bytes
        appended, self._appended = self._appended, 0
        if appended > kept:
            self._drop(appended - kept, _TOO_MUCH)
        if self._is_as_it_was():
            return
        with suppress(FileNotFoundError), self._opened() as file:
            if os.fstat(file).st_size > self.config.max_bytes:
                self._cut(file, utc)
            if not self._reserve(file):
                self._make_way(file)
            self._mark(os.fstat(file).st_size, utc)

    def close(self) -> None:
        """Close the file that is appended to."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> int:
        """Open the present file, unless it is open: another one where it was deleted or replaced meanwhile."""
        if self._file >= 0 and not _is_at(self.path, self._file):
            self.close()
            self._forget_marks()
        if self._file < 0:
            self._file = open_regular(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            if os.fstat(self._file).st_nlink > 1:  # what it holds may be somebody else's
                self._set_aside()
                self._file = open_regular(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        return self._file

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the present file to cut it; one with another name only if it is the one that is appended to."""
        file = open_regular(self.path, os.O_RDWR)
        try:
            if self._file < 0 or not os.path.samestat(os.fstat(file), os.fstat(self._file)):
                require_one_name(file)
            yield file
        finally:
            os.close(file)

    def _begin_next(self, file: int, utc: float) -> None:
        """Make the present file a former one, renamed or, if another writer holds it open, copied."""
        size = os.fstat(file).st_size
        if size > self.config.max_bytes:
            with self._opened() as readable:
                self._cut(readable, utc)
            return
        self._mark(size, utc)
        os.ftruncate(file, size)  # gives back what was reserved ahead
        self._set_aside()

    def _set_aside(self) -> None:
        """Rename the present file to the newest former one; as it is, for it may have another name as well."""
        self.close()
        self._shift()
        if self.config.keep:
            self.path.replace(self.former(1))
            with suppress(FileNotFoundError):
                index(self.path).replace(index(self.former(1)))
        else:
            self.path.unlink(missing_ok=True)
            index(self.path).unlink(missing_ok=True)
        self._began_anew()

    def _is_as_it_was(self) -> bool:
        """Tell if there is nothing to do, by one look from outside: most logs lie still for hours."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return status.st_size == self._tended and _room(status) >= self._reserved(status.st_size) // 2

    def _reserved(self, size: int) -> int:
        """Return how much is reserved ahead of a file of this size; a full one has a little more than its limit."""
        most = self.config.max_bytes
        return min(RESERVE_BYTES, max(most - size, most // 8))

    def _cut(self, file: int, utc: float) -> None:
        """Copy the end of another writer's output to a former file, and truncate.

        Where there is no room for a copy, all of it is dropped.
        """
        fresh = self.path.with_name(f"{self.path.name}.new")
        size = os.fstat(file).st_size
        lacks = max(0, size - self.config.max_bytes * 5 // 4)
        try:
            if self.config.keep:
                self.former(self.config.keep).unlink(missing_ok=True)  # makes way for the copy
                self._shift()
                _copy(file, fresh, lacks)
                fresh.replace(self.former(1))
                if not lacks:  # else no mark is true of the copy
                    self._mark(size, utc)
                    with suppress(FileNotFoundError):
                        index(self.path).replace(index(self.former(1)))
            if lacks or not self.config.keep:
                self._drop(lacks or size, _GREW)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            if error.errno not in _NOT_HAD:
                raise
            self._drop(size, _NO_ROOM)
        self._truncate(file)

    def _shift(self) -> None:
        """Give each former file the next number, over the last one that is kept."""
        number = self.config.keep + 1
        while (beyond := self.former(number)).exists():  # `keep` was more before
            beyond.unlink()
            index(beyond).unlink(missing_ok=True)
            number += 1
        for number in range(self.config.keep - 1, 0, -1):
            newer, older = self.former(number), self.former(number + 1)
            index(older).unlink(missing_ok=True)
            for source, target in ((newer, older), (index(newer), index(older))):
                with suppress(FileNotFoundError):
                    source.replace(target)
        index(self.former(1)).unlink(missing_ok=True)

    def _truncate(self, file: int) -> None:
        os.truncate(file, 0)
        index(self.path).unlink(missing_ok=True)
        self._began_anew()

    def _began_anew(self) -> None:
        self.rotations += 1
        self._forget_marks()

    def _forget_marks(self) -> None:
        self._tended, self._marked = -1, 0

    def _reserve(self, file: int) -> bool:
        """Have room ahead; False if there is next to none and no more is to be had."""
        status = os.fstat(file)
        room, wanted = _room(status), self._reserved(status.st_size)
        if room >= wanted // 2:
            return True
        return _allocate(file, status.st_size + wanted) or room >= wanted // 4

    def _make_way(self, file: int) -> None:
        """Give up former files, the oldest first, and in the end the present one's contents."""
        for number in range(self.config.keep, 0, -1):
            former = self.former(number)
            if former.exists():
                self._drop(former.stat().st_size, _NO_ROOM)
                former.unlink()
                index(former).unlink(missing_ok=True)
                if file < 0 or self._reserve(file):
                    return
        size = 0 if file < 0 else os.fstat(file).st_size
        if not size:  # it holds nothing that could make way
            return
        self._drop(size, _NO_ROOM)
        self._truncate(file)
        self._reserve(file)

    def _drop(self, size: int, why: str) -> None:
        self.dropped_bytes += size
        self.dropped_because = why

    def _mark(self, size: int, utc: float) -> None:
        if size == self._tended:
            return
        self._tended = size
        with suppress(OSError):  # without marks `--since` begins earlier than it need
            descriptor = open_regular(index(self.path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with os.fdopen(descriptor, "ab") as marks:
                require_one_name(descriptor)
                if size - self._marked >= self._step(marks.tell() // MARK.size):
                    marks.write(MARK.pack(utc, size))
                    self._marked = size

    def _step(self, marks: int) -> int:
        """Return the growth of a file between two marks: a trickle's index would outgrow its log."""
        most = max(_FEWEST_MARKS, self.config.max_bytes // _BYTES_PER_MARK)
        return 0 if marks < most else self.config.max_bytes // most


def index(path: Path) -> Path:
    """Return where the marks of a log file lie."""
    return path.with_name(f"{path.name}.times")


def _fitting(data: bytes, room: int, size: int) -> bytes:
    """Return the beginning of `data` that a file with so much room is given; empty: it is full.

    It ends with a line, unless one line alone is larger than a whole file.
    """
    if len(data) <= room:
        return data
    cut = data.rfind(b"\n", 0, room) + 1 if room > 0 else 0
    return data[: cut or (0 if size else room)]


def _is_at(path: Path, file: int) -> bool:
    """Say whether an open file is still the one at this path."""
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(file))


def _copy(source: int, path: Path, offset: int) -> None:
    """Copy it from `offset` on, as far as it reaches now: a fast writer moves its end on for ever."""
    path.unlink(missing_ok=True)
    descriptor = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    end = os.fstat(source).st_size
    with os.fdopen(descriptor, "wb") as target:
        while offset < end and (data := os.pread(source, min(_COPY_BYTES, end - offset), offset)):
            target.write(data)
            offset += len(data)


def _room(status: os.stat_result) -> int:
    """Return how many bytes can be appended before the file system has to find more."""
    return status.st_blocks * _BLOCK_BYTES - status.st_size


def _allocate(file: int, length: int) -> bool:
    """Reserve the first `length` bytes without changing the size; True where that cannot be done at all.

    Python has posix_fallocate alone, which would fill the log with zeros.
    """
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return call(file, _KEEP_SIZE, 0, length) == 0 or ctypes.get_errno() not in _NOT_HAD
