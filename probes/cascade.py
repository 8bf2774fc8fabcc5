"""Crashes that do not stay alone: one subsystem that keeps crashing, or several that crash together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probes.probe import Push
from probes.subsystems import SubsystemExited
from statemachine.clock import Clock
from statemachine.finding import HOST, Finding, Severity

NAME = "cascade"
MAX_REMEMBERED = 256
"""How many crashes of one subsystem are remembered; the count it shows ends there."""


@dataclass(frozen=True, slots=True)
class CascadeThresholds:
    """How many crashes are too many. Raises ValueError for what could never be reached."""

    interval_seconds: float = 1.0
    window_seconds: float = 60.0
    crashes: int = 3
    subsystems: int = 2

    def __post_init__(self) -> None:
        for key in ("interval_seconds", "window_seconds"):
            if getattr(self, key) <= 0:
                raise ValueError(f"probes.cascade.{key} must be above 0")
        if not 1 <= self.crashes <= MAX_REMEMBERED:
            raise ValueError(
                f"probes.cascade.crashes ({self.crashes}) must be from 1 to {MAX_REMEMBERED}: "
                "no more crashes of one subsystem are remembered"
            )
        if self.subsystems < 2:
            raise ValueError("probes.cascade.subsystems must be 2 or more: one alone is no cascade")


@dataclass(slots=True)
class _Track:
    """The crashes of one subsystem within the window, oldest first."""

    crashed_at: deque[float]
    last_status: str = ""
    given_up: bool = False

    def drop(self, horizon: float) -> None:
        while self.crashed_at and self.crashed_at[0] <= horizon:
            self.crashed_at.popleft()


def exited_cleanly(event: SubsystemExited) -> bool:
    """Whether a process ended by itself because its work was done: no failure, and no restart wanted."""
    return event.status == "exit 0" and not event.will_restart


class Cascade:
    """Told about every exit; states at once what crashes too often, gives up, or pulls others along.

    Exits that the daemon wanted, and those that `completed` says were the end of the work, are no crashes.
    """

    def __init__(
        self,
        thresholds: CascadeThresholds,
        *,
        clock: Clock,
        push: Push,
        completed: Callable[[SubsystemExited], bool] = exited_cleanly,
    ) -> None:
        self._thresholds = thresholds
        self._clock = clock
        self._push = push
        self._completed = completed
        self._tracks: dict[str, _Track] = {}

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._thresholds.interval_seconds

    def exited(self, event: SubsystemExited) -> None:
        if event.wanted or self._completed(event):
            return
        track = self._tracks.setdefault(event.subsystem, _Track(deque(maxlen=MAX_REMEMBERED)))
        track.crashed_at.append(event.at)
        track.last_status = event.status
        track.given_up = not event.will_restart
        self._drop(event.at)
        if track.given_up or len(track.crashed_at) >= self._thresholds.crashes:
            self._push(self._crashing(event, track))
        crashed = self._crashed()
        if len(crashed) >= self._thresholds.subsystems:
            self._push(self._together(crashed, event.at))

    async def sample(self) -> Sequence[Finding]:
        """Say what has become quiet. What is not quiet was stated when it happened."""
        now = self._clock.monotonic()
        self._drop(now)
        seconds = self._thresholds.window_seconds
        quiet = [name for name, t in self._tracks.items() if not t.crashed_at and not t.given_up]
        for name in quiet:
            del self._tracks[name]
        if len(self._crashed()) < self._thresholds.subsystems:
            quiet.append(HOST)
        return [Finding(NAME, name, Severity.OK, now, f"quiet for {seconds:.0f} s") for name in quiet]

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released: its former crashes count no more."""
        self._tracks.pop(subsystem, None)

    def _drop(self, now: float) -> None:
        for track in self._tracks.values():
            track.drop(now - self._thresholds.window_seconds)

    def _crashed(self) -> list[tuple[float, str]]:
        """When each subsystem that crashed within the window did so first; first crash first."""
        return sorted((t.crashed_at[0], name) for name, t in self._tracks.items() if t.crashed_at)

    def _crashing(self, event: SubsystemExited, track: _Track) -> Finding:
        count, seconds = len(track.crashed_at), self._thresholds.window_seconds
        reason = f"crashed {count} times in {seconds:.0f} s, last with {event.status}"
        if track.given_up:
            reason = f"it ended with {event.status} and is not restarted: {event.reason}"
        return Finding(
            NAME,
            event.subsystem,
            Severity.ANOMALY,
            event.at,
            reason,
            value=count,
            limit=self._thresholds.crashes,
            unit="crashes",
            evidence={"status": event.status, "crashes": count, "given_up": track.given_up},
            hard=True,
        )

    def _together(self, crashed: list[tuple[float, str]], at: float) -> Finding:
        names = [name for _, name in crashed]
        return Finding(
            NAME,
            HOST,
            Severity.CRITICAL,
            at,
            f"{len(names)} subsystems crashed within {self._thresholds.window_seconds:.0f} s, "
            f"{names[0]} first: {', '.join(names)}",
            value=len(names),
            limit=self._thresholds.subsystems,
            unit="subsystems",
            evidence={
                "subsystems": names,
                "first_crashes": {name: first for first, name in crashed},
                "statuses": {name: self._tracks[name].last_status for name in names},
            },
            hard=True,
        )
