"""The crashes of each subsystem within a window of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from probes.subsystems import SubsystemExited

MAX_REMEMBERED = 256
"""How many crashes of one subsystem are remembered; the count it shows ends there."""
LIVES_REMEMBERED = 16
CRASHES_OF_THE_UNHEALED = 2
"""What was started again and has crashed again has not healed."""


@dataclass(slots=True)
class CrashTrack:
    """The crashes of one subsystem, oldest first, and how the last one was.

    `lives` are how long it ran before each of the last of them, as far as that is known.
    """

    last: SubsystemExited
    crashed_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_REMEMBERED))
    lives: deque[float] = field(default_factory=lambda: deque(maxlen=LIVES_REMEMBERED))

    @property
    def given_up(self) -> bool:
        return not self.last.will_restart

    def within(self, seconds: float, now: float) -> int:
        """How many of its crashes were within so many seconds before now."""
        return sum(at > now - seconds for at in self.crashed_at)

    @property
    def lived(self) -> str:
        """How long it lives, in words; empty where that is not known."""
        if not self.lives:
            return ""
        shortest, longest = round(min(self.lives)), round(max(self.lives))
        about = longest <= max(1.25 * shortest, shortest + 1)
        return f"lives of about {longest} s" if about else f"lives of {shortest} to {longest} s"


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
        if event.life_seconds > 0:
            track.lives.append(event.life_seconds)
        self.drop(event.at)
        return track

    def drop(self, now: float) -> None:
        """Forget what is older than the window."""
        for track in self._tracks.values():
            while track.crashed_at and track.crashed_at[0] <= now - self._window_seconds:
                track.crashed_at.popleft()

    def drop_before(self, name: str, at: float) -> None:
        """Forget the crashes of one subsystem before a time."""
        if (track := self._tracks.get(name)) is not None:
            while track.crashed_at and track.crashed_at[0] < at:
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

    def unhealed(self, seconds: float, now: float, not_before: float) -> list[tuple[float, str]]:
        """When each subsystem that crashed within so many seconds did so first; first crash first.

        One crash after which it was started again has healed, as far as anyone can tell, and is not among them.
        """
        found = []
        for name, track in self._tracks.items():
            recent = [at for at in track.crashed_at if at > now - seconds and at >= not_before]
            if recent and (len(recent) >= CRASHES_OF_THE_UNHEALED or track.given_up):
                found.append((recent[0], name))
        return sorted(found)

    def last(self, name: str) -> SubsystemExited:
        """Its last crash."""
        return self._tracks[name].last
