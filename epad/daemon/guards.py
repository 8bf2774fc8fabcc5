"""Join the labels of sessions and the way out: what an agent reaches labels it, and its labels rule its door.

The way out is made before the tools are, and sessions belong to the tools; without tools there are no sessions, and
nothing here does anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from epad.confinement.guard import NO_GUARD, Guard
from epad.confinement.host_questions import HostSubject
from epad.confinement.tool_doors import is_tool_door
from epad.daemon.joints import Joints
from epad.gate.tool_table import Taint, asks_at_door
from epad.tools.consent import labels_in_words, read_in_words
from epad.tools.sessions import Origin, Session

_NOT_BEGUN: Final = "not begun"
"""In the place of a session whose process is not there yet, though its workspace is private."""


@dataclass(frozen=True, slots=True)
class DoorLabels:
    """Knows the labels behind each door of the way out."""

    joints: Joints

    def guard(self, door: str) -> Guard | None:
        """Return the guard of a door; None until the sessions of before are known again."""
        tools = self.joints.tools()
        if tools is None or is_tool_door(door):  # a tool's call has passed the gate
            return NO_GUARD
        if not tools.labels.known:
            return None
        sessions = tools.labels.sessions
        session = sessions.running(door)
        if session is None:
            return (
                Guard(_NOT_BEGUN, "its workspace is private")
                if asks_at_door(sessions.first(door))
                else NO_GUARD
            )
        return (
            Guard(session.name, _words(session), labels_in_words(session))
            if asks_at_door(session.taint)
            else NO_GUARD
        )

    def reached(self, subject: HostSubject) -> None:
        """Label the session of an agent that has reached a host by itself."""
        tools = self.joints.tools()
        if tools is not None:
            session = tools.labels.sessions.running(subject.subsystem)
            if session is not None:
                session.label(Taint.UNTRUSTED, Origin(f"its own connection to {subject}"))


def _words(session: Session) -> str:
    told = read_in_words(session)
    return told if Taint.UNTRUSTED in session.taint else f"{told}, and what comes back is others'"
