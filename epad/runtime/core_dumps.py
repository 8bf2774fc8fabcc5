"""Keep this process's memory out of core dumps, and from other processes of its user: keys and secrets are in it.

A limit of size would not do: the kernel ignores RLIMIT_CORE where dumps go to a program, and children inherit it.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_PR_SET_DUMPABLE = 4
_PR_GET_DUMPABLE = 3


def forbid() -> bool:
    """From now on no core of this process is written; a program that it starts is as before. Tell if that is so."""
    with suppress(AttributeError, OSError):
        kernel = ctypes.CDLL(None)
        kernel.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        return bool(kernel.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)
    return False
