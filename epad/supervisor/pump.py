"""Read the output of all children in one small process, the log pump, and keep it within each log's size.

    child --> named pipe <logs>/NAME.pipe --> pump --> <logs>/NAME.log, NAME.log.1 ...

A child holds its pipe open for reading as well as for writing (`program.open_log`), so that nobody's end breaks it:
without a pump it goes on until the pipe is full (PIPE_BYTES), and waits then until there is a pump again. Nothing
is handed over for that: a new pump opens the pipes by their names.

| who ends | what follows |
|---|---|
| the daemon (its standard input ends) | the pump goes on as it was told last, until no process holds a pipe open |
| the pump | the daemon starts another; READ_BYTES at most are lost, which were read and not yet written |
| both | children wait when their pipe is full; the next daemon starts a pump |
| a child | its pipe stays, for the next one |

A pump that starts takes over from one that is there: the lock tells who that is. It is told what to keep in lines of
JSON, each of which replaces the one before, and tells in such lines what was lost; an empty one says that it is alive.
It imports the standard library alone, and little of it: it stays when all of the daemon has gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import selectors
import signal
import stat
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from epad.supervisor.child_logs import TEND_SECONDS
from epad.supervisor.log_keeper import LogKeeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOCK = "pump.lock"
READ_BYTES = 256 << 10
# A pump that was told to end does so within a block; one that was stopped by a signal never does.
_HANDOVER_SECONDS = 2.0
_FLOCK = struct.Struct("hhqqi")
_STDIN, _STDOUT = 0, 1


class Limit:
    """Limits how much of one output is kept."""

    def __init__(self, max_bytes: int, keep: int) -> None:
        self.max_bytes = max_bytes
        self.keep = keep


class _Pipe:
    """Holds one pipe that is read.

    While `keeper`, a writing end of ours, is open, the end of a child does not end it.
    """

    def __init__(self, name: str, reader: int, keeper: int) -> None:
        self.name = name
        self.reader = reader
        self.keeper = keeper


class Reports:
    """Reports to the daemon, if there is one that listens: a report it does not take is dropped."""

    def warning(self, event: str, **fields: Any) -> None:
        """Tell of lost output."""
        self.line({"event": event, **fields})

    def line(self, fields: dict[str, Any]) -> None:
        """Write one line, or none of it."""
        with suppress(OSError):
            os.write(_STDOUT, json.dumps(fields).encode() + b"\n")


class Pump:
    """Reads every pipe in turn, a block at a time, so that no child's flood keeps the others waiting."""

    def __init__(self, directory: Path, lock: int) -> None:
        self._directory = directory
        self._lock = lock
        self._reports = Reports()
        self._keeper = LogKeeper(lambda name: directory / f"{name}.log", self._reports)
        self._selector = selectors.DefaultSelector()
        self._pipes: dict[tuple[int, int], _Pipe] = {}
        self._limits: dict[str, Limit] = {}
        self._said = b""
        self._is_commanded = True
        self._is_told_to_end = False

    def run(self) -> None:
        """Pump until told to end, or until there is neither a daemon nor a child."""
        self._listen()
        due = time.monotonic()
        while not self._is_told_to_end and (self._is_commanded or self._pipes):
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                key.data()
            if time.monotonic() >= due:
                due = time.monotonic() + TEND_SECONDS
                self._keeper.tend_all(time.time())
                self._reports.line({})
                self._keep_lock()
        self._keeper.tend_all(time.time())

    def _listen(self) -> None:
        os.set_blocking(_STDOUT, False)
        awake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGTERM, self._end)
        self._selector.register(awake, selectors.EVENT_READ, lambda: os.read(awake, 64))
        with suppress(PermissionError):  # a file as standard input cannot be waited for, and says all at once
            self._selector.register(_STDIN, selectors.EVENT_READ, self._obey)

    def _end(self, *_: object) -> None:
        self._is_told_to_end = True

    def _obey(self) -> None:
        """Read orders. Once there will be no more, pipes end with their writers."""
        data = os.read(_STDIN, 1 << 20)
        if data:
            *lines, self._said = (self._said + data).split(b"\n")
            for line in lines:
                self._configure(json.loads(line)["logs"])
            return
        self._is_commanded = False
        self._selector.unregister(_STDIN)
        for pipe in self._pipes.values():
            _release(pipe)

    def _configure(self, orders: dict[str, dict[str, Any]]) -> None:
        self._limits = {name: Limit(order["max_bytes"], order["keep"]) for name, order in orders.items()}
        wanted: set[tuple[int, int]] = set()
        for name, order in orders.items():
            for path in order["pipes"]:
                with suppress(OSError):
                    wanted.add(self._add(name, path))
        for key, pipe in self._pipes.items():
            if key not in wanted:
                _release(pipe)
        self._configure_keeper()

    def _configure_keeper(self) -> None:
        """Keep the configured logs, and the others that still have a writer."""
        leaving = {pipe.name for pipe in self._pipes.values()} - self._limits.keys()
        known = {name: self._keeper.of(name).config for name in leaving}
        self._keeper.configure({**known, **self._limits})

    def _add(self, name: str, path: str) -> tuple[int, int]:
        """Read a pipe from now on, if it is not read already; return which it is. Raises OSError."""
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(reader)
            key = (status.st_dev, status.st_ino)
            known = self._pipes.get(key)
            if (known is not None and known.keeper >= 0) or not stat.S_ISFIFO(status.st_mode):
                os.close(reader)
                return key
            keeper = os.open(f"/proc/self/fd/{reader}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            os.close(reader)
            raise
        if known is not None:  # it was let go, and its writers are not gone yet
            os.close(reader)
            known.keeper = keeper
            return key
        self._pipes[key] = pipe = _Pipe(name, reader, keeper)
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._pump(key, pipe))
        return key

    def _pump(self, key: tuple[int, int], pipe: _Pipe) -> None:
        try:
            data = os.read(pipe.reader, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._keeper.append(pipe.name, data, time.time())
            return
        self._selector.unregister(pipe.reader)
        os.close(pipe.reader)
        del self._pipes[key]
        self._configure_keeper()

    def _keep_lock(self) -> None:
        """Lock again where the lock's file was deleted; end if another pump was quicker."""
        with suppress(OSError):
            if os.path.samestat((self._directory / LOCK).stat(), os.fstat(self._lock)):
                return
        try:
            lock = open_lock(self._directory)
        except OSError:
            return  # the directory is gone with it
        if try_lock(lock):
            os.close(self._lock)
            self._lock = lock
        else:
            os.close(lock)
            self._is_told_to_end = True


def _release(pipe: _Pipe) -> None:
    """Let the pipe end with its writers."""
    if pipe.keeper >= 0:
        os.close(pipe.keeper)
        pipe.keeper = -1


def open_lock(directory: Path) -> int:
    """Open the file whose lock the pump of this directory holds. Raises OSError."""
    return os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(lock: int) -> bool:
    """Take the lock; False if another process has it."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def take_over(directory: Path) -> int:
    """Take the lock, and end the process that has it. Raises OSError where there can be no lock."""
    lock = open_lock(directory)
    while not try_lock(lock):
        if (holder := _holder(lock)) is not None:
            _end(holder, lock)
        else:
            time.sleep(0.01)  # it has ended just now, or is of another pid namespace
    return lock


def _holder(lock: int) -> int | None:
    """Say which process has the lock."""
    asked = fcntl.fcntl(lock, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    kind, *_, pid = _FLOCK.unpack(asked)
    return None if kind == fcntl.F_UNLCK or pid <= 0 else pid


def _end(pid: int, lock: int) -> None:
    """End a process that has the lock: whoever it is by then, it has it."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if _holder(lock) != pid:
                return
            signal.pidfd_send_signal(descriptor, number)
            if select.select([descriptor], [], [], _HANDOVER_SECONDS)[0]:
                return
    except OSError:
        return
    finally:
        os.close(descriptor)


def main() -> None:
    """Run a pump over the directory that is named. For `python -m epad.supervisor.pump`."""
    directory = Path(sys.argv[1])
    try:
        Pump(directory, take_over(directory)).run()
    except Exception as error:
        Reports().warning("log_pump.failed", error=repr(error))
        raise


if __name__ == "__main__":
    main()
