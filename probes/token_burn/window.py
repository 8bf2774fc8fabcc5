"""Sums over the last so many seconds, in constant memory and constant time."""

from __future__ import annotations

from collections import deque

WINDOW_SLOTS = 60


class WindowSum:
    """A sum over the last `seconds`, kept in at most `WINDOW_SLOTS` slots, so exact to one slot."""

    def __init__(self, seconds: float) -> None:
        self._slot_seconds = seconds / WINDOW_SLOTS
        self._slots: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, at: float, amount: int) -> None:
        """Count `amount` at `at`; what comes late counts as the newest."""
        slot = int(at // self._slot_seconds)
        self._drop(slot)
        if self._slots and self._slots[-1][0] >= slot:
            newest, sum_of_slot = self._slots.pop()
            self._slots.append((newest, sum_of_slot + amount))
        else:
            self._slots.append((slot, amount))
        self._total += amount

    def total(self, now: float) -> int:
        """What has been counted within the window that ends now."""
        self._drop(int(now // self._slot_seconds))
        return self._total

    def _drop(self, slot: int) -> None:
        while self._slots and self._slots[0][0] <= slot - WINDOW_SLOTS:
            self._total -= self._slots.popleft()[1]
