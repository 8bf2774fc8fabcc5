"""When trouble counts, and when it is too much."""

from __future__ import annotations

from dataclasses import dataclass

from probes.cascade.crashes import MAX_REMEMBERED, Row
from probes.cascade.node import LookRule

_SHARE_OF_THE_WINDOW = 0.75
"""Of an hour: the third of three lives of 15 to 20 minutes ends within it."""


@dataclass(frozen=True, slots=True)
class CascadeThresholds:
    """The numbers of the probe. Raises ValueError for what could never be reached.

    `crashes` of one subsystem within `window_seconds` are a loop, however long it lives in between: it is told.
    Nothing comes of starting it again, so it is held, if they came within `burst_seconds` (or the window, where that
    is shorter); or if a row of runs, none of which lasted for half a window, goes on: for `row_crashes`, or for three
    quarters of a window, and then with lives that are alike or one crash more. For as long as a burst, too, crashes of
    several subsystems count as having happened together. `blast_ratio` is the share of the subsystems that one
    incident may take along before it is critical.
    """

    interval_seconds: float = 1.0
    window_seconds: float = 3_600.0
    burst_seconds: float = 60.0
    crashes: int = 3
    subsystems: int = 2
    settle_seconds: float = 3.0
    bad_looks: int = 2
    of_looks: int = 3
    good_looks: int = 3
    blast_ratio: float = 0.67
    row_crashes: int = 5

    def __post_init__(self) -> None:
        for key in ("interval_seconds", "window_seconds", "burst_seconds"):
            if getattr(self, key) <= 0:
                raise ValueError(f"probes.cascade.{key} must be above 0")
        self._check_counts()
        if self.subsystems < 2:
            raise ValueError("probes.cascade.subsystems must be 2 or more: one alone is no cascade")
        shorter = "window_seconds" if self.window_seconds < self.burst_seconds else "burst_seconds"
        if not 0 <= self.settle_seconds < self.together_seconds:
            raise ValueError(
                f"probes.cascade.settle_seconds ({self.settle_seconds:g}) must be from 0 to less than "
                f"{shorter} ({self.together_seconds:g}): no crash counts as one of several for longer"
            )
        if not 1 <= self.bad_looks <= self.of_looks:
            raise ValueError(
                f"probes.cascade.bad_looks ({self.bad_looks}) must be from 1 to of_looks ({self.of_looks})"
            )
        most = LookRule().flap_looks
        for key in ("of_looks", "good_looks"):
            if not 1 <= getattr(self, key) <= most:
                raise ValueError(f"probes.cascade.{key} ({getattr(self, key)}) must be from 1 to {most}")
        if not 0 < self.blast_ratio <= 1:
            raise ValueError(f"probes.cascade.blast_ratio ({self.blast_ratio:g}) must be above 0, at most 1")

    def _check_counts(self) -> None:
        if not 1 <= self.crashes <= MAX_REMEMBERED:
            raise ValueError(
                f"probes.cascade.crashes ({self.crashes}) must be from 1 to {MAX_REMEMBERED}: "
                "no more crashes of one subsystem are remembered"
            )
        if self.row_crashes < self.crashes:
            raise ValueError(
                f"probes.cascade.row_crashes ({self.row_crashes}) must be at least crashes ({self.crashes}): "
                "what is not told yet cannot go on"
            )

    @property
    def together_seconds(self) -> float:
        """Within this time crashes are a burst, and those of several subsystems belong together."""
        return min(self.burst_seconds, self.window_seconds)

    def goes_on(self, row: Row | None, now: float) -> bool:
        """Whether a row of short runs has gone on for long enough to be held."""
        if row is None or row.crashes < self.crashes:
            return False
        if row.crashes >= self.row_crashes:
            return True
        lasted = now - row.began >= _SHARE_OF_THE_WINDOW * self.window_seconds
        return lasted and (row.are_alike or row.crashes > self.crashes)

    @property
    def look_rule(self) -> LookRule:
        return LookRule(self.bad_looks, self.of_looks, self.good_looks)
