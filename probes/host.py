"""The machine itself: pressure on its memory, disk and CPUs, room for epad's state, its clock, epad's own loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from probes.bounds import Bound
from probes.loop_lag import LoopLag
from probes.probe import ProbeError
from probes.settings import EnforcedSettings
from statemachine.clock import Clock
from statemachine.finding import HOST, Finding, Severity
from statemachine.value_types import Count, Ratio, Seconds

NAME = "host"
NO_PRESSURE = (
    "this kernel keeps no pressure (PSI): want of memory is told by what is left of it alone; boot with psi=1"
)
# Of what must be left: where nothing tells of pressure, less than this is critical.
_NOTHING_LEFT = 0.25


class HostSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of trouble of the machine itself, or of the daemon on it.

    Free space is below a mark when it is so twice: as a share of the file system, and in bytes.
    """

    memory_warn_ratio: Ratio
    memory_limit_ratio: Ratio
    io_warn_ratio: Ratio
    cpu_warn_ratio: Ratio
    disk_warn_ratio: Ratio
    disk_warn_bytes: Count
    disk_limit_ratio: Ratio
    disk_limit_bytes: Count
    disk_critical_ratio: Ratio
    disk_critical_bytes: Count
    inodes_warn_ratio: Ratio
    inodes_limit_ratio: Ratio
    lag_seconds: Seconds
    lag_settle_seconds: Seconds
    available_warn_ratio: Ratio
    available_warn_bytes: Count

    BOUNDS: ClassVar[tuple[Bound, ...]] = (
        Bound("memory_warn_ratio", most="memory_limit_ratio"),
        Bound("disk_limit_ratio", most="disk_warn_ratio"),
        Bound("disk_limit_bytes", most="disk_warn_bytes"),
        Bound("disk_critical_ratio", most="disk_limit_ratio"),
        Bound("disk_critical_bytes", most="disk_limit_bytes"),
        Bound("inodes_limit_ratio", most="inodes_warn_ratio"),
    )


