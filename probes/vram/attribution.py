"""Attribute the memory of a GPU: to subsystems, to strangers, or to no one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from probes.vram import GpuReading
from probes.vram.growth import Growth
from probes.vram.trace import Point, Trace

OwnerOf = Callable[[int], str | None]
"""The subsystem that a process belongs to; None for a stranger's."""

FOREIGN = "(foreign)"
UNATTRIBUTED = "(unattributed)"
# What grew by less than this share of the card is not to blame for its being full.
LEAST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class GpuState:
    """Holds a reading and its meaning: the owners, the growth, and the time until the card is full.

    `grown` has the bytes that each owner gained within the window, FOREIGN and UNATTRIBUTED among them.
    """

    reading: GpuReading
    subsystems: Mapping[str, int]
    foreign_bytes: int
    grown: Mapping[str, int]
    grown_seconds: float
    bytes_per_second: float | None
    trace: tuple[Point, ...] = ()

    @property
    def exhaustion_seconds(self) -> float | None:
        """Return the seconds until nothing is free at this growth; None if it does not grow, or is not known."""
        if self.bytes_per_second is None or self.bytes_per_second <= 0:
            return None
        return self.reading.free_bytes / self.bytes_per_second

    @property
    def culprit(self) -> str | None:
        """Return the subsystem that gained most within the window, of those that gained much; None if none did."""
        name = max(self.grown, key=self.grown.__getitem__, default=None)
        if name is None or self.grown[name] < LEAST_SHARE * self.reading.total_bytes:
            return None
        return name


def owners(reading: GpuReading, owner_of: OwnerOf) -> dict[str, int]:
    """Return bytes by owner, FOREIGN and UNATTRIBUTED among them where they are known."""
    held: dict[str, int] = {}
    for process in reading.processes or ():
        name = owner_of(process.pid) or FOREIGN
        held[name] = held.get(name, 0) + (process.used_bytes or 0)
    if reading.unattributed_bytes is not None:
        held[UNATTRIBUTED] = reading.unattributed_bytes
    return held


class GpuHistory:
    """Follows one GPU over time."""

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._total = Growth(window_seconds)
        self._by_owner: dict[str, Growth] = {}
        self._last_at: float | None = None
        self._trace = Trace()

    def add(self, reading: GpuReading, owner_of: OwnerOf) -> GpuState:
        """Take in a reading, and return its meaning."""
        held = owners(reading, owner_of)
        self._total.add(reading.at, reading.used_bytes)
        self._trace.add(reading.at, reading.used_bytes)
        for name in held.keys() - self._by_owner.keys():
            self._by_owner[name] = Growth(self._window_seconds)
            if self._last_at is not None:  # it was not here a moment ago: all that it has, it gained
                self._by_owner[name].add(self._last_at, 0)
        for name, growth in self._by_owner.items():
            growth.add(reading.at, held.get(name, 0))
        grown = {name: int(growth.grown) for name, growth in self._by_owner.items()}
        self._by_owner = {n: g for n, g in self._by_owner.items() if n in held or g.grown}
        self._last_at = reading.at
        return GpuState(
            reading=reading,
            subsystems={n: held[n] for n in sorted(held.keys() - {FOREIGN, UNATTRIBUTED})},
            foreign_bytes=held.get(FOREIGN, 0),
            grown=grown,
            grown_seconds=self._total.seconds,
            bytes_per_second=self._total.per_second,
            trace=self._trace.points,
        )

    def forget(self, subsystem: str) -> None:
        """Forget the growth of a released subsystem, so that it begins afresh."""
        if subsystem in self._by_owner:
            self._by_owner[subsystem] = Growth(self._window_seconds)
