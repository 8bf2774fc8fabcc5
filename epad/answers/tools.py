"""Define the answers about tools: which there are, who may call them, what is held, and the trace of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict


class Standing(TypedDict):
    """Tells how one subsystem stands to a tool: `yes`, `consent` or `no`, and the row of the gate that says so."""

    may: Literal["yes", "consent", "no"]
    row: str
    why: str


class ToolLine(TypedDict):
    """Describes one tool. `callers` tells of each subsystem with tools, in the phase NORMAL and without a hold."""

    name: str
    category: str
    description: str
    risk: str
    meaning: str
    lowest_tier: str
    callers: Mapping[str, Standing]


class ToolList(TypedDict):
    """Holds the tools of the daemon, sorted by name, and the tier of each subsystem that has tools."""

    enabled: bool
    tiers: Mapping[str, str]
    tools: Sequence[ToolLine]


class TracedSession(TypedDict):
    """Tells of one session: by whom and why it began and ended; `ended_at` is empty while no end is recorded."""

    session: str
    subsystem: str
    tier: str
    parent: str
    template: str
    why: str
    began_at: str
    began_by: str
    ended_at: str
    ended_by: str
    ended_why: str


class TracedEffect(TypedDict):
    """Names a file or host that was changed, and its SHA-256 before and after; null where it was not there."""

    target: str
    before: str | None
    after: str | None


class TracedTurn(TypedDict):
    """Tells of one turn of a session.

    `parent` is the model's turn that asked for a tool's, as far as that is known. `name` is the model or the tool.
    `outcome` is the recorded one, `open` while it is under way, and `unknown` where the daemon died during the turn.
    `row` is that of the gate. Times are in UTC; `ended_at` is empty without an end.
    """

    turn: str
    kind: Literal["model", "tool"]
    parent: str
    name: str
    began_at: str
    ended_at: str
    outcome: str
    reason: str
    row: str
    risk: str
    taint: int
    input_tokens: int
    output_tokens: int
    result_bytes: int
    cpu_ms: int
    wall_ms: int
    effects: Sequence[TracedEffect]
    undo: str


class TracedSpawn(TypedDict):
    """Tells of an agent that a session has asked for: by which template, and why.

    `asked` has the same of that one's own. `agent` is null where the ledger has no sound record of its session.
    """

    session: str
    template: str
    reason: str
    by: str
    at: str
    agent: TracedSession | None
    asked: Sequence[TracedSpawn]


class Trace(TypedDict):
    """Holds a page of a session's turns, in the order in which they began; `session` is null where there is none.

    `sessions` names those of its subsystem, oldest first; `spawned` the agents that it has asked for. `after` asks for
    the next page, and is 0 on the last one.
    """

    session: TracedSession | None
    sessions: Sequence[TracedSession]
    spawned: Sequence[TracedSpawn]
    turns: Sequence[TracedTurn]
    after: int


class HeldTool(TypedDict):
    """Holds the hold of a tool or of a category, for everybody or for one subsystem (`@NAME`), in one line."""

    target: str
    rung: str
    line: str


class ToolCategory(TypedDict):
    """Holds one category of tools: its tools, its workers now, the calls in them, and how often a worker was lost."""

    name: str
    kind: str
    state: str
    tools: Sequence[str]
    workers: Sequence[int]
    calls: int
    lost: int
    held: Sequence[HeldTool]


class UndonePaths(TypedDict):
    """Tells for one turn what an undo would find at the paths that it has changed.

    `restored` are as the call has left them and would be put back; those changed since, or not kept, would be left
    alone. `why` says why it cannot be told.
    """

    turn: str
    tool: str
    restored: Sequence[str]
    as_before: Sequence[str]
    changed_since: Sequence[str]
    not_kept: Sequence[str]
    why: str


class UndonePlan(TypedDict):
    """Holds what an undo of a turn or a session would find, newest turn first."""

    name: str
    turns: Sequence[UndonePaths]
