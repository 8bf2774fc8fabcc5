"""Lock a state directory: a daemon, a restore and a relaunch hold it, one of them at a time.

The lock is on a file in the directory and on the directory itself. The file alone would not do: whoever tidies up locks
deletes it beside a running daemon, and the next start would lock a new one and write to the same ledger. An epad from
before the second lock takes the first alone, so both are held and both are asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

LOCK_FILE = "daemon.lock"


@contextlib.contextmanager
def locked(state: os.PathLike[str] | str, *, make: bool = True) -> Iterator[None]:
    """Hold the lock; without `make` a file that is not there is not made.

    Raises BlockingIOError where another holds it, OSError where it cannot be asked for.
    """
    with contextlib.ExitStack() as stack:
        for descriptor in _opened(state, stack, os.O_RDWR | (os.O_CREAT if make else 0)):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def is_locked(state: os.PathLike[str] | str) -> bool:
    """Tell if a daemon holds its state directory, without making anything. Raises OSError where that cannot be told."""
    with contextlib.ExitStack() as stack:
        try:
            for descriptor in _opened(state, stack, os.O_RDONLY):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _opened(state: os.PathLike[str] | str, stack: contextlib.ExitStack, flags: int) -> Iterator[int]:
    """Open the file and the directory, as far as they are there."""
    for path, how in ((os.path.join(state, LOCK_FILE), flags), (state, os.O_RDONLY)):  # noqa: PTH118 - imported by epactl
        try:
            descriptor = os.open(path, how | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            if how & os.O_CREAT:
                raise
            continue
        stack.callback(os.close, descriptor)
        yield descriptor
