"""The escalation policy: a situation in, the next transition or none out. Pure."""

from __future__ import annotations

from statemachine.situation import Limits, Situation
from statemachine.table import GUARDS, Row, rows_from


def decide(situation: Situation, limits: Limits) -> Row | None:
    """Return the first row of the table, from the present phase, whose guard holds."""
    for row in rows_from(situation.phase):
        if GUARDS[row.guard](situation, limits):
            return row
    return None
