"""Judge one node's health: failed after some bad looks of the last few, well again after good ones in a row."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Look:
    """Holds one look at a node; `reason` is empty if it was well.

    `hard` marks a fact (its process ended, its breaker closed), which needs no second look. `told` marks trouble that
    some other finding states: it sorts roots from victims, and raises nothing itself.
    """

    node: str
    at: float
    reason: str = ""
    hard: bool = False
    told: bool = False

    @property
    def ok(self) -> bool:
        return not self.reason


FLAP_LOOKS = 21
"""How many looks are remembered."""


@dataclass(frozen=True, slots=True)
class LookRule:
    """Says how many looks make a verdict.

    `bad` of the last `of` fail a node; `good` in a row bring it back. It flaps from `flap_start` changes among
    the last `flap_looks` until `flap_stop`, and while it flaps it stays failed.
    """

    bad: int
    of: int
    good: int
    # Nagios' window of 21 looks, its two thresholds as counts.
    flap_looks: int = FLAP_LOOKS
    flap_start: int = 6
    flap_stop: int = 2


class NodeHealth:
    """Remembers the looks at one node."""

    def __init__(self, rule: LookRule) -> None:
        self._rule = rule
        self._recent: deque[bool] = deque(maxlen=rule.flap_looks)
        self._good_in_a_row = 0
        self.failed = False
        self.flapping = False
        self.hard = False
        self.told = False
        self.reason = ""

    @property
    def is_calm(self) -> bool:
        """Tell if the node has not failed, and is not about to."""
        return not self.failed and self._good_in_a_row >= self._rule.of

    def add(self, look: Look) -> None:
        """Take in one look."""
        self._recent.append(look.ok)
        self._good_in_a_row = self._good_in_a_row + 1 if look.ok else 0
        self._note_flapping()
        if look.ok:
            enough = self._good_in_a_row >= self._rule.good and not self.flapping
            if self.failed and (enough or look.hard):
                self._recover()
            return
        self.reason, self.told = look.reason, look.told
        self.hard = self.hard or look.hard
        bad = sum(not ok for ok in list(self._recent)[-self._rule.of :])
        self.failed = self.failed or look.hard or bad >= self._rule.bad

    def _note_flapping(self) -> None:
        looks = list(self._recent)
        changes = sum(before is not after for before, after in pairwise(looks))
        self.flapping = changes > self._rule.flap_stop if self.flapping else changes >= self._rule.flap_start

    def _recover(self) -> None:
        self.failed = self.hard = self.told = False
        self.reason = ""
