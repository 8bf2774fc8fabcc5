"""The answers that say what was decided and why: the phase, its history, the chain of reasons, recovery, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from epad.answers.status import Sentence


class Transition(TypedDict):
    """One move of the phase, and what it was decided on."""

    id: int
    at: str
    source: str
    destination: str
    trigger: str
    guard: str
    sentence: str
    cause: Any


class PhaseAnswer(TypedDict):
    """The phase, how it came about, and for each phase why it cannot be forced: empty if it can."""

    phase: str
    since: str
    sentence: str
    history: Sequence[Transition]
    force: Mapping[str, str]
    diagram: str


Kind = Literal["event", "finding", "anomaly", "rule", "step", "result"]


class Link(TypedDict):
    """One link of the chain from finding to result; its id joins to events, metrics and log lines."""

    kind: Kind
    id: str
    at: str
    text: str
    fields: Mapping[str, Any]


class Explanation(TypedDict):
    """A summary of what is true now, and the chain of what was found, decided and done."""

    subject: str
    summary: NotRequired[Sequence[Sentence]]
    chain: Sequence[Link]


class Event(TypedDict):
    """One thing that happened; ids in its fields join to the journal and the ledger."""

    id: int
    at: str
    kind: str
    subsystem: str
    fields: Mapping[str, Any]


class LogLine(TypedDict):
    """One line that a subsystem has printed."""

    line: str


class PlanItem(TypedDict):
    """What a recovery does for one target."""

    target: str
    action: str
    why: str
    sources: Sequence[str]
    after: Sequence[str]
    verified_by: str


class Reason(TypedDict):
    """A piece of evidence that a recovery began on."""

    id: str
    text: str


class Step(TypedDict):
    """One step of a recovery."""

    id: int
    name: str
    target: str
    state: str
    attempts: int
    result: str
    at: str


class Attempt(TypedDict):
    """One attempt at a recovery: what it began on, and what each step came to."""

    operation: int
    at: str
    state: str
    sentence: str
    evidence: Sequence[Reason]
    steps: Sequence[Step]


class LostTurn(TypedDict):
    """A turn that a previous run of the daemon left open, and what was tried for it."""

    turn: str
    subsystem: str
    model: str
    at: str
    reserved_tokens: int
    idempotency_key: str | None
    attempts: int
    state: str
    why: str


class Recovery(TypedDict):
    """What a recovery would do now, what each attempt did, and the lost turns."""

    phase: str
    attempts: int
    attempts_allowed: int
    running: bool
    recoveries_this_hour: int
    plan: Sequence[PlanItem]
    tried: Sequence[Attempt]
    parked: Mapping[str, str]
    lost_turns: Sequence[LostTurn]
    trouble: str
