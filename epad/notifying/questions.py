"""Decide when a person is told that a subsystem asks for a host or a tool: one message a subsystem and minute. Pure.

The first question is told at once. Those that come within the minute are counted, and the newest of them is told when
it is over, with the number of the others: an agent can bury nobody, and nothing is kept from anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from epad.notifying.incident import Asked, Gravity, Incident, Kind, Message

QUIET_SECONDS = 60.0


@dataclass(slots=True)
class _Untold:
    """Counts the questions of a subsystem that nobody was told of."""

    told_at: float
    newest: Asked | None = None
    count: int = 0


@dataclass(slots=True)
class QuestionNews:
    """Follows the open questions."""

    _seen: frozenset[tuple[int, float]] = frozenset()
    _untold: dict[str, _Untold] = field(default_factory=dict)

    def see(self, questions: Iterable[Asked], phase: str, utc: float, monotonic: float) -> list[Message]:
        """Take in the open questions; return the messages that follow from them."""
        now = list(questions)
        new = [one for one in now if (one.number, one.asked_at) not in self._seen]
        self._seen = frozenset((one.number, one.asked_at) for one in now)
        for one in new:
            of = self._untold.setdefault(one.subsystem, _Untold(float("-inf")))
            of.newest, of.count = one, of.count + 1
        messages = []
        for of in self._untold.values():
            if of.newest is not None and monotonic - of.told_at >= QUIET_SECONDS:
                messages.append(_message(of.newest, of.count - 1, phase, utc))
                of.told_at, of.newest, of.count = monotonic, None, 0
        over = [s for s, of in self._untold.items() if monotonic - of.told_at >= QUIET_SECONDS]
        for subsystem in over:
            del self._untold[subsystem]
        return messages


def _message(asked: Asked, more: int, phase: str, utc: float) -> Message:
    identity = f"asked-{asked.subsystem}"
    incident = Incident(identity, utc, Gravity.TROUBLE, phase, asked.line, (asked.subsystem,))
    kind = Kind.TOOL_ASKED if asked.about_tool else Kind.ASKED
    return Message(kind, incident, asked.line, utc, more)
