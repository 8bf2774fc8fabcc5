"""Saying that all is well as often as anybody looks back, and then no more."""

from __future__ import annotations

from collections.abc import Collection

from statemachine.assessor import LONGEST_MEMORY

# Said for ever of 100 subsystems, it took the daemon half a percent of a core (bench/supervision.py).
OKS_SAID = LONGEST_MEMORY


class AllClear:
    """Counts how often each subsystem was found well since it last was not."""

    def __init__(self) -> None:
        self._oks: dict[str, int] = {}

    def keep(self, subsystems: Collection[str]) -> None:
        """Forget all others."""
        self._oks = {name: oks for name, oks in self._oks.items() if name in subsystems}

    def is_news(self, subsystem: str, *, well: bool) -> bool:
        """Tell if a finding about a subsystem should be stated; a bad one always is."""
        # One that was never unwell has nothing to make up for.
        oks = self._oks.get(subsystem, OKS_SAID - 1) + 1 if well else 0
        if oks <= OKS_SAID:
            self._oks[subsystem] = oks
        return oks <= OKS_SAID
