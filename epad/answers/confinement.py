"""Define the answers about the policies of subsystems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict


class PolicyLine(TypedDict):
    """Tells one thing that widens or narrows: a request that shows it, and when it is so."""

    what: str
    witness: str
    when: str


class PolicyChange(TypedDict):
    """Tells how a change of the configuration changes the policy of one subsystem.

    `asks` tells whether it begins or ceases to ask a person about other hosts; null if that is as before.
    """

    subsystem: str
    widens: Sequence[PolicyLine]
    narrows: Sequence[PolicyLine]
    asks: bool | None
    lines: Sequence[str]


class HostQuestion(TypedDict):
    """Tells of one host that a subsystem asks for.

    `state` is open, allowed, denied, unanswered or withdrawn. `left_seconds` is how long it waits for an answer, or how
    long its answer holds; null where it does neither. `program` asked, as far as it is known.
    """

    number: int
    subsystem: str
    host: str
    port: int
    state: str
    program: str
    tries: int
    asked_seconds_ago: float
    left_seconds: float | None
    reason: str


class Approvals(TypedDict):
    """Tells which hosts were asked for, the oldest first, and which are allowed for ever."""

    questions: Sequence[HostQuestion]
    always: Mapping[str, Sequence[str]]


class PolicyChanges(TypedDict):
    """Tells which policies a reload now would change, and whether that needs a reason."""

    needs_reason: bool
    changes: Sequence[PolicyChange]
