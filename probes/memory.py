"""Compare each subsystem's memory with its own limits, and with the machine's remaining memory.

Only memory that the processes themselves would have to give back counts: anonymous and shared memory, and their part of
the swap. Page cache and mapped files (a model's weights) are the kernel's to drop, and count for no one.

- above `memory_max`, without a control group to hold it: stopped, since a frozen process keeps its memory.
- above `memory_high` for a while: throttled at the gateway.
- the machine has next to nothing left, and one subsystem has taken most of the loss: it is frozen, which ends the
  growth and loses nothing; stopped once even that is too late.
- a forecast alone warns: a model that is loaded grows fast, and then stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from probes.all_clear import AllClear
from probes.bounds import TWO_INTERVALS, Bound
from probes.probe import ProbeError
from probes.settings import EnforcedSettings
from probes.vram.growth import Growth
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung
from statemachine.value_types import Count, Ratio, Seconds

NAME = "memory"
URGENT_SECONDS = 1.0
"""Between two looks while a limit is near."""
_URGENT_INTERVALS = 6
# What grew by less than this within the window is not looked at for its slope.
_LEAST_GROWTH_BYTES = 64 << 20
# Who has taken this share of what the machine lost within the window is to blame for it.
_CULPRITS_SHARE = 0.5
# It stays so until the machine has this many times what it must have left.
_EASED = 2.0
# At the one share of it there is no time for a second look; at the other, to freeze it alone helps no more.
_HARD_SHARE = 0.5
_CRITICAL_SHARE = 0.25


class MemorySettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of memory: of one subsystem, and of the machine's last reserve."""

    growth_window_seconds: Seconds
    exhaustion_seconds: Seconds
    warn_ratio: Ratio
    high_seconds: Seconds
    available_limit_ratio: Ratio
    available_limit_bytes: Count

    BOUNDS: ClassVar[tuple[Bound, ...]] = (
        Bound("growth_window_seconds", least=TWO_INTERVALS, why="one look shows no growth"),
    )

    def floor_bytes(self, total_bytes: int) -> int:
        """Return the memory the machine must keep free: the smaller of both marks, as for the disk."""
        return int(min(self.available_limit_ratio * total_bytes, self.available_limit_bytes))


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """Holds the limits of one subsystem; 0 is no limit."""

    max_bytes: int = 0
    high_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Holds the memory in use by the processes of one subsystem.

    `cpu_seconds` never falls; `cpu_cores` is how many it has kept busy since the look before, None at the first.
    `kernel_max_bytes` is where a control group ends it; 0 where none does.
    """

    memory_bytes: int
    cpu_seconds: float
    processes: int
    cpu_cores: float | None = None
    kernel_max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Holds the machine's memory, and the part of it available without swapping."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Holds one look at all of it; `host` is None if the kernel does not report it."""

    footprints: Mapping[str, Footprint] = field(default_factory=dict)
    host: HostMemory | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Describes the trouble with one subsystem's memory, and its rung; None: the probe's own."""

    severity: Severity
    reason: str
    value: int
    limit: int
    rung: Rung | None = None
    hard: bool = False


@dataclass(slots=True)
class _Track:
    growth: Growth
    high_since: float | None = None
    last: tuple[float, int] | None = None
    rate: float = 0.0

    def add(self, at: float, value: int) -> None:
        if self.last is not None and at > self.last[0]:
            self.rate = (value - self.last[1]) / (at - self.last[0])
        self.last = (at, value)
        self.growth.add(at, value)


class Memory:
    """Looks at every subsystem's processes, and at the machine, on schedule; sooner while a limit is near."""

    def __init__(
        self,
        settings: MemorySettings,
        *,
        read: Callable[[], Awaitable[MemoryReading]],
        limits: Callable[[str], MemoryLimits],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._read = read
        self._limits = limits
        self._clock = clock
        self._tracks: dict[str, _Track] = {}
        self._used = Growth(settings.growth_window_seconds)
        self._reading = MemoryReading()
        self._read_at = float("-inf")
        self._blamed = ""
        self._urgent = False
        self._all_clear = AllClear()

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        slow = self._settings.interval_seconds
        return min(slow, URGENT_SECONDS) if self._urgent else slow

    @property
    def blamed(self) -> str:
        """Return the subsystem that took the memory the machine lacks; empty if none did or none is lacking."""
        return self._blamed

    def footprints(self) -> Mapping[str, Footprint]:
        """Return the memory of each subsystem, if the last look is not older than two looks."""
        age = self._clock.monotonic() - self._read_at
        return self._reading.footprints if age <= 2 * self._settings.interval_seconds else {}

    def forget(self, subsystem: str) -> None:
        """Forget the growth of a released subsystem, so that it begins afresh."""
        if subsystem in self._tracks:
            self._tracks[subsystem].growth = Growth(self._settings.growth_window_seconds)
        if self._blamed == subsystem:
            self._blamed = ""

    async def sample(self) -> Sequence[Finding]:
        try:
            reading = await self._read()
        except OSError as error:
            raise ProbeError(f"{error.filename}: {error.strerror}") from error
        now = self._clock.monotonic()
        self._take_in(reading, now)
        self._blame(reading.host)
        self._all_clear.keep(reading.footprints.keys())
        return list(self._findings(reading, now))

    def _take_in(self, reading: MemoryReading, now: float) -> None:
        looked_before = now - self._read_at <= 2 * self._settings.interval_seconds
        self._reading, self._read_at = reading, now
        self._tracks = {name: track for name, track in self._tracks.items() if name in reading.footprints}
        for name, footprint in reading.footprints.items():
            track = self._tracks.get(name)
            if track is None:
                track = self._tracks[name] = _Track(Growth(self._settings.growth_window_seconds))
                if looked_before:  # it was not here a moment ago: all that it has, it gained
                    track.add(now - self._settings.interval_seconds, 0)
            track.add(now, footprint.memory_bytes)
            high = self._limits(name).high_bytes
            above = bool(high) and footprint.memory_bytes > high
            track.high_since = (now if track.high_since is None else track.high_since) if above else None
        if reading.host is not None:
            self._used.add(now, reading.host.total_bytes - reading.host.available_bytes)

    def _blame(self, host: HostMemory | None) -> None:
        """Name the subsystem that took most of the machine's loss, once almost nothing is left."""
        self._urgent = self._is_urgent(host)
        if host is None:
            self._blamed = ""
            return
        floor = self._settings.floor_bytes(host.total_bytes)
        if host.available_bytes > _EASED * floor:
            self._blamed = ""
        if self._blamed in self._tracks:
            return
        self._blamed = ""
        grown = {name: track.growth.grown for name, track in self._tracks.items()}
        worst = max(grown, key=grown.__getitem__, default="")
        # One look more at the present pace: nearer than that it may be over before the next.
        pace = max(0.0, self._tracks[worst].rate) if worst else 0.0
        left = host.available_bytes - URGENT_SECONDS * pace
        lost = max(self._used.grown, 1.0)
        if worst and left <= floor and grown[worst] >= max(_CULPRITS_SHARE * lost, _LEAST_GROWTH_BYTES):
            self._blamed = worst

    def _is_urgent(self, host: HostMemory | None) -> bool:
        """Tell if a limit may be reached within the next few looks."""
        seconds = _URGENT_INTERVALS * self._settings.interval_seconds
        if host is not None and host.available_bytes <= _EASED * self._settings.floor_bytes(host.total_bytes):
            return True
        for name, track in self._tracks.items():
            rooms = [limit - self._reading.footprints[name].memory_bytes for limit in self._own_limits(name)]
            if host is not None:
                rooms.append(host.available_bytes)
            if track.rate > 0 and any(room <= track.rate * seconds for room in rooms):
                return True
            if any(room <= 0 for room in rooms):
                return True
        return False

    def _own_limits(self, name: str) -> list[int]:
        footprint, most = self._reading.footprints[name], self._limits(name).max_bytes
        return [most] if most and not _is_held(footprint, self._limits(name)) else []

    def _findings(self, reading: MemoryReading, now: float) -> Iterator[Finding]:
        for name, footprint in reading.footprints.items():
            trouble = self._judge(name, footprint, reading.host, now)
            if not self._all_clear.is_news(name, well=trouble is None):
                continue
            if trouble is None:
                reason = f"takes {in_words(footprint.memory_bytes)}"
                yield Finding(NAME, name, Severity.OK, now, reason, footprint.memory_bytes, unit="bytes")
                continue
            yield Finding(
                NAME,
                name,
                trouble.severity,
                now,
                trouble.reason,
                value=trouble.value,
                limit=trouble.limit,
                unit="bytes",
                evidence={
                    "memory_bytes": footprint.memory_bytes,
                    "processes": footprint.processes,
                    "grown_bytes": int(self._tracks[name].growth.grown),
                    "grown_seconds": round(self._tracks[name].growth.seconds, 1),
                    "available_bytes": reading.host.available_bytes if reading.host else None,
                },
                hard=trouble.hard,
                rung=trouble.rung,
            )

    def _judge(self, name: str, footprint: Footprint, host: HostMemory | None, now: float) -> Trouble | None:
        """Return the gravest thing that is wrong with it; None if nothing is."""
        limits, taken = self._limits(name), footprint.memory_bytes
        takes = f"takes {in_words(taken)}"
        if limits.max_bytes and taken > limits.max_bytes and not _is_held(footprint, limits):
            reason = (
                f"{takes}, above its memory_max of {in_words(limits.max_bytes)}; stopped, it gives it back"
            )
            return Trouble(Severity.ANOMALY, reason, taken, limits.max_bytes)
        if name == self._blamed and host is not None:
            return self._starves_the_host(name, takes, host)
        since = self._tracks[name].high_since
        if since is not None and now - since >= self._settings.high_seconds:
            reason = (
                f"{takes}, for {now - since:.0f} s above its memory_high of {in_words(limits.high_bytes)}"
            )
            return Trouble(Severity.ANOMALY, reason, taken, limits.high_bytes, Rung.THROTTLE)
        return self._forecast(name, footprint, host, takes)

    def _starves_the_host(self, name: str, takes: str, host: HostMemory) -> Trouble:
        floor, track = self._settings.floor_bytes(host.total_bytes), self._tracks[name]
        left = host.available_bytes
        gained = f"{in_words(int(track.growth.grown))} of it gained in {track.growth.seconds:.0f} s"
        reason = f"{takes}, {gained}, and the machine has {in_words(left)} left"
        if left <= _CRITICAL_SHARE * floor:
            return Trouble(
                Severity.ANOMALY, f"{reason}; stopped, it gives it back", left, floor, Rung.STOP, hard=True
            )
        hard = left <= _HARD_SHARE * floor
        return Trouble(
            Severity.ANOMALY, f"{reason}; frozen, it takes no more", left, floor, Rung.FREEZE, hard
        )

    def _forecast(
        self, name: str, footprint: Footprint, host: HostMemory | None, takes: str
    ) -> Trouble | None:
        """A warning: it will reach its limit, or the machine's end, at this rate; or it is just below its limit."""
        limits, taken, track = self._limits(name), footprint.memory_bytes, self._tracks[name]
        if limits.max_bytes and taken >= self._settings.warn_ratio * limits.max_bytes:
            ends = ", and is ended by the kernel there" if _is_held(footprint, limits) else ""
            reason = f"{takes} of its memory_max of {in_words(limits.max_bytes)}{ends}"
            return Trouble(Severity.WARNING, reason, taken, limits.max_bytes)
        if track.growth.grown < _LEAST_GROWTH_BYTES or not (rate := track.growth.per_second) or rate <= 0:
            return None
        rooms = [(limits.max_bytes - taken, "its memory_max")] if limits.max_bytes else []
        if host is not None:
            rooms.append((host.available_bytes, "the machine's memory"))
        if not rooms:
            return None
        room, what = min(rooms)
        if room / rate > self._settings.exhaustion_seconds:
            return None
        reason = (
            f"{takes} and grows by {in_words(int(rate * 60))} a minute: {what} is full in {room / rate:.0f} s"
        )
        return Trouble(Severity.WARNING, reason, taken, taken + room)


def _is_held(footprint: Footprint, limits: MemoryLimits) -> bool:
    """Tell if the kernel holds the limit; one that was lowered after the start is not in force there yet."""
    return 0 < footprint.kernel_max_bytes <= limits.max_bytes


def in_words(size: int) -> str:
    """Return a size as people say it, in binary units."""
    if size >= 1 << 30:
        return f"{size / (1 << 30):.1f} GiB"
    return f"{size >> 20} MiB"
