"""Ask a person whether an agent may be spawned, by the one list of questions that tools have too (`tools/consent.py`).

A question is about one parent's session, and shows all that the agent would get: template, tier, budget, command's
parameters and reason. Any other request is another question. No answer in five minutes is a no.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec

from epad.agents.request import Asked, SpawnRefusedError
from epad.configuration.agent_schema import AgentConfig
from epad.gate.tiers import Tier
from epad.gate.tool_table import Consent, Decision
from epad.tools.consent import Consents, Wanted
from epad.tools.protocol import Definition
from epad.tools.running import Running
from epad.tools.sessions import Session

TOOL: Final = "agent_spawn"
"""The name that the question has in the place of a tool's."""
ROW: Final = "spawn/consent"
_DEFINITION: Final = Definition(TOOL, "agents", "Spawns an agent.", "", 0.0, {}, {}, "")


class ConsentDesk:
    """Asks for the consent to agents."""

    def __init__(self, consents: Consents) -> None:
        self._consents = consents

    async def ask(self, session: Session, asked: Asked, template: AgentConfig, tier: Tier) -> str:
        """Ask, wait a while, and return who has consented. Raises SpawnRefusedError."""
        arguments: dict[str, object] = {
            "template": asked.template,
            "tier": tier.label,
            "tier_of_parent": session.tier.label,
            "reason": asked.reason,
            "parameters": dict(asked.parameters),
            "tokens": asked.budget.tokens or template.budget.tokens,
            "usd": template.budget.usd if asked.budget.usd is None else asked.budget.usd,
            "input_sha256": sha256(asked.input.encode(errors="surrogatepass")).hexdigest()
            if asked.input
            else "",
        }
        digest = sha256(msgspec.json.encode(arguments, order="deterministic")).hexdigest()
        wanted = Wanted(session, _DEFINITION, arguments, (session.name, TOOL, digest), turn="")
        parent = f"{session.subsystem} ({session.tier.label})"
        why = f"the tier {tier.label} for an agent of {parent} takes a person's consent"

        def decide(consent: Consent) -> Decision:
            given = consent is not Consent.NONE
            return Decision(given, not given, ROW, why)

        settled = await self._consents.settle(wanted, decide, Running())
        if not settled.decision.allowed:
            said = f"{why}: {settled.why}" if settled.why not in {"", why} else why
            raise SpawnRefusedError(ROW, said, settled.hint, 409 if settled.code == "consent_needed" else 403)
        return "a person"
