"""Say what the labels of a subsystem's session ask of its door at the way out.

A connection of an agent's own is seen by nobody but the way out: it reads what others wrote, and it sends. So a session
that has private content is asked about for each host, once, though the policy names it; a host that a person allowed
before, without knowing of the label, is asked about too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """Holds the state of one door. `session` names the session whose consent it takes; empty: the policy alone counts.

    `words` say what the session has read, and what brought that; `labels` are the same, one by one.
    """

    session: str = ""
    words: str = ""
    labels: tuple[tuple[str, str, str], ...] = ()


NO_GUARD = Guard()
Guards = Callable[[str], Guard | None]
"""Returns the guard of a door as of now; None while the labels are not known, when the door stays shut."""


def no_guards(door: str) -> Guard | None:
    """Return no guard: the daemon keeps no sessions."""
    del door
    return NO_GUARD
