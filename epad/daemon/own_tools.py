"""Make the tools that the daemon answers itself."""

from __future__ import annotations

from collections.abc import Sequence

from epad.daemon.joints import Joints
from epad.daemon.parts import Given
from epad.gateway.budget import GLOBAL_SCOPE, GROUP_PREFIX
from epad.gateway.identity import Identities
from epad.storage.event_log import EventKind, EventLog
from epad.tools.own import OwnTools
from epad.tools.own_epa import Knowledge, epa_tools
from epad.tools.own_models import Models, model_tools
from epad.tools.own_services import Services, service_tools
from epad.tools.rates import CallRates
from statemachine.finding import Finding, Severity

_PROBE = "agent"
"""The probe of agents' own reports: warnings alone, which hold nobody."""


def make_own_tools(
    given: Given, joints: Joints, identities: Identities, rates: CallRates, events: EventLog
) -> OwnTools:
    """Make the tools of the categories `epa` and `ollama`, and those of `monitor` that are about subsystems."""

    def scopes(subsystem: str) -> Sequence[str]:
        spec = joints.config.subsystems.get(subsystem)
        group = "" if spec is None else spec.group
        return [GLOBAL_SCOPE, *([GROUP_PREFIX + group] if group else []), subsystem]

    def report(subsystem: str, severity: str, text: str) -> None:
        events.emit(EventKind.AGENT_REPORTED, subsystem, severity=severity, text=text)
        if severity == Severity.WARNING.label:
            joints.push(Finding(_PROBE, subsystem, Severity.WARNING, given.clock.monotonic(), text))

    async def lines(subsystem: str, count: int) -> Sequence[str]:
        return await joints.operations().log_lines(subsystem, count, None)

    knowledge = Knowledge(
        status=lambda: joints.operations().status(),
        explain=lambda name: joints.operations().explain(name),
        budgets=lambda: joints.operations().budgets(),
        scopes=scopes,
        calls_left=rates.left,
        report=report,
    )
    return {
        **epa_tools(knowledge),
        **service_tools(Services(knowledge.status, lines)),
        **model_tools(Models(identities, joints.gateway_url)),
    }
