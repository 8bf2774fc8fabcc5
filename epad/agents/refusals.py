"""Word the refusals that come from the parent's budgets, and from the disk."""

from __future__ import annotations

from epad.agents.agent import Agent
from epad.agents.request import SpawnRefusedError
from epad.gateway.limits import Refused
from epad.gateway.refusal import over_budget


def unaffordable(parent: str, refused: Refused) -> SpawnRefusedError:
    """Return the refusal of an amount that a parent has not left."""
    said = over_budget(refused)
    why = f"{parent} cannot give so much: {said.message}"
    hint = "ask for less, wait, or have a person raise the budget: epactl budget"
    return SpawnRefusedError(f"spawn/budget/{refused.scope}/{refused.limit}", why, hint, said.status)


def not_recorded(agent: Agent, error: Exception) -> SpawnRefusedError:
    """Return the refusal of an agent that cannot be written down."""
    why = f"{agent.name} cannot be recorded: {error}"
    return SpawnRefusedError("spawn/record", why, "epactl status says what is wrong", 503)
