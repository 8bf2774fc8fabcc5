"""List the living agents for a person, each below its parent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from epad.agents.agent import Agent
from epad.agents.book import AgentBook
from epad.answers.agents import SpawnedAgent
from epad.gateway.limits import Usage
from epad.gateway.money import MICROUSD

Use = Callable[[str], dict[str, Usage]]
"""Returns the limits of a budget and the part of each that is spent or reserved."""


def listed(book: AgentBook, use: Use) -> list[SpawnedAgent]:
    """Return a row for each living agent."""
    agents = sorted(book.living.values(), key=lambda one: one.begun_at)
    top = [one for one in agents if one.parent not in book.living]
    return [_row(one, use) for one in _below(top, agents)]


def _below(those: list[Agent], agents: list[Agent]) -> Iterator[Agent]:
    for agent in those:
        yield agent
        yield from _below([one for one in agents if one.parent == agent.name], agents)


def _row(agent: Agent, use: Use) -> SpawnedAgent:
    used = use(agent.name)
    tokens, money = used.get("tokens_in_all", Usage(0, 0)), used.get("microusd_in_all", Usage(0, 0))
    return {
        "name": agent.name,
        "session": agent.session,
        "template": agent.template,
        "parent": agent.parent,
        "parent_session": agent.parent_session,
        "tier": agent.label,
        "depth": agent.depth,
        "reason": agent.reason,
        "state": str(agent.state),
        "began_at": datetime.fromtimestamp(agent.begun_at, UTC).isoformat(timespec="seconds"),
        "tokens": agent.tokens,
        "left_tokens": max(0, agent.tokens - tokens.used),
        "usd": agent.microusd / MICROUSD,
        "left_usd": max(0, agent.microusd - money.used) / MICROUSD,
        "consent": agent.consent,
    }
