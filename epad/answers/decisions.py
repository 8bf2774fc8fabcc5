"""Define the answers about decisions: the phase, its history, the chain of reasons, recovery, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from epad.answers.status import Sentence


class Transition(TypedDict):
    """Holds one move of the phase, and its grounds."""

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


Kind = Literal[
    "event",
    "finding",
    "anomaly",
    "rule",
    "step",
    "result",
    "session",
    "model",
    "label",
    "gate",
    "tool",
    "effect",
    "intent",
]


class Link(TypedDict):
    """Holds one link of the chain from finding to result; its id joins to events, metrics and log lines."""

    kind: Kind
    id: str
    at: str
    text: str
    fields: Mapping[str, Any]


class Explanation(TypedDict):
    """Holds a summary of the present state, and the chain of findings, decisions and steps."""

    subject: str
    summary: NotRequired[Sequence[Sentence]]
    chain: Sequence[Link]


class Event(TypedDict):
    """Holds one event; ids in its fields join to the journal and the ledger."""

    id: int
    at: str
    kind: str
    subsystem: str
    fields: Mapping[str, Any]


class LogLine(TypedDict):
    """Holds one line of a subsystem's output."""

    line: str


class PlanItem(TypedDict):
    """Describes the work of a recovery on one target."""

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
    """Describes one step of a recovery."""

    id: int
    name: str
    target: str
    state: str
    attempts: int
    result: str
    at: str


class Attempt(TypedDict):
    """Holds one attempt at a recovery: its targets, and the result of each step."""

    operation: int
    at: str
    state: str
    sentence: str
    evidence: Sequence[Reason]
    steps: Sequence[Step]


class LostTurn(TypedDict):
    """Holds a turn that a previous run of the daemon left open, and its replays."""

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
    """Holds the plan of a recovery as of now, the result of each attempt, and the lost turns."""

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
