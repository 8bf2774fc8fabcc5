"""The rest of the house as the decider and the controller ask for it; `epad/control_loop/world.py` implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from epad.control_loop.plans import Target
from statemachine.containment import Containable


class World(Protocol):
    """Gives the decider and the controller access to the rest of the house."""

    def containables(self) -> Sequence[Containable]:
        """Return the subsystems in dependency order, providers first."""
        ...

    def failed(self) -> frozenset[str]:
        """Subsystems whose restart budget is spent or that never became ready."""
        ...

    def damaged(self) -> frozenset[Target]:
        """Return the damaged parts of epad's own state."""
        ...

    def blind_probes(self) -> frozenset[str]:
        """Probes that could not see at their last look."""
        ...

    def victims(self) -> Mapping[str, str]:
        """The subsystems that fail because another does, nearest to it first, each with that one's name."""
        ...

    def forget(self, subsystem: str) -> None:
        """Let every detector start afresh with a subsystem."""
        ...

    def close_gateway(self, reason: str) -> None:
        """Forward nothing more, at once and in memory."""
        ...

    def reopen_gateway(self) -> None:
        """Undo `close_gateway`."""
        ...

    async def journal_failed(self, reason: str) -> None:
        """Save the irreplaceable and make room, since the journal could not be written. Never raises."""
        ...
