"""Set the limits between noise, trouble, and too much trouble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from probes.bounds import Bound, Derived, check
from probes.cascade.crashes import MAX_REMEMBERED, Row
from probes.cascade.node import LookRule

_SHARE_OF_THE_WINDOW = 0.75
"""Of an hour: the third of three lives of 15 to 20 minutes ends within it."""


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """Holds the numbers of the probe. Raises BoundError for one that could never be reached.

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

    BOUNDS: ClassVar[tuple[Bound, ...]] = (
        Bound("interval_seconds", above=0),
        Bound("window_seconds", above=0),
        Bound("burst_seconds", above=0),
        Bound("crashes", least=1, most=MAX_REMEMBERED, why="no more crashes of one subsystem are remembered"),
        Bound("row_crashes", least="crashes", why="what is not told yet cannot go on"),
        Bound("subsystems", least=2, why="one alone is no cascade"),
        Bound(
            "settle_seconds",
            least=0,
            below=Derived(
                "burst_seconds and window_seconds",
                lambda t: min(t.burst_seconds, t.window_seconds),
                ("burst_seconds", "window_seconds"),
            ),
            why="no crash counts as one of several for longer",
        ),
        Bound("of_looks", least=1, most=LookRule().flap_looks),
        Bound("good_looks", least=1, most=LookRule().flap_looks),
        Bound("bad_looks", least=1, most="of_looks"),
        Bound("blast_ratio", above=0, most=1),
    )

    def __post_init__(self) -> None:
        check("cascade", self, self.BOUNDS)

    @property
    def together_seconds(self) -> float:
        """Within this time crashes are a burst, and those of several subsystems belong together."""
        return min(self.burst_seconds, self.window_seconds)

    def goes_on(self, row: Row | None, now: float) -> bool:
        """Tell if a row of short runs has gone on for long enough to be held."""
        if row is None or row.crashes < self.crashes:
            return False
        if row.crashes >= self.row_crashes:
            return True
        lasted = now - row.began >= _SHARE_OF_THE_WINDOW * self.window_seconds
        return lasted and (row.are_alike or row.crashes > self.crashes)

    @property
    def look_rule(self) -> LookRule:
        return LookRule(self.bad_looks, self.of_looks, self.good_looks)
