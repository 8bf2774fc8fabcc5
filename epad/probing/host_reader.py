"""Read the kernel's facts about the machine: pressure, the room under a directory, and our own loop's delay."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from epad.runtime.timers import sleep_to_beat
from probes.host import Disk, HostReading, Pressure
from probes.loop_lag import LoopLag

RESOURCES = ("cpu", "memory", "io")

Lagged = Callable[[float], None]


class HostReader:
    """Reads pressure and room; in a thread, for a directory may lie on a server that does not answer."""

    def __init__(self, directory: Path, proc: Path = Path("/proc")) -> None:
        self._directory = directory
        self._proc = proc

    async def read(self) -> HostReading:
        """Look once. Raises OSError where the directory cannot be looked at."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> HostReading:
        memory = self._memory()
        return HostReading(dict(self._pressures()), disk_of(self._directory), *memory)

    def _memory(self) -> tuple[int, int] | tuple[None, None]:
        with suppress(OSError):
            text = (self._proc / "meminfo").read_text()
            found = dict(re.findall(r"^(MemTotal|MemAvailable): +(\d+) kB", text, re.MULTILINE))
            if len(found) == 2:
                return int(found["MemTotal"]) << 10, int(found["MemAvailable"]) << 10
        return None, None

    def _pressures(self) -> Iterator[tuple[str, Pressure]]:
        for resource in RESOURCES:
            with suppress(OSError, ValueError):  # a kernel without PSI, or with psi=0
                yield resource, parse_pressure((self._proc / "pressure" / resource).read_text())


def parse_pressure(text: str) -> Pressure:
    """Read one file of /proc/pressure. Raises ValueError. A kernel before 5.13 has no "full" for the CPU."""
    shares = {
        kind: float(share) / 100
        for kind, share in re.findall(r"^(some|full) avg10=([0-9.]+)", text, re.MULTILINE)
    }
    if "some" not in shares:
        raise ValueError("no line of some")
    return Pressure(shares["some"], shares.get("full", 0.0))


def disk_of(directory: Path) -> Disk:
    """Return the room under a directory, as far as it is the daemon's own to use."""
    found = os.statvfs(directory)
    return Disk(
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        total_inodes=found.f_files or None,
        free_inodes=found.f_favail if found.f_files else None,
    )


async def watch_lag(lag: LoopLag, lagged: Lagged) -> None:
    """Beat for ever, and say when a beat came too late."""
    while True:
        ended = lag.beat()
        if ended is not None:
            lagged(ended.seconds)
        await sleep_to_beat(lag.beat_seconds)
