"""Define the answers about agents that agents have spawned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class SpawnedAgent(TypedDict):
    """Tells of one living agent.

    `tokens` and `usd` are what it was given out of its parent's budget (0 USD: no money), `left_tokens` and `left_usd`
    what of that it has not spent or reserved. `consent` says who has consented to it, empty where nobody had to.
    """

    name: str
    session: str
    template: str
    parent: str
    parent_session: str
    tier: str
    depth: int
    reason: str
    state: str
    began_at: str
    tokens: int
    left_tokens: int
    usd: float
    left_usd: float
    consent: str


class AgentList(TypedDict):
    """Holds the living agents, each below its parent."""

    agents: Sequence[SpawnedAgent]
