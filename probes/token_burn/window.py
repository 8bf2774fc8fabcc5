"""Sums over the last so many seconds, in constant memory and constant time."""

from __future__ import annotations

from collections import deque

WINDOW_SLOTS = 60


class WindowSum:
    """A sum over the last `seconds`, kept in at most `WINDOW_SLOTS` slots, so exact to one slot."""

    def __init__(self, seconds: float) -> None:
        self._slot_seconds = seconds / WINDOW_SLOTS
        self._slots: deque[list[int]] = deque()
        self._newest = [-1, 0]  # the last of the slots; before all time where there is none
        self._dropped_to = -1
        # What `total` is at most: what has left the window meanwhile may be in it. Where it is 0, nobody need ask.
        self.at_most = 0

    def add(self, at: float, amount: int) -> None:
        """Count `amount` at `at`; a late one counts as the newest."""
        slot = int(at // self._slot_seconds)
        if slot > self._newest[0]:
            self._drop(slot)
            self._newest = [slot, 0]
            self._slots.append(self._newest)
        self._newest[1] += amount
        self.at_most += amount

    def total(self, now: float) -> int:
        """Return the sum within the window that ends now."""
        if self.at_most:
            self._forget(now)
        return self.at_most

    def _forget(self, now: float) -> None:
        slot = int(now // self._slot_seconds)
        if slot > self._dropped_to:
            self._drop(slot)

    def slots(self, now: float) -> int:
        """Return in how many of its `WINDOW_SLOTS` parts something was counted."""
        self._forget(now)
        return len(self._slots)

    def _drop(self, slot: int) -> None:
        self._dropped_to = slot
        while self._slots and self._slots[0][0] <= slot - WINDOW_SLOTS:
            self.at_most -= self._slots.popleft()[1]
        if not self._slots:
            self._newest = [-1, 0]
