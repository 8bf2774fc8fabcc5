"""Set the limits between noise, trouble, and too much trouble."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from probes.bounds import Bound, Derived
from probes.cascade.crashes import MAX_REMEMBERED, Row
from probes.cascade.node import FLAP_LOOKS, LookRule
from probes.settings import EnforcedSettings
from statemachine.value_types import WHY, Count, Seconds, Share

_SHARE_OF_THE_WINDOW = 0.75
"""Of an hour: the third of three lives of 15 to 20 minutes ends within it."""

_Looks = Annotated[int, Meta(ge=1, le=FLAP_LOOKS)]


class CascadeSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets how many crashes are too many, and when a failed subsystem is the root of others' failing."""

    # `crashes` of one subsystem within `window_seconds` are a loop, however long it lives in between: it is told.
    # Nothing comes of starting it again, so it is held, if they came within `burst_seconds` (or the window, where
    # that is shorter); or if a row of runs, none of which lasted for half a window, goes on: for `row_crashes`, or
    # for three quarters of a window, and then with lives that are alike or one crash more. For as long as a burst,
    # too, crashes of several subsystems count as having happened together. `blast_ratio` is the share of the
    # subsystems that one incident may take along before it is critical.
    window_seconds: Seconds
    crashes: Annotated[
        int, Meta(ge=1, le=MAX_REMEMBERED, extra={WHY: "no more crashes of one subsystem are remembered"})
    ]
    subsystems: Annotated[int, Meta(ge=2, extra={WHY: "one alone is no cascade"})]
    settle_seconds: Annotated[float, Meta(ge=0)]
    bad_looks: Count
    of_looks: _Looks
    good_looks: _Looks
    blast_ratio: Share
    burst_seconds: Seconds
    row_crashes: Count

    BOUNDS: ClassVar[tuple[Bound, ...]] = (
        Bound("row_crashes", least="crashes", why="what is not told yet cannot go on"),
        Bound(
            "settle_seconds",
            below=Derived(
                "burst_seconds and window_seconds",
                lambda t: min(t.burst_seconds, t.window_seconds),
                ("burst_seconds", "window_seconds"),
            ),
            why="no crash counts as one of several for longer",
        ),
        Bound("bad_looks", most="of_looks"),
    )

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
