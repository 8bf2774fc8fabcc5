"""Check a program before it is started: its file, its directory, its log."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import termios
import time
from array import array
from contextlib import suppress
from pathlib import Path

from epad.supervisor.engine import Launch
from epad.supervisor.errors import SpawnError

PIPE_SUFFIX = ".pipe"
# So much a child may print before it waits, while there is no log pump.
PIPE_BYTES = 1 << 20
# Reading a full pipe takes a pump a few milliseconds, and so does writing the block that it has read last.
READ_SECONDS = 0.5
_WRITE_SECONDS = 0.05


def find_program(launch: Launch) -> str:
    """Return the program's path as exec would find it. Raises SpawnError: trying again cannot help."""
    if not launch.directory.is_dir():
        raise SpawnError(f"directory {launch.directory}: No such file or directory", permanent=True)
    name = launch.command[0]
    if any("\0" in word for word in (*launch.command, *launch.environment.values())):
        raise SpawnError(f"{name}: embedded null byte", permanent=True)
    place = str(launch.directory / name) if "/" in name else name
    found = shutil.which(place, path=launch.environment.get("PATH", os.defpath))
    if found is not None:
        return found if "/" not in name else place
    if "/" in name and Path(place).exists():
        raise SpawnError(f"command {name!r} is not executable", permanent=True)
    raise SpawnError(f"command {name!r} is not found", permanent=True)


def log_path(path: Path) -> Path:
    """Return a path that output can be written to: this file or pipe, else nothing. A log is no reason not to run."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(open_log(path))
        return path
    return Path(os.devnull)


def open_log(path: Path) -> int:
    """Open a child's output: a file to append to, or the named pipe of the log pump. Raises OSError.

    The child gets both ends of a pipe in one: it can neither break nor end, whatever becomes of the pump.
    """
    if path.suffix != PIPE_SUFFIX:
        # That changes nothing for who writes to a file; but opening a pipe would wait for somebody who reads it.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW, 0o600)
    pipe = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW)
    if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
        os.close(pipe)
        raise OSError(errno.EINVAL, "it is no pipe")
    with suppress(OSError):  # a user's pipes may be this large together, and no larger
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return pipe


def make_pipe(path: Path) -> bool:
    """Make the named pipe of a log, if it is not there; False where there can be none, for want of room too."""
    with suppress(OSError):
        if is_pipe(path):
            return True
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        return True
    return False


def wait_until_read(path: Path, seconds: float = READ_SECONDS) -> None:
    """Wait until the log pump has read a pipe's content and written it: this long at most; not where there is none."""
    with suppress(OSError):
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            deadline = time.monotonic() + seconds
            while _waiting(pipe) and time.monotonic() < deadline:
                time.sleep(_WRITE_SECONDS / 10)
            time.sleep(_WRITE_SECONDS)
        finally:
            os.close(pipe)


def _waiting(pipe: int) -> int:
    """Return how many bytes wait in a pipe. Raises OSError for any other file."""
    count = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def is_pipe(path: Path) -> bool:
    """Say whether a named pipe lies there."""
    with suppress(OSError):
        return stat.S_ISFIFO(path.lstat().st_mode)
    return False
