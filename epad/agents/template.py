"""Make the subsystem that an agent is, out of its template, its amount and its parent."""

from __future__ import annotations

from msgspec import structs

from epad.configuration.agent_schema import AgentConfig
from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.schema import BudgetConfig, RestartConfig, SubsystemConfig
from epad.gate.tiers import Tier
from epad.gateway.carves import Carved
from epad.gateway.money import MICROUSD, microusd

NEVER_AGAIN = RestartConfig(policy="never")


def microusd_of(usd: float) -> int:
    """Return an amount in micro-USD."""
    return microusd(usd)


def spec_of(
    template: AgentConfig, command: tuple[str, ...], tier: Tier, carved: Carved, parent: SubsystemConfig
) -> SubsystemConfig:
    """Return an agent as a subsystem. Its user is its parent's; it is never started twice."""
    labels = {one: one.label for one in Tier}
    return SubsystemConfig(
        command=command,
        environment=dict(template.environment),
        user=parent.user,
        budget=BudgetConfig(
            tokens_in_all=carved.tokens,
            usd_in_all=carved.microusd / MICROUSD,
            tokens_per_minute=template.budget.tokens_per_minute,
            requests_per_minute=template.budget.requests_per_minute,
            max_in_flight=template.budget.max_in_flight,
        ),
        restart=NEVER_AGAIN,
        memory_max=template.memory_max,
        stop_seconds=template.stop_seconds,
        confine=_confine(template, parent),
        tier=labels[tier],  # type: ignore[arg-type]
        tools=parent.tools if template.tools is None else template.tools,
        workspace_labels=parent.workspace_labels,
        tool_calls_per_minute=parent.tool_calls_per_minute,
        tool_output_tokens_per_hour=parent.tool_output_tokens_per_hour,
    )


def _confine(template: AgentConfig, parent: SubsystemConfig) -> ConfineConfig | None:
    """Return the template's walls, or else the parent's, around the parent's workspace."""
    if template.confine is not None or parent.confine is None:
        return template.confine
    workspace = parent.confine.workspace or parent.working_directory
    return structs.replace(parent.confine, workspace=workspace)
