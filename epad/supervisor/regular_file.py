"""Opening a file where a child can have put something else: it may write to the directory of the logs.

A link would lead to somebody else's file, and opening a pipe waits for its other end, with all that the log pump or the
daemon does. Imports the standard library alone, as the pump does.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file, if one is there: no symbolic link is followed, no pipe waited for.

    Raises OSError for anything else.
    """
    file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file")
    return file


def require_one_name(file: int) -> None:
    """Refuse a file with a second name, by OSError: a change to it would change another's file."""
    if os.fstat(file).st_nlink > 1:
        raise OSError(errno.EMLINK, "it has another name as well")
