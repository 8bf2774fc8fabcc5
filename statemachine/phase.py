"""The daemon's one global state."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """The five phases, in order of severity."""

    NORMAL = "NORMAL"
    QUARANTINE = "QUARANTINE"
    PRESERVATION = "PRESERVATION"
    RECOVERY = "RECOVERY"
    LIFEBOAT = "LIFEBOAT"

    @property
    def number(self) -> int:
        """Return a number for monitoring; it never changes, whatever is added later."""
        return _NUMBER[self]


_NUMBER = {
    Phase.NORMAL: 0,
    Phase.QUARANTINE: 1,
    Phase.PRESERVATION: 2,
    Phase.RECOVERY: 3,
    Phase.LIFEBOAT: 4,
}
