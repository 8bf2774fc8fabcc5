"""The house as the decider sees it."""

from __future__ import annotations

import graphlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from epad.configuration.schema import SubsystemConfig
from epad.control_loop.plans import LEDGER, Target
from epad.gateway.access import Access
from epad.supervisor.supervisor import Supervisor
from statemachine.containment import Containable


class Forgetful(Protocol):
    """A detector that can start afresh with one subsystem."""

    def forget(self, subsystem: str) -> None: ...


async def _nobody(_: str) -> None:
    return


def dependency_layers(subsystems: Mapping[str, SubsystemConfig]) -> list[list[str]]:
    """Names with providers in earlier layers; within one alphabetical, so that two runs agree."""
    sorter = graphlib.TopologicalSorter({name: spec.depends_on for name, spec in subsystems.items()})
    sorter.prepare()
    layers: list[list[str]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        layers.append([name for name in ready if name in subsystems])
        sorter.done(*ready)
    return layers


@dataclass(frozen=True, slots=True)
class WorldContext:
    """Gives the world the parts of the daemon that it is made of."""

    supervisor: Supervisor
    access: Access
    forgetful: Sequence[Forgetful]
    ledger_faults: Callable[[], int]
    blind_probes: Callable[[], frozenset[str]]
    victims: Callable[[], Mapping[str, str]] = dict
    stores_to_restore: Callable[[], Mapping[str, str]] = dict
    on_journal_failed: Callable[[str], Awaitable[None]] = _nobody
    parent_of: Mapping[str, str] = field(default_factory=dict)


class DaemonWorld:
    """Implements `epad.control_loop.world_protocol.World` over the real rooms."""

    def __init__(self, subsystems: Mapping[str, SubsystemConfig], context: WorldContext) -> None:
        self._context = context
        self._servers: Collection[str] = ()
        self.configure(subsystems)

    def configure(self, subsystems: Mapping[str, SubsystemConfig]) -> None:
        """Be the view of these from now on."""
        needed = {provider for spec in subsystems.values() for provider in spec.depends_on}
        needed |= {name for name, spec in subsystems.items() if spec.serves} | set(self._servers)
        self._subsystems = subsystems
        self._containables = [
            Containable(
                name,
                subsystems[name].essential,
                subsystems[name].kind != "client",
                layer,
                background=subsystems[name].background,
                needed=name in needed,
                parent=self._context.parent_of.get(name, ""),
            )
            for layer, names in enumerate(dependency_layers(subsystems))
            for name in names
        ]

    def serve(self, servers: Collection[str]) -> None:
        """Set the subsystems that serve the upstreams: each user of a model needs them."""
        self._servers = servers
        self.configure(self._subsystems)

    def containables(self) -> Sequence[Containable]:
        return self._containables

    def failed(self) -> frozenset[str]:
        # An agent that was spawned ends with its failure, and is not started again.
        return self._context.supervisor.failed() - self._context.parent_of.keys()

    def damaged(self) -> frozenset[Target]:
        stores = {
            Target.datastore(name, writer) for name, writer in self._context.stores_to_restore().items()
        }
        return frozenset(stores | {LEDGER} if self._context.ledger_faults() else stores)

    def blind_probes(self) -> frozenset[str]:
        return self._context.blind_probes()

    def victims(self) -> Mapping[str, str]:
        return self._context.victims()

    def forget(self, subsystem: str) -> None:
        for detector in self._context.forgetful:
            detector.forget(subsystem)

    def close_gateway(self, reason: str) -> None:
        self._context.access.close_all(reason)

    def reopen_gateway(self) -> None:
        self._context.access.close_all("")

    async def journal_failed(self, reason: str) -> None:
        await self._context.on_journal_failed(reason)
