"""Limit the output of tools an hour, by subsystem: reserved before a call begins, so parallel calls cannot overshoot.

A token has at least one byte, so a byte counts as one: that is the most that a result can be to its reader.

| a call | then |
|---|---|
| begins | the most that it may give back is reserved, or what is left; below LEAST_TOKENS it is refused |
| ends | its result is counted, and the rest of the reservation is free again |
| ends without a result | all of it is free again |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from epad.tools.owners import Owner, itself
from probes.token_burn.window import WindowSum
from statemachine.clock import Clock

WINDOW_SECONDS: Final = 3_600.0
LEAST_TOKENS: Final = 256
"""An answer of fewer is of no use to anybody."""


class Reservation:
    """Holds room for the result of one call; `tokens` bounds it."""

    def __init__(self, tokens: int, settled: Callable[[int], None]) -> None:
        self.tokens = tokens
        self._settled: Callable[[int], None] | None = settled

    def settle(self, used: int = 0) -> None:
        """Count what was used, and free the rest; the first word counts."""
        if self._settled is not None:
            self._settled(used)
            self._settled = None


class OutputBudget:
    """Counts results in a sliding hour, as their `owner`'s. `limit` returns a subsystem's limit; 0 is none."""

    def __init__(self, limit: Callable[[str], int], clock: Clock, owner: Owner = itself) -> None:
        self._limit = limit
        self._owner = owner
        self._clock = clock
        self._used: dict[str, WindowSum] = {}
        self._reserved: dict[str, int] = {}

    def left(self, subsystem: str) -> int | None:
        """Return how many tokens are neither used nor reserved; None without a limit."""
        subsystem = self._owner(subsystem)
        limit = self._limit(subsystem)
        if not limit:
            return None
        used = self._used.get(subsystem)
        total = used.total(self._clock.monotonic()) if used is not None else 0
        return max(0, limit - total - self._reserved.get(subsystem, 0))

    def reserve(self, subsystem: str, most: int) -> Reservation | None:
        """Reserve room for a result of at most so many tokens; None where too little is left."""
        subsystem = self._owner(subsystem)
        left = self.left(subsystem)
        tokens = most if left is None else min(most, left)
        if tokens < LEAST_TOKENS:
            return None
        self._reserved[subsystem] = self._reserved.get(subsystem, 0) + tokens

        def settled(used: int) -> None:
            self._reserved[subsystem] -= tokens
            self._used.setdefault(subsystem, WindowSum(WINDOW_SECONDS)).add(self._clock.monotonic(), used)

        return Reservation(tokens, settled)
