"""Giving memory back to the system after a burst, with glibc's own means; elsewhere nothing is done.

By default, glibc raises the size from which a block has its own pages each time one is freed, up to 32 MiB: after the
first large body all others come from a heap, which keeps the memory below its last block in use.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_OWN_PAGES_BYTES = 512 << 10


def give_large_blocks_back() -> None:
    """From now on a freed block of half a MiB or more goes back to the system at once."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_BYTES)


def share_one_heap() -> None:
    """Threads begun from now on allocate from one heap: a heap each came to 3 MiB for the daemon's six threads.

    They hold Python's lock most of the time, so they seldom wait for each other here.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Give the free memory within the heaps back to the system; takes some milliseconds after a burst."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
