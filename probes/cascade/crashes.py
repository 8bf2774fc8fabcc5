"""The crashes of each subsystem: within a window of time, and in a row of runs none of which lasted."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from probes.subsystems import SubsystemExited

MAX_REMEMBERED = 256
"""How many crashes of one subsystem are remembered; the count it shows ends there."""
LIVES_REMEMBERED = 16
CRASHES_OF_THE_UNHEALED = 2
"""What was started again and has crashed again has not healed."""

ALIKE = 4.0
"""Lives that differ by no more than this factor are alike: whatever ends them comes again after as long."""

ASKED_TO_END = ("signal SIGTERM", "signal SIGINT", "signal SIGHUP")
"""How a process ends that somebody asked to: nothing crashes that way by itself."""
ASKED_TOO_OFTEN = 9
"""So often within the window no person asks it: then each such end is a crash like any other."""


@dataclass(slots=True)
class Row:
    """Counts consecutive runs that all ended by a crash, each of them short; a long run ends the row.

    `began` is when the first of them was started, or when it ended where it was long or nobody knows.
    """

    began: float
    last_at: float
    crashes: int = 1
    shortest: float = math.inf
    longest: float = 0.0

    @classmethod
    def begin(cls, event: SubsystemExited, short_seconds: float) -> Row:
        """Return a row of one crash. The run before it belongs to the row if it was short."""
        life = event.life_seconds
        if not 0 < life <= short_seconds:
            return cls(event.at, event.at)
        return cls(event.at - life, event.at, 1, life, life)

    def goes_on(self, event: SubsystemExited, short_seconds: float) -> bool:
        """Tell if a crash continues the row: after a short run, and no longer ago than a hold and such a run."""
        gap = event.at - self.last_at
        return (event.life_seconds or gap) <= short_seconds and gap <= 2 * short_seconds

    def add(self, event: SubsystemExited) -> None:
        life = event.life_seconds or event.at - self.last_at
        self.crashes, self.last_at = self.crashes + 1, event.at
        self.shortest, self.longest = min(self.shortest, life), max(self.longest, life)

    @property
    def are_alike(self) -> bool:
        return self.longest <= ALIKE * self.shortest


@dataclass(slots=True)
class CrashTrack:
    """The crashes of one subsystem, oldest first, and how the last one was.

    `lives` are how long it ran before each of the last of them, as far as that is known.
    """

    last: SubsystemExited
    crashed_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_REMEMBERED))
    lives: deque[float] = field(default_factory=lambda: deque(maxlen=LIVES_REMEMBERED))
    row: Row | None = None

    @property
    def given_up(self) -> bool:
        return not self.last.will_restart

    def within(self, seconds: float, now: float) -> int:
        """Count the crashes of the row within so many seconds before now."""
        return sum(at > now - seconds for at in self.crashed_at)

    @property
    def lived(self) -> str:
        """Describe the length of its runs; empty if that is not known."""
        if not self.lives:
            return ""
        shortest, longest = round(min(self.lives)), round(max(self.lives))
        about = longest <= max(1.25 * shortest, shortest + 1)
        return f"lives of about {longest} s" if about else f"lives of {shortest} to {longest} s"


class Crashes:
    """Counts crashes; those older than the window are dropped."""

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._tracks: dict[str, CrashTrack] = {}
        self._asked: dict[str, deque[float]] = {}

    def __len__(self) -> int:
        """Return the number of remembered crashes, of all subsystems."""
        return sum(len(track.crashed_at) for track in self._tracks.values())

    def was_asked(self, event: SubsystemExited) -> bool:
        """Tell if it was ended by request and not by a fault: by a signal that asks, and not time and again."""
        if not event.status.startswith(ASKED_TO_END) or not event.will_restart:
            return False
        asked = self._asked.setdefault(event.subsystem, deque(maxlen=ASKED_TOO_OFTEN))
        asked.append(event.at)
        return len(asked) < ASKED_TOO_OFTEN or asked[0] <= event.at - self._window_seconds

    def add(self, event: SubsystemExited) -> CrashTrack:
        """Count one crash; the track it belongs to."""
        track = self._tracks.setdefault(event.subsystem, CrashTrack(event))
        track.last = event
        short = self._window_seconds / 2
        if track.row is not None and track.row.goes_on(event, short):
            track.row.add(event)
        else:
            track.row = Row.begin(event, short)
        track.crashed_at.append(event.at)
        if event.life_seconds > 0:
            track.lives.append(event.life_seconds)
        self.drop(event.at)
        return track

    def drop(self, now: float) -> None:
        """Forget the crashes that are older than the window."""
        for track in self._tracks.values():
            while track.crashed_at and track.crashed_at[0] <= now - self._window_seconds:
                track.crashed_at.popleft()

    def drop_before(self, name: str, at: float) -> None:
        """Forget the crashes of one subsystem before a time."""
        if (track := self._tracks.get(name)) is not None:
            while track.crashed_at and track.crashed_at[0] < at:
                track.crashed_at.popleft()
            if track.row is not None and track.row.last_at < at:
                track.row = None

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
        """Return the first crash of each subsystem that crashed within so many seconds; the earliest first.

        One crash after which it was started again has healed, as far as anyone can tell, and is not among them.
        """
        found = []
        for name, track in self._tracks.items():
            recent = [at for at in track.crashed_at if at > now - seconds and at >= not_before]
            if recent and (len(recent) >= CRASHES_OF_THE_UNHEALED or track.given_up):
                found.append((recent[0], name))
        return sorted(found)

    def last(self, name: str) -> SubsystemExited:
        """Return its last crash."""
        return self._tracks[name].last
