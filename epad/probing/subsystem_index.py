"""Give the probes the facts about the configured subsystems, and keep them current through a reload."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from epad.configuration.schema import SubsystemConfig, UpstreamConfig
from epad.configuration.sizes import size_bytes
from epad.probing.cascade_signals import needs
from probes.cascade import DependencyGraph
from probes.memory import MemoryLimits
from probes.token_burn import SubsystemBudget

_NO_BUDGET = SubsystemBudget()
_NO_LIMITS = MemoryLimits()


class Roster:
    """The subsystems there are, and who needs whom. Raises ValueError where they need each other in a circle."""

    def __init__(
        self, subsystems: Mapping[str, SubsystemConfig], upstreams: Mapping[str, UpstreamConfig]
    ) -> None:
        self._upstreams = upstreams
        self.graph = DependencyGraph()
        self.configure(subsystems)

    def configure(self, subsystems: Mapping[str, SubsystemConfig]) -> None:
        """Use these from now on; the dependencies learnt from turns stay."""
        self._subsystems = subsystems
        self._budgets = {name: _budget(spec) for name, spec in subsystems.items()}
        self._memory = {
            name: MemoryLimits(size_bytes(spec.memory_max), size_bytes(spec.memory_high))
            for name, spec in subsystems.items()
        }
        self._units = {spec.unit: name for name, spec in subsystems.items() if spec.unit}
        self.graph.tell(needs(subsystems, self._upstreams))

    def serve(self, upstreams: Mapping[str, UpstreamConfig]) -> None:
        """Go by these upstreams from now on."""
        self._upstreams = upstreams
        self.graph.tell(needs(self._subsystems, upstreams))

    def memory_limits(self, name: str) -> MemoryLimits:
        """Return a subsystem's limits of memory; none for one that is not configured."""
        return self._memory.get(name, _NO_LIMITS)

    def names(self) -> Collection[str]:
        return self._subsystems.keys()

    def budget(self, name: str) -> SubsystemBudget:
        """Return a subsystem's budget; no limits for one that is not configured."""
        return self._budgets.get(name, _NO_BUDGET)

    def units(self) -> Mapping[str, str]:
        """Return the subsystem that each systemd unit is."""
        return self._units

    def gpu_fillers(self) -> Collection[str]:
        """Return those that fill a GPU by design, as a model server does: a full one is no evidence against them."""
        return [name for name, spec in self._subsystems.items() if spec.fills_gpu or spec.serves]


def _budget(spec: SubsystemConfig) -> SubsystemBudget:
    budget = spec.budget
    return SubsystemBudget(budget.tokens_per_minute, budget.tokens_per_day, budget.max_in_flight)
