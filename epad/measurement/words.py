"""Say in one sentence how a subsystem differs from what it was at its last start. Pure."""

from __future__ import annotations

from typing import Final

from runners.measure.request import Change, Measured

MOST_NAMED: Final = 5
_HOW: Final = {"added": "new", "changed": "changed", "removed": "gone"}


def sentence_of(subsystem: str, measured: Measured) -> str:
    """Return the sentence; of many changes it names the first."""
    if measured.is_first:
        return f"{subsystem} is measured for the first time: {measured.parts} parts"
    if not measured.changed:
        return f"{subsystem} is what it was at its last start: {measured.parts} parts"
    named = ", ".join(map(_named, measured.changes[:MOST_NAMED]))
    more = measured.changed - min(MOST_NAMED, len(measured.changes))
    rest = f", and {more} more" if more else ""
    return f"{subsystem} is not what it was at its last start: {named}{rest}"


def _named(change: Change) -> str:
    what = "its command" if change.role == "command" else f"{change.role} {change.path}"
    return f"{what} {'is' if change.role != 'command' else 'has'} {_HOW[change.how]}"
