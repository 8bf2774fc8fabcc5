"""Predict the table's next move if nothing new is found, by asking the table itself at each moment that matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite

from statemachine.policy import decide
from statemachine.situation import Limits, Situation
from statemachine.table import Row

_PAST = 0.001
"""A little past the moment itself: a sum of times that is subtracted again may fall short of its limit."""


def forecast(
    situation_at: Callable[[float], Situation], moments: Iterable[float], now: float, limits: Limits
) -> tuple[float, Row] | None:
    """Return the first of these moments, from now on, at which a row is taken, and the row; None if none is."""
    for at in sorted({max(moment, now) for moment in moments if isfinite(moment)} | {now}):
        row = decide(situation_at(at + _PAST), limits)
        if row is not None:
            return at, row
    return None
