"""Define the answers about what subsystems may reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class PolicyLine(TypedDict):
    """Tells one thing that widens or narrows: a request that shows it, and when it is so."""

    what: str
    witness: str
    when: str


class PolicyChange(TypedDict):
    """Tells what a change of the configuration changes in the policy of one subsystem.

    `asks` tells whether it begins or ceases to ask a person about other hosts; null if that is as before.
    """

    subsystem: str
    widens: Sequence[PolicyLine]
    narrows: Sequence[PolicyLine]
    asks: bool | None
    lines: Sequence[str]


class PolicyChanges(TypedDict):
    """Tells what a reload now would change, and whether that needs a reason."""

    needs_reason: bool
    changes: Sequence[PolicyChange]
