"""Read the processes of the host from /proc: their names and what they use, and neither command line nor environment.

The kernel decides whose processes are seen: with `hidepid` others' are not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec

# Fields of /proc/PID/stat, counted from the one behind the name.
_USER_TICKS: Final = 11
_SYSTEM_TICKS: Final = 12
_RESIDENT_PAGES: Final = 21
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Process(msgspec.Struct, frozen=True):
    """Describes one process: `cpu` in seconds since it began, `rss` in bytes."""

    pid: int
    name: str
    cpu: float
    rss: int


def processes() -> Iterator[Process]:
    """Yield every process that is seen and that is there still while it is read."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                yield parse(file.read())


def parse(stat: bytes) -> Process:
    """Read a line of /proc/PID/stat. The name stands in brackets, and may have brackets and spaces itself."""
    pid, _, rest = stat.partition(b" (")
    name, _, fields = rest.rpartition(b") ")
    values = fields.split()
    ticks = int(values[_USER_TICKS]) + int(values[_SYSTEM_TICKS])
    shown = "".join(each if each.isprintable() else "?" for each in name.decode(errors="replace"))
    return Process(int(pid), shown, round(ticks / _TICKS, 2), int(values[_RESIDENT_PAGES]) * _PAGE)
