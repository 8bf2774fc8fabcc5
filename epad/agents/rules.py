"""Decide if an agent may be spawned: a table in code, which a template narrows and nothing widens. Pure.

| row, in this order | no means |
|---|---|
| `spawn/hold` | the parent is held at block or above |
| `spawn/phase` | the house is in PRESERVATION, RECOVERY or LIFEBOAT |
| `spawn/parents` | the template is not for this parent |
| `spawn/depth` | the parent is a spawned agent's agent already |
| `spawn/fan_out` | the parent has as many living agents as it may have |
| `spawn/rate` | the parent's root has had as many agents within a minute as it may have |
| `spawn/tier` | the tier is above the template's |
| `spawn/consent` | it is above the parent's own, or above author: a person consents first |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from epad.agents.agent import MOST_A_MINUTE, MOST_CHILDREN, MOST_DEPTH
from epad.agents.request import SpawnRefusedError
from epad.gate.tiers import Tier
from statemachine.containment import Hold
from statemachine.phase import Phase
from statemachine.rung import Rung

_OPEN_PHASES: Final = frozenset({Phase.NORMAL, Phase.QUARANTINE})
HIGHEST_UNASKED: Final = Tier.AUTHOR
"""Above this a person is always asked."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Holds the facts that a decision about one agent rests on. `origin` is the parent's template, or itself."""

    parent: str
    origin: str
    template: str
    parents: tuple[str, ...]
    parent_tier: Tier
    tier: Tier
    template_tier: Tier
    depth: int
    children: int
    recent: int
    hold: Hold
    phase: Phase


def judge(facts: Situation) -> bool:
    """Say whether a person has to consent. Raises SpawnRefusedError where no consent helps."""
    if facts.hold.rung >= Rung.BLOCK:
        why = f"{facts.parent} is held ({facts.hold.rung.label}): {facts.hold.reason}"
        raise SpawnRefusedError(
            "spawn/hold", why, f"wait until it is released: epactl release {facts.parent}"
        )
    if facts.phase not in _OPEN_PHASES:
        why = f"the house is in {facts.phase}, in which no agent is spawned"
        raise SpawnRefusedError("spawn/phase", why, "ask again in NORMAL: epactl phase", 503)
    if facts.origin not in facts.parents:
        why = f"[agents.{facts.template}] is not for {facts.origin}: parents = {list(facts.parents)}"
        raise SpawnRefusedError("spawn/parents", why, "a person adds it to parents, or take another template")
    if facts.depth >= MOST_DEPTH:
        why = f"{facts.parent} is {facts.depth} deep, and agents are at most {MOST_DEPTH} deep"
        raise SpawnRefusedError("spawn/depth", why, "let an agent above it spawn this one")
    if facts.children >= MOST_CHILDREN:
        why = f"{facts.parent} has {facts.children} living agents, of at most {MOST_CHILDREN}"
        hint = "wait for one to end, or end one: DELETE /v1/agents/NAME"
        raise SpawnRefusedError("spawn/fan_out", why, hint, 429)
    if facts.recent >= MOST_A_MINUTE:
        why = f"{facts.recent} agents were spawned for the same subsystem within a minute, of at most {MOST_A_MINUTE}"
        raise SpawnRefusedError("spawn/rate", why, "ask again in a minute", 429)
    if facts.tier > facts.template_tier:
        why = f"[agents.{facts.template}] gives the tier {facts.template_tier.label} at most, not {facts.tier.label}"
        raise SpawnRefusedError("spawn/tier", why, "ask for that tier or a lower one")
    return facts.tier > min(facts.parent_tier, HIGHEST_UNASKED)
