"""Receive children's notifications: sd_notify(3), one socket a subsystem."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from epad.configuration.directories import MAX_SOCKET_PATH_BYTES
from epad.supervisor.errors import SupervisorError

MAX_DATAGRAM_BYTES = 4096
MAX_STATUS_CHARACTERS = 200
# Datagrams read in one turn of the event loop: a child that floods its socket slows nobody but itself.
_MAX_DATAGRAMS_PER_TURN = 32

# Before a socket had a directory of its own it was NAME.sock beside the others.
_FORMER_SUFFIX = ".sock"

_FLAG_KEYS = frozenset({"READY", "STOPPING", "WATCHDOG", "RELOADING", "X_EPAD_SAVED"})
_PROGRESS = re.compile(r"([0-9]{1,15})/([0-9]{1,15})")
_BYTES = re.compile(r"[0-9]{1,15}")
_FIELD = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts finished work; a `total` of 0 is work without an end."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Notification:
    """Holds the content of one datagram. `malformed` counts the invalid lines."""

    ready: bool = False
    stopping: bool = False
    watchdog: bool = False
    status: str | None = None
    progress: Progress | None = None
    malformed: int = 0
    saved: bool = False
    vram_wanted: int | None = None


def parse_notification(datagram: bytes) -> Notification:
    """Read a datagram, whatever it holds. Fields of sd_notify(3) that mean nothing here are let pass."""
    if len(datagram) > MAX_DATAGRAM_BYTES:
        return Notification(malformed=1)
    flags: set[str] = set()
    status: str | None = None
    progress: Progress | None = None
    vram_wanted: int | None = None
    malformed = 0
    for line in datagram.decode(errors="replace").split("\n"):
        if not line:
            continue
        key, equals, value = line.partition("=")
        if not equals or not _FIELD.fullmatch(key):
            malformed += 1
        elif key in _FLAG_KEYS:
            flags.update([key] if value == "1" else [])
        elif key == "STATUS":
            status = _printable(value)
        elif key == "X_EPAD_PROGRESS":
            progress = _progress(value) or progress
            malformed += _progress(value) is None
        elif key == "X_EPAD_VRAM_WANTED":
            known = _BYTES.fullmatch(value)
            vram_wanted = int(known[0]) if known else vram_wanted
            malformed += known is None
    return Notification(
        "READY" in flags,
        "STOPPING" in flags,
        "WATCHDOG" in flags,
        status,
        progress,
        malformed,
        "X_EPAD_SAVED" in flags,
        vram_wanted,
    )


def _progress(value: str) -> Progress | None:
    match = _PROGRESS.fullmatch(value)
    return None if match is None else Progress(int(match[1]), int(match[2]))


def _printable(text: str) -> str:
    """Keep the printable characters; a status line must not be able to move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_STATUS_CHARACTERS])


class NotifySocket:
    """Receives one subsystem's datagrams, and hands each notification on as it arrives."""

    def __init__(
        self, path: Path, deliver: Callable[[Notification], None], log: FilteringBoundLogger
    ) -> None:
        self._path = path
        self._deliver = deliver
        self._log = log
        self._socket: socket.socket | None = None
        self._inode = 0
        self._owner: tuple[int, int] | None = None
        self.malformed = 0

    def open(self) -> None:
        """Bind the socket, in place of an earlier daemon's. Raises SupervisorError."""
        if len(os.fsencode(self._path)) > MAX_SOCKET_PATH_BYTES:
            raise SupervisorError(
                f"{self._path}: longer than the {MAX_SOCKET_PATH_BYTES} bytes of a socket's path; "
                "set daemon.runtime_directory to a shorter one"
            )
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            datagrams.setblocking(False)
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_the_place_of(self._path.parent.with_suffix(_FORMER_SUFFIX))
            self._look_whose_it_is()
            self._path.unlink(missing_ok=True)
            datagrams.bind(str(self._path))
            self._path.chmod(0o600)
            if self._owner is not None:
                os.chown(self._path, *self._owner, follow_symlinks=False)
            self._inode = self._path.stat().st_ino
        except OSError as error:
            datagrams.close()
            raise SupervisorError(f"{self._path}: {error.strerror}") from error
        self._socket = datagrams
        asyncio.get_running_loop().add_reader(datagrams.fileno(), self._receive)

    def _look_whose_it_is(self) -> None:
        """Remember whose the socket's file is: a root daemon has given it to the user whom the child runs as."""
        with suppress(OSError):
            status = self._path.lstat()
            if status.st_uid != os.geteuid():
                self._owner = status.st_uid, status.st_gid

    def _take_the_place_of(self, former: Path) -> None:
        """Lead the path that an earlier epad gave to a child, which may live, to the present socket. Raises OSError."""
        if former.is_socket() or former.is_symlink():
            former.unlink()
            former.symlink_to(self._path)

    def ensure(self) -> None:
        """Bind again if somebody has cleaned the file away. Raises SupervisorError."""
        try:
            present = self._path.stat().st_ino == self._inode
        except OSError:
            present = False
        if present:
            self._look_whose_it_is()
        if not present:
            self.close()
            self.open()

    def close(self) -> None:
        """Stop listening. The file stays: a child that writes meanwhile is refused, and goes on."""
        datagrams, self._socket = self._socket, None
        if datagrams is not None:
            asyncio.get_running_loop().remove_reader(datagrams.fileno())
            datagrams.close()

    def _receive(self) -> None:
        for _ in range(_MAX_DATAGRAMS_PER_TURN):
            if self._socket is None:
                return
            try:
                datagram = self._socket.recv(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                return
            except OSError as error:
                self._log.warning("notify.unreadable", path=str(self._path), error=str(error))
                return
            notification = parse_notification(datagram)
            self._count(notification.malformed)
            self._deliver(notification)

    def _count(self, malformed: int) -> None:
        """Count bad lines, and log each doubling of them: the log is not the child's to fill."""
        before, self.malformed = self.malformed, self.malformed + malformed
        if self.malformed.bit_length() > before.bit_length():
            self._log.warning("notify.malformed", path=str(self._path), lines=self.malformed)
