"""Define the answers about foreign MCP servers: which there are, how each is, and what has changed of its tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict


class ForeignTool(TypedDict):
    """Describes one tool as it is pinned: the name that agents call it by, and the one with a dot for people.

    `claims` are what its server says of its effects; `is_classified` tells if a person has set its `risk`.
    """

    name: str
    also: str
    risk: str
    is_classified: bool
    claims: Sequence[str]
    remarks: Sequence[str]
    sha256: str


class ForeignServer(TypedDict):
    """Describes one server. `trouble` says why it is held or down; `missing` are walls that its cell does without.

    `pinned_by` is `first use`, or who has accepted its tools; `pinned_at` in seconds of UTC. `unfit` are tools that
    cannot be taken, and why. `version` of MCP and `identity` are what it says now.
    """

    name: str
    kind: Literal["child", "url"]
    state: str
    trouble: str
    pid: int | None
    restarts: int
    version: str
    identity: str
    missing: Sequence[str]
    pinned_sha256: str
    pinned_by: str
    pinned_at: float
    unfit: Sequence[str]
    tools: Sequence[ForeignTool]


class ServerList(TypedDict):
    """Holds all foreign servers, by name."""

    servers: Sequence[ForeignServer]


class ServerDiff(TypedDict):
    """Tells what differs between the accepted tools of a server and those that it lists now, line by line.

    `listed_sha256` is what an acceptance of just this names; empty if it lists nothing. `held` is empty if it is not.
    """

    name: str
    held: str
    pinned_sha256: str
    listed_sha256: str
    lines: Sequence[str]
    remarks: Sequence[str]
