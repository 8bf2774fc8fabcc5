"""Processes that connect to a Unix socket; some hand the connection on and end, and another gets their number."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

_CLONE3 = 435
_CONNECT = """
import os, socket, sys
if sys.argv[2] != "-":
    os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
one = socket.socket(socket.AF_UNIX); one.connect(sys.argv[1])
one.send(b"%d" % os.getpid())
if sys.argv[3] == "handed on":
    if os.fork():
        os._exit(0)
os.read(0, 1)
"""


@dataclass
class Peer:
    """A connection as it was accepted, when, and the process that made it."""

    connection: socket.socket
    accepted_at: float
    pid: int
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def peer(directory: Path, *, uid: int | None = None, handed_on: bool = False) -> Iterator[Peer]:
    """A process that has connected; `handed_on`: its child has the connection too, and it has ended."""
    path = directory / "peer.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o666)
        listening.listen()
        command = [sys.executable, "-S", "-c", _CONNECT, str(path), "-" if uid is None else str(uid)]
        # In nobody's session: a number that is one's is given to no other process while that session lasts.
        process = subprocess.Popen([*command, "handed on" if handed_on else ""], stdin=subprocess.PIPE)
        connection, _ = listening.accept()
    accepted_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    pid = int(connection.recv(20))
    try:
        if handed_on:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it is dead, and its number still taken
        yield Peer(connection, accepted_at, pid, process)
    finally:
        connection.close()
        process.communicate()  # its input ends, and its child's


def can_choose_pids() -> bool:
    """Whether the kernel lets this process choose its child's number: root may."""
    return os.geteuid() == 0


class _CloneArguments(ctypes.Structure):
    """clone3(2), up to the numbers that are chosen."""

    _fields_: ClassVar = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls"),
            *("set_tid", "set_tid_size"),
        )
    ]


@contextlib.contextmanager
def process_numbered(pid: int) -> Iterator[None]:
    """A process with this number, which nobody has now; as after a turn through all numbers. Raises OSError."""
    numbers = (ctypes.c_int * 1)(pid)
    asked = _CloneArguments(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(numbers), set_tid_size=1)
    libc = ctypes.CDLL(None, use_errno=True)
    made = libc.syscall(_CLONE3, ctypes.byref(asked), ctypes.sizeof(asked))
    if made == 0:
        while True:
            signal.pause()
    if made < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        assert made == pid
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
