"""Define the answers about what subsystems were at their last starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class ChangedPart(TypedDict):
    """Names a part that is not as it was. `how` is added, changed or removed; `role` is what it is to the command."""

    path: str
    how: str
    role: str


class Measurement(TypedDict):
    """Tells of the newest start of a subsystem: of how many parts it was, and how it differed from the one before.

    `held`: it was not started, and waits to be accepted. `changed` counts the changes, `changes` has the first ones.
    `left_out` says what was not looked at. `at`: seconds since 1970.
    """

    subsystem: str
    at: float
    sentence: str
    held: bool
    digest: str
    parts: int
    changed: int
    changes: Sequence[ChangedPart]
    left_out: Sequence[str]


class Measurements(TypedDict):
    """Holds the newest measurement of each subsystem that this run of the daemon has started."""

    measurements: Sequence[Measurement]