@dataclass(frozen=True, slots=True)
class Pressure:
    """PSI's averages of 10 s, as shares: `some` of the tasks waited, or none ran (`full`)."""

    some: float
    full: float


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system under the state directory; None inodes where it has no fixed number of them (btrfs)."""

    total_bytes: int
    free_bytes: int
    total_inodes: int | None
    free_inodes: int | None


@dataclass(frozen=True, slots=True)
class HostReading:
    """Holds one reading; `pressure` has cpu, memory and io, and is empty if the kernel keeps no PSI.

    `available_bytes` of `memory_bytes` could be had without swapping; None where the kernel does not tell.
    """

    pressure: Mapping[str, Pressure]
    disk: Disk
    memory_bytes: int | None = None
    available_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _Statement:
    severity: Severity
    reason: str
    value: float
    limit: float
    unit: str
    resource: str = ""


class Host:
    """States the worst of all that is watched; the rest is in the evidence."""

    def __init__(
        self,
        settings: HostSettings,
        *,
        read: Callable[[], Awaitable[HostReading]],
        lag: LoopLag,
        clock: Clock,
        blamed: Callable[[], str] = str,
    ) -> None:
        """`blamed` names the subsystem that took the memory that is short; then that one is to be held first."""
        self._settings = settings
        self._blamed = blamed
        self._read = read
        self._lag = lag
        self._clock = clock
        self._jumps: list[float] = []
        self._reading: tuple[HostReading, float] | None = None
        self._worst_lag = 0.0

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    @property
    def notice(self) -> str:
        """Name the readings that this machine lacks; empty if it has all."""
        reading = self._reading
        return NO_PRESSURE if reading is not None and "memory" not in reading[0].pressure else ""

    @property
    def worst_lag_seconds(self) -> float:
        """Return the worst delay of the loop before the last look."""
        return self._worst_lag

    def fresh_reading(self) -> HostReading | None:
        """Return the last reading if it is not older than two looks, else None."""
        if self._reading is None:
            return None
        reading, at = self._reading
        age = self._clock.monotonic() - at
        return reading if age <= 2 * self._settings.interval_seconds else None

    def clock_jumped(self, seconds: float) -> None:
        """Somebody set the wall clock; said with the next look."""
        self._jumps.append(seconds)

    async def sample(self) -> Sequence[Finding]:
        try:
            reading = await self._read()
        except OSError as error:
            raise ProbeError(f"{error.filename}: {error.strerror}") from error
        now = self._clock.monotonic()
        self._reading = (reading, now)
        self._worst_lag = self._lag.take_worst()
        jumps, self._jumps = self._jumps, []
        statements = [*_pressures(reading, self._settings), *_room(reading.disk, self._settings)]
        statements += _memory_left(reading, self._settings)
        if blamed := self._blamed():
            statements = [_excused(one, blamed) for one in statements]
        statements += [*self._lags(), *_clock_jumps(jumps)]
        worst = max(statements, key=lambda statement: statement.severity)
        troubles = [one for one in statements if one.severity > Severity.OK]
        short = {one.resource: one.severity.label for one in troubles if one.resource}
        reason = "; ".join(one.reason for one in sorted(troubles, key=lambda one: -one.severity))
        return [
            Finding(
                NAME,
                HOST,
                worst.severity,
                now,
                reason or worst.reason,
                value=worst.value,
                limit=worst.limit,
                unit=worst.unit,
                evidence={**_evidence(reading, self._worst_lag, jumps), "short": short},
            )
        ]

    def _lags(self) -> Iterator[_Statement]:
        limit = self._settings.lag_seconds
        if self._worst_lag >= limit:
            reason = f"epad's own loop was {self._worst_lag:.1f} s late: what it did not hear then counts for nothing"
            yield _Statement(Severity.WARNING, reason, self._worst_lag, limit, "seconds")


def _pressures(reading: HostReading, settings: HostSettings) -> Iterator[_Statement]:
    """Yield the statements on pressure.

    Only memory calls for action: a thrashing machine answers no one, a busy one works.

    It is critical at once: pausing expendable work is all that helps, and a moment later nothing does.
    """
    memory, io = reading.pressure.get("memory"), reading.pressure.get("io")
    cpu = reading.pressure.get("cpu")
    if memory is not None:
        severity, limit = Severity.OK, settings.memory_warn_ratio
        if memory.full >= settings.memory_warn_ratio:
            severity, limit = Severity.WARNING, settings.memory_limit_ratio
        if memory.full >= settings.memory_limit_ratio:
            severity = Severity.CRITICAL
        reason = f"for {memory.full:.0%} of the last 10 s nothing ran for want of memory"
        yield _Statement(severity, reason, memory.full, limit, "ratio", "memory")
    if io is not None and io.full >= settings.io_warn_ratio:
        reason = f"for {io.full:.0%} of the last 10 s everything waited for a disk"
        yield _Statement(Severity.WARNING, reason, io.full, settings.io_warn_ratio, "ratio", "io")
    if cpu is not None and cpu.some >= settings.cpu_warn_ratio:
        reason = f"for {cpu.some:.0%} of the last 10 s something waited for a CPU"
        yield _Statement(Severity.WARNING, reason, cpu.some, settings.cpu_warn_ratio, "ratio", "cpu")


def _memory_left(reading: HostReading, settings: HostSettings) -> Iterator[_Statement]:
    """Yield the statements on free memory: little is a warning only, since pressure tells if a process lacks it.

    Where the kernel keeps no pressure, next to nothing is as good as a want.
    """
    left, total = reading.available_bytes, reading.memory_bytes
    if left is None or total is None:
        return
    mark = min(settings.available_warn_ratio * total, settings.available_warn_bytes)
    if left < mark:
        blind = "memory" not in reading.pressure
        severity = Severity.CRITICAL if blind and left < _NOTHING_LEFT * mark else Severity.WARNING
        reason = f"{left >> 20} MiB of memory are left, of {total >> 20}"
        yield _Statement(severity, reason, left, mark, "bytes", "memory")


def _excused(statement: _Statement, blamed: str) -> _Statement:
    """The machine's want of memory, where one subsystem has taken it: told, and left to that one's own finding."""
    if statement.resource != "memory" or statement.severity is Severity.OK:
        return statement
    return replace(
        statement, severity=Severity.WARNING, reason=f"{statement.reason}; {blamed} has taken most of it"
    )


def _room(disk: Disk, settings: HostSettings) -> Iterator[_Statement]:
    """The smaller of both marks counts: 5 % of 4 TB is plenty, and so are 2 GiB of a 20 GiB disk."""
    marks = [
        (Severity.CRITICAL, settings.disk_critical_ratio, settings.disk_critical_bytes),
        (Severity.ANOMALY, settings.disk_limit_ratio, settings.disk_limit_bytes),
        (Severity.WARNING, settings.disk_warn_ratio, settings.disk_warn_bytes),
    ]
    bytes_of = [(severity, min(ratio * disk.total_bytes, size)) for severity, ratio, size in marks]
    severity, mark = next(
        (pair for pair in bytes_of if disk.free_bytes < pair[1]), (Severity.OK, bytes_of[-1][1])
    )
    reason = f"{disk.free_bytes >> 20} MiB are free for epad's state, of {disk.total_bytes >> 20}"
    yield _Statement(severity, reason, disk.free_bytes, mark, "bytes", "disk")
    if disk.total_inodes and disk.free_inodes is not None:
        share = disk.free_inodes / disk.total_inodes
        shares = [
            (Severity.ANOMALY, settings.inodes_limit_ratio),
            (Severity.WARNING, settings.inodes_warn_ratio),
        ]
        for level, limit in shares:
            if share < limit:
                reason = f"{disk.free_inodes} inodes are free for epad's state, of {disk.total_inodes}"
                yield _Statement(level, reason, share, limit, "ratio", "disk")
                break


def _clock_jumps(jumps: Sequence[float]) -> Iterator[_Statement]:
    if jumps:
        reason = f"the wall clock was set by {sum(jumps):+.0f} s: stamps before and after do not compare"
        yield _Statement(Severity.WARNING, reason, sum(jumps), 0.0, "seconds")


def _evidence(reading: HostReading, lag: float, jumps: Sequence[float]) -> dict[str, Any]:
    disk = reading.disk
    return {
        "pressure": {
            name: {"some": round(one.some, 4), "full": round(one.full, 4)}
            for name, one in reading.pressure.items()
        },
        "memory_bytes": reading.memory_bytes,
        "available_bytes": reading.available_bytes,
        "disk_free_bytes": disk.free_bytes,
        "disk_total_bytes": disk.total_bytes,
        "free_inodes": disk.free_inodes,
        "lag_seconds": round(lag, 3),
        "clock_jumped_seconds": round(sum(jumps), 3),
    }
