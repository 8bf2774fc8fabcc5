"""Saying that all is well as often as anybody looks back, and then no more."""

from __future__ import annotations

from collections.abc import Collection

from statemachine.finding import Finding, Severity

# More often than any hysteresis looks back. Said for ever of 100 subsystems, it took the daemon half a percent of a
# core (bench/supervision.py).
OKS_SAID = 10


class AllClear:
    """Counts how often each subsystem was found well since it last was not."""

    def __init__(self) -> None:
        self._oks: dict[str, int] = {}

    def keep(self, subsystems: Collection[str]) -> None:
        """Forget all others."""
        self._oks = {name: oks for name, oks in self._oks.items() if name in subsystems}

    def is_news(self, finding: Finding) -> bool:
        """Whether a finding should be stated; what is wrong always is."""
        oks = self._oks.get(finding.subsystem, 0) + 1 if finding.severity is Severity.OK else 0
        self._oks[finding.subsystem] = min(oks, OKS_SAID + 1)
        return oks <= OKS_SAID
