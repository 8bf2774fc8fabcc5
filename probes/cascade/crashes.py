"""The crashes of each subsystem within a window of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from probes.subsystems import SubsystemExited

MAX_REMEMBERED = 256
"""How many crashes of one subsystem are remembered; the count it shows ends there."""


@dataclass(slots=True)
class CrashTrack:
    """The crashes of one subsystem, oldest first, and how the last one was."""

    last: SubsystemExited
    crashed_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_REMEMBERED))

    @property
    def given_up(self) -> bool:
        return not self.last.will_restart


class Crashes:
    """Counts crashes; what the window has left behind is dropped."""

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._tracks: dict[str, CrashTrack] = {}

    def __len__(self) -> int:
        """How many crashes are remembered, of all subsystems."""
        return sum(len(track.crashed_at) for track in self._tracks.values())

    def add(self, event: SubsystemExited) -> CrashTrack:
        """Count one crash; the track it belongs to."""
        track = self._tracks.setdefault(event.subsystem, CrashTrack(event))
        track.last = event
        track.crashed_at.append(event.at)
        self.drop(event.at)
        return track

    def drop(self, now: float) -> None:
        """Forget what is older than the window."""
        for track in self._tracks.values():
            while track.crashed_at and track.crashed_at[0] <= now - self._window_seconds:
                track.crashed_at.popleft()

    def take_quiet(self) -> list[str]:
        """Name, and forget, the subsystems without a crash in the window that are not down for good."""
        quiet = [name for name, t in self._tracks.items() if not t.crashed_at and not t.given_up]
        self.forget(quiet)
        return quiet

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._tracks.pop(name, None)

    def names(self) -> list[str]:
        return list(self._tracks)

    def firsts(self) -> list[tuple[float, str]]:
        """When each subsystem that crashed within the window did so first; first crash first."""
        return sorted((t.crashed_at[0], name) for name, t in self._tracks.items() if t.crashed_at)

    def last(self, name: str) -> SubsystemExited:
        """Its last crash."""
        return self._tracks[name].last
