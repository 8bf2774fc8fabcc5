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
    long its answer holds; null where it does neither. `program` asked, as far as it is known. `widens` says what an
    approval would add to the policy, as a reload says it. The bytes were moved to and from that host since the daemon
    has started.
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
    widens: Sequence[str]
    sent_bytes: int
    received_bytes: int


class StandingApproval(TypedDict):
    """Tells of one host that a person has allowed. `left_seconds` is null where that has no end.

    `once` is true of an approval that the next connection uses up. `number` is that of its question; null for one that
    an earlier run of the daemon was given.
    """

    subsystem: str
    host: str
    port: int
    number: int | None
    left_seconds: float | None
    once: bool
    reason: str
    sent_bytes: int
    received_bytes: int


class Approvals(TypedDict):
    """Tells which hosts were asked for, the oldest first, which approvals hold, and which of them for ever."""

    questions: Sequence[HostQuestion]
    standing: Sequence[StandingApproval]
    always: Mapping[str, Sequence[str]]


class PolicyChanges(TypedDict):
    """Tells which policies a reload now would change, and whether that needs a reason."""

    needs_reason: bool
    changes: Sequence[PolicyChange]
