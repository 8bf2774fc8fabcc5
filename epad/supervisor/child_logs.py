"""The files that children write their output to: kept within a size, and with room ahead when the disk is full.

A child holds its log open itself, in append mode: no pipe, so whatever happens to the daemon or to the disk never
blocks it. A file is therefore rotated by copying and truncating, which an appending writer does not notice; what it
writes between the last copied byte and the truncation, some microseconds, is lost. Many programs die of a print that
fails, so space is reserved ahead of each file: on a full disk they write into that, and the oldest output makes way.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from epad.beat import sleep_to_beat
from epad.config import Config, LogConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

TEND_SECONDS = 2.0
# Room ahead of each file: at 100 lines of 100 bytes a second, 50 rounds of tending.
RESERVE_BYTES = 1 << 20
# With less room than this and no more to be had, what the file holds makes way.
LEAST_ROOM_BYTES = RESERVE_BYTES // 4
_COPY_BYTES = 1 << 20
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own
_KEEP_SIZE = 0x01  # FALLOC_FL_KEEP_SIZE
_NOT_HAD = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ROOM = "the disk is full"
MARK = struct.Struct("<dQ")
"""When, in seconds of UTC, the file had how many bytes; one after the other in the file's index."""


@dataclass(slots=True)
class ChildLog:
    """One subsystem's log: `path`, and its former files `path.1` (the newest) to `path.KEEP`.

    `rotations` counts how often the present file has begun anew, `dropped_bytes` what is lost; `dropped_because` is the
    reason for the last of it. Who reads by `place` holds `lock`: no file changes its name meanwhile.
    """

    path: Path
    config: LogConfig
    rotations: int = 0
    dropped_bytes: int = 0
    dropped_because: str = ""
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)
    _marked: int = field(default=-1)
    # Of each former file, the newest first: after how many rotations it was written, and how much it lacks at first.
    _kept: tuple[tuple[int, int], ...] = ()

    def former(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def files(self) -> list[Path]:
        """Every file of it there is, the oldest first."""
        numbers = range(self.config.keep, 0, -1)
        return [path for path in (*map(self.former, numbers), self.path) if path.exists()]

    def place(self, rotation: int) -> tuple[Path, int] | None:
        """Where what was written after so many rotations lies, and how much it lacks at first; None: nowhere."""
        if rotation == self.rotations:
            return self.path, 0
        found = ((self.former(n), lacks) for n, (kept, lacks) in enumerate(self._kept, 1) if kept == rotation)
        return next(found, None)

    def tend(self, utc: float) -> None:
        """Rotate it if it is large, keep room ahead of it, note its size. Raises OSError."""
        if self._is_as_it_was():
            return
        with suppress(FileNotFoundError), _opened(self.path) as file:
            if os.fstat(file).st_size > self.config.max_bytes:
                with self.lock:
                    self._rotate(file)
            if not self._reserve(file):
                with self.lock:
                    self._make_way(file)
            self._mark(os.fstat(file).st_size, utc)

    def _is_as_it_was(self) -> bool:
        """Whether there is nothing to do, by one look from outside: most logs lie still for hours."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return status.st_size == self._marked and _room(status) >= RESERVE_BYTES // 2

    def _rotate(self, file: int) -> None:
        """Copy it away and begin it anew; where there is no room for a copy, what it held is dropped."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        try:
            if self.config.keep:
                lacks = _copy(file, fresh, self._skipped(file))
                if lacks:
                    self._dropped(
                        lacks, f"it grew by more than is kept between two looks, {TEND_SECONDS:g} s apart"
                    )
                self._shift()
                fresh.rename(self.former(1))
                self._kept = ((self.rotations, lacks), *self._kept)[: self.config.keep]
                with suppress(FileNotFoundError):
                    index(self.path).rename(index(self.former(1)))
        except OSError as error:
            fresh.unlink(missing_ok=True)
            if error.errno not in _NOT_HAD:
                raise
            self._dropped(os.fstat(file).st_size, _NO_ROOM)
        self._begin_anew(file)

    def _skipped(self, file: int) -> int:
        """How much of its beginning is not kept: it grew beyond measure, while no daemon tended it."""
        return max(0, os.fstat(file).st_size - 2 * self.config.max_bytes)

    def _shift(self) -> None:
        for number in range(self.config.keep, 1, -1):
            for older, newer in (
                (self.former(number), self.former(number - 1)),
                (index(self.former(number)), index(self.former(number - 1))),
            ):
                with suppress(FileNotFoundError):
                    newer.replace(older)

    def _begin_anew(self, file: int) -> None:
        os.ftruncate(file, 0)
        index(self.path).unlink(missing_ok=True)
        self.rotations += 1
        self._marked = -1

    def _reserve(self, file: int) -> bool:
        """Have room ahead; False if there is next to none and no more is to be had."""
        status = os.fstat(file)
        room = _room(status)
        if room >= RESERVE_BYTES // 2:
            return True
        return _allocate(file, status.st_size + RESERVE_BYTES) or room >= LEAST_ROOM_BYTES

    def _make_way(self, file: int) -> None:
        """Give up former files, the oldest first, and in the end what the present one holds."""
        for number in range(self.config.keep, 0, -1):
            former = self.former(number)
            if former.exists():
                self._dropped(former.stat().st_size, _NO_ROOM)
                former.unlink()
                self._kept = self._kept[: number - 1]
                index(former).unlink(missing_ok=True)
                if self._reserve(file):
                    return
        self._dropped(os.fstat(file).st_size, _NO_ROOM)
        self._begin_anew(file)
        self._reserve(file)

    def _dropped(self, size: int, why: str) -> None:
        self.dropped_bytes += size
        self.dropped_because = why

    def _mark(self, size: int, utc: float) -> None:
        if size == self._marked:
            return
        with suppress(OSError):  # without marks `--since` begins earlier than it need
            descriptor = os.open(
                index(self.path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(descriptor, "ab") as marks:
                marks.write(MARK.pack(utc, size))
            self._marked = size


def log_configs(config: Config) -> dict[str, LogConfig]:
    """How the log of each subsystem that has one is kept."""
    return {name: spec.log for name, spec in config.subsystems.items() if spec.kind == "process"}


class LogKeeper:
    """Tends every log there is, in a thread; a log that cannot be tended is told of once."""

    def __init__(self, path_of: Callable[[str], Path], log: FilteringBoundLogger) -> None:
        self._path_of = path_of
        self._log = log
        self._logs: dict[str, ChildLog] = {}
        self._told: dict[str, str] = {}

    def configure(self, configs: Mapping[str, LogConfig]) -> None:
        """Keep these logs from now on, and no others."""
        kept = self._logs
        self._logs = {
            name: kept.get(name) or ChildLog(self._path_of(name), config) for name, config in configs.items()
        }
        for name, log in self._logs.items():
            log.config = configs[name]  # who follows it goes on

    def of(self, name: str) -> ChildLog:
        """A subsystem's log. Raises KeyError for one that has none."""
        return self._logs[name]

    async def run(self, utc: Callable[[], float]) -> None:
        """Tend them until cancelled."""
        while True:
            await asyncio.to_thread(self.tend_all, utc())
            await sleep_to_beat(TEND_SECONDS)

    def tend_all(self, utc: float) -> None:
        for name, log in list(self._logs.items()):
            dropped = log.dropped_bytes
            try:
                log.tend(utc)
                said = ""
            except OSError as error:
                said = f"{log.path}: {error.strerror}"
            if said and said != self._told.get(name):
                self._log.warning("child_log.untended", subsystem=name, error=said)
            self._told[name] = said
            if log.dropped_bytes != dropped:
                self._log.warning(
                    "child_log.dropped",
                    subsystem=name,
                    bytes=log.dropped_bytes - dropped,
                    reason=log.dropped_because,
                )


def index(path: Path) -> Path:
    """Where the marks of a log file lie."""
    return path.with_name(f"{path.name}.times")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield file
    finally:
        os.close(file)


def _copy(source: int, path: Path, offset: int) -> int:
    """Copy it from `offset` on; return that, for it is what is left out."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    position = offset
    with os.fdopen(descriptor, "wb") as target:
        while data := os.pread(source, _COPY_BYTES, position):
            target.write(data)
            position += len(data)
    return offset


def _room(status: os.stat_result) -> int:
    """How many bytes can be appended before the file system has to find more."""
    return status.st_blocks * _BLOCK_BYTES - status.st_size


def _allocate(file: int, length: int) -> bool:
    """Reserve the first `length` bytes without changing the size; True where that cannot be done at all.

    Python has posix_fallocate alone, which would fill the log with zeros.
    """
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return call(file, _KEEP_SIZE, 0, length) == 0 or ctypes.get_errno() not in _NOT_HAD
