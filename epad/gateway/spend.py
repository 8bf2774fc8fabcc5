"""Hold amounts that were spent: before a restart, or while the ledger is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spend:
    """Holds an amount spent before a restart, and its age; below 0 is now."""

    subsystem: str
    tokens: int
    age_seconds: float
    microusd: int = 0
    requests: int = 1


@dataclass(frozen=True, slots=True)
class NotedSpend:
    """Holds an amount spent at a time of the monotonic clock."""

    subsystem: str
    tokens: int
    microusd: int
    requests: int
    at: float

    def aged(self, now: float) -> Spend:
        """Return the same, as old as it is now."""
        return Spend(self.subsystem, self.tokens, now - self.at, self.microusd, self.requests)
