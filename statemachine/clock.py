"""Time as an argument, so that tests run hours in milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The two times there are: one to measure with, one to show."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow, suspend included; for durations and windows."""
        ...

    def utc(self) -> datetime:
        """Return the wall clock, for people; nothing is decided from it."""
        ...


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, monotonic: float = 1_000.0, utc: datetime | None = None) -> None:
        self._monotonic = monotonic
        self._utc = utc or datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self._monotonic

    def utc(self) -> datetime:
        return self._utc

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._monotonic += seconds
        self._utc += timedelta(seconds=seconds)

    def jump_wall_clock(self, seconds: float) -> None:
        """Set the wall clock alone, as NTP or a person would."""
        self._utc += timedelta(seconds=seconds)
