"""Hold the dependencies as a directed graph without cycles, told at the start and learnt from turns."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Mapping

_NOBODY: frozenset[str] = frozenset()


class DependencyGraph:
    """The providers of each node. Raises ValueError, with the cycle in its message, where there is one."""

    def __init__(self, providers: Mapping[str, Collection[str]] | None = None) -> None:
        self._learnt: dict[tuple[str, str], None] = {}
        self.tell(providers or {})

    def tell(self, providers: Mapping[str, Collection[str]]) -> None:
        """Replace the told edges, and keep the learnt ones between nodes that still exist. Raises ValueError."""
        told = {name: set(needed) for name, needed in providers.items()}
        try:
            self.order = tuple(graphlib.TopologicalSorter(told).static_order())
        except graphlib.CycleError as error:
            cycle: list[str] = error.args[1][::-1]
            raise ValueError(f"the dependencies run in a circle: {' needs '.join(cycle)}") from error
        self._providers = told
        self._close()
        known, self._learnt = self._learnt, {}
        for name, provider in known:
            if name in told and provider in told:
                self.learn(name, provider)

    def above(self, name: str) -> frozenset[str]:
        """Return everything it needs, directly or through others."""
        return self._above.get(name, _NOBODY)

    def below(self, name: str) -> frozenset[str]:
        """Return everything that needs it, directly or through others."""
        return self._below.get(name, _NOBODY)

    def learn(self, name: str, provider: str) -> bool:
        """Add an edge that was seen; False where it is known, or would close a cycle."""
        if provider == name or provider in self._providers.get(name, ()) or name in self.above(provider):
            return False
        self._learnt[name, provider] = None
        self._providers.setdefault(name, set()).add(provider)
        self.order = tuple(graphlib.TopologicalSorter(self._providers).static_order())
        self._close()
        return True

    def _close(self) -> None:
        """Work out the transitive closure once a change; it is asked at every look."""
        above: dict[str, frozenset[str]] = {}
        for name in self.order:
            direct = self._providers.get(name, ())
            above[name] = frozenset(direct).union(*(above[provider] for provider in direct))
        self._above = above
        self._below = {
            name: frozenset(other for other, needed in above.items() if name in needed) for name in above
        }
