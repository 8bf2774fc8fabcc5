"""Say which detectors only report: their findings are shown and counted, and hold no one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from statemachine.finding import HOST, OPERATOR, Finding, Severity
from statemachine.rung import Rung
from statemachine.tool_targets import whose
from statemachine.value_types import Name

OBSERVED = " (observed only)"

Enforce = dict[Name, Literal["observe", "contain"]]
"""Of each detector, or of a probe that has one only by the probe's name: does it hold, or is it only told?"""


@dataclass(frozen=True, slots=True)
class Enforcement:
    """`observed` names the detectors that only tell; `by_subsystem` says otherwise for one, by detector.

    A probe with one detector goes by the probe's name. A person's order is always carried out.
    """

    observed: frozenset[str] = frozenset()
    by_subsystem: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)

    def judge(self, finding: Finding) -> Finding:
        """The finding as it counts: of a detector that only tells, a warning that calls for nothing."""
        if not finding.bad or finding.probe == OPERATOR or not self._observes(finding):
            return finding
        return replace(
            finding,
            severity=Severity.WARNING,
            hard=False,
            reason=finding.reason + OBSERVED,
            evidence={**finding.evidence, "observed": True},
            rung=Rung.OPEN,
        )

    def _observes(self, finding: Finding) -> bool:
        detector = str(finding.evidence.get("detector", finding.probe))
        return self.observes(detector, finding.probe, finding.subsystem)

    def observes(self, detector: str, probe: str, subsystem: str) -> bool:
        """Say whether a detector only tells of a subsystem."""
        names = (detector, probe)
        owner = whose(subsystem) or subsystem  # of a tool that is held for one subsystem: that one
        own = self.by_subsystem.get(owner, {}) if owner != HOST else {}
        for name in names:
            if name in own:
                return own[name]
        return any(name in self.observed for name in names)
