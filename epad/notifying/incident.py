"""Decide when an incident begins and ends: at most one message for each. Pure.

calm --trouble--> open, told --calm--> ending --calm for long enough--> calm, told

While it is ending, trouble leads back to open. A flapping trouble is one incident: it is over after `calm_seconds`
without any.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

import msgspec
from msgspec import Struct


class Gravity(IntEnum):
    """Grades an incident. A critical one is told in quiet hours too."""

    CALM = 0
    TROUBLE = 1
    CRITICAL = 2


class Asked(Struct, frozen=True):
    """Holds an open question. `asked_at` tells apart the times that one and the same was opened.

    `place` is the host, or the call of a tool (`about_tool`) with its target.
    """

    number: int
    subsystem: str
    asked_at: float
    place: str
    program: str = ""
    about_tool: bool = False

    @property
    def line(self) -> str:
        """Return what a person reads."""
        program = f" ({self.program})" if self.program else ""
        answers = f"`epactl approve {self.number}` or `epactl deny {self.number}`"
        return f"{self.subsystem} asks for {self.place}{program}: {answers}"


class View(Struct, frozen=True):
    """Holds the present state: the phase, one line with subject, reason, end and command, and the subsystems.

    `questions` are those that wait for a person; they are no trouble.
    """

    gravity: Gravity
    phase: str
    line: str
    subsystems: tuple[str, ...] = ()
    questions: tuple[Asked, ...] = ()


class Incident(Struct, frozen=True):
    """Holds one incident at its worst. `begun` is seconds of UTC, `spells` how often it flared up."""

    id: str
    begun: float
    gravity: Gravity
    phase: str
    line: str
    subsystems: tuple[str, ...] = ()
    spells: int = 1
    was_told: bool = False


class Kind(StrEnum):
    """Names the news of a message."""

    STARTED = "incident.started"
    ENDED = "incident.ended"
    ASKED = "host.asked"
    TOOL_ASKED = "tool.asked"
    TEST = "test"


class Message(Struct, frozen=True):
    """Holds a message to a person; `text` is the whole of it. `more` questions came beside the one that it tells."""

    kind: Kind
    incident: Incident
    line: str
    at: float
    more: int = 0

    @property
    def text(self) -> str:
        """Return the words of the message."""
        return f"{self.line} ({self.more} more: `epactl approvals`)" if self.more else self.line

    @property
    def may_disturb(self) -> bool:
        """Tell if it goes out in quiet hours: only a critical one, and only at its beginning."""
        return self.kind is not Kind.ENDED and self.incident.gravity is Gravity.CRITICAL


QUESTIONS: Final = frozenset({Kind.ASKED, Kind.TOOL_ASKED})
"""The kinds of messages that tell of a question."""


class Incidents:
    """Follows how it stands. `incident` is the one that a previous run of the daemon has left open."""

    def __init__(self, calm_seconds: float, incident: Incident | None = None) -> None:
        self._calm_seconds = calm_seconds
        self._calm_since: float | None = None
        self.incident = incident

    def see(self, view: View, utc: float, monotonic: float) -> Message | None:
        """Take in how it stands; give the message that follows from it, if any."""
        if view.gravity is Gravity.CALM:
            return self._calm(view, utc, monotonic)
        if self.incident is None:
            self.incident = Incident(f"{int(utc)}", utc, view.gravity, view.phase, view.line, view.subsystems)
            self._calm_since = None
            return Message(Kind.STARTED, self.incident, view.line, utc)
        self._go_on(self.incident, view)
        return None

    def told(self) -> None:
        """Note that a message of the incident has arrived somewhere."""
        if self.incident is not None:
            self.incident = msgspec.structs.replace(self.incident, was_told=True)

    def _go_on(self, incident: Incident, view: View) -> None:
        again = self._calm_since is not None
        self._calm_since = None
        grown = view.gravity > incident.gravity
        self.incident = msgspec.structs.replace(
            incident,
            gravity=max(view.gravity, incident.gravity),
            phase=view.phase if grown else incident.phase,
            line=view.line if grown else incident.line,
            subsystems=tuple(dict.fromkeys((*incident.subsystems, *view.subsystems))),
            spells=incident.spells + again,
        )

    def _calm(self, view: View, utc: float, monotonic: float) -> Message | None:
        incident = self.incident
        if incident is None:
            return None
        if self._calm_since is None:
            self._calm_since = monotonic
        if monotonic - self._calm_since < self._calm_seconds:
            return None
        self.incident, self._calm_since = None, None
        return Message(Kind.ENDED, incident, _over(incident, view, utc - self._calm_seconds), utc)


def _over(incident: Incident, view: View, ended: float) -> str:
    lasted = _duration(max(0.0, ended - incident.begun))
    times = f", {incident.spells} times" if incident.spells > 1 else ""
    return f"over after {lasted}{times}, {view.phase} now; it was: {incident.line}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
