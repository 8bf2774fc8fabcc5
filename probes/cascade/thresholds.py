"""When trouble counts, and when it is too much."""

from __future__ import annotations

from dataclasses import dataclass

from probes.cascade.crashes import MAX_REMEMBERED
from probes.cascade.node import LookRule


@dataclass(frozen=True, slots=True)
class CascadeThresholds:
    """The numbers of the probe. Raises ValueError for what could never be reached.

    `crashes` of one subsystem within `window_seconds` are a loop, however long it lives in between. Within
    `burst_seconds` (or the window, where that is shorter) they are a burst: nothing comes of starting it again.
    So long, too, crashes of several subsystems count as having happened together. `blast_ratio` is the share of the
    subsystems that one incident may take along before it is critical.
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

    def __post_init__(self) -> None:
        for key in ("interval_seconds", "window_seconds", "burst_seconds"):
            if getattr(self, key) <= 0:
                raise ValueError(f"probes.cascade.{key} must be above 0")
        if not 1 <= self.crashes <= MAX_REMEMBERED:
            raise ValueError(
                f"probes.cascade.crashes ({self.crashes}) must be from 1 to {MAX_REMEMBERED}: "
                "no more crashes of one subsystem are remembered"
            )
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

    @property
    def together_seconds(self) -> float:
        """Within this time crashes are a burst, and those of several subsystems belong together."""
        return min(self.burst_seconds, self.window_seconds)

    @property
    def look_rule(self) -> LookRule:
        return LookRule(self.bad_looks, self.of_looks, self.good_looks)
