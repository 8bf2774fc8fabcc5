"""Exit statuses."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Names the exit statuses."""

    OK = 0
    FAILED = 1
    USAGE = 2
    OTHER_SETTINGS = 4
    NOT_REPORTABLE = 5
    PAUSED = 6
    INTERRUPTED = 130


STOPPED = "stopped; the same command goes on from there"
"""What Ctrl-C is answered with."""
