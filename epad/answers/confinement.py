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


class BroughtLabel(TypedDict):
    """Tells of one label of a session (untrusted, private): what brought it, and the turn that did, if one did."""

    label: str
    source: str
    turn: str


class HostQuestion(TypedDict):
    """Tells of one host that a subsystem asks for.

    `state` is open, allowed, denied, unanswered or withdrawn. `left_seconds` is how long it waits for an answer, or how
    long its answer holds; null where it does neither. `program` asked, as far as it is known. `widens` says what an
    approval would add to the policy, as a reload says it. The bytes were moved to and from that host since the daemon
    has started. `asks` names the host, and what the session has read if it is asked for that; then `labels` has what
    brought each of its labels, and the answer is for this session alone.
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
    asks: str
    labels: Sequence[BroughtLabel]
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


class ToolQuestion(TypedDict):
    """Tells of one call of a tool that takes a person's consent.

    `asks` names the tool and the real path or host of the call, `arguments` has its arguments, bounded and with hidden
    characters as numbers; `covers` is what an approval for a time is for. `both_taints` tells that the session has read
    untrusted and private content, and `labels` what brought each of them. `mark` tells one question from another of the
    same number. The rest is as of a host.
    """

    number: int
    subsystem: str
    session: str
    tool: str
    asks: str
    covers: str
    arguments: str
    both_taints: bool
    labels: Sequence[BroughtLabel]
    state: str
    tries: int
    asked_seconds_ago: float
    left_seconds: float | None
    reason: str
    mark: str


class StandingConsent(TypedDict):
    """Tells of a person's consent to a tool: it ends with the session at the latest."""

    number: int
    subsystem: str
    session: str
    tool: str
    covers: str
    left_seconds: float | None
    once: bool
    reason: str


class Approvals(TypedDict):
    """Tells which hosts and tools were asked for, the oldest first, which approvals hold, and which hosts for ever."""

    questions: Sequence[HostQuestion]
    standing: Sequence[StandingApproval]
    always: Mapping[str, Sequence[str]]
    tool_questions: Sequence[ToolQuestion]
    tool_standing: Sequence[StandingConsent]


class PolicyChanges(TypedDict):
    """Tells which policies a reload now would change, and whether that needs a reason."""

    needs_reason: bool
    changes: Sequence[PolicyChange]
