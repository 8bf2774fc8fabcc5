"""Record the inputs of a decision beside its stimulus: the world at one moment, small enough to be kept."""

from __future__ import annotations

from msgspec import Struct

from epad.control_loop.plans import Target
from statemachine.containment import Containable


class Seen(Struct, frozen=True):
    """Holds the world as the decider saw it beside the stimulus."""

    subsystems: tuple[tuple[str, bool, bool], ...] = ()
    failed: tuple[str, ...] = ()
    damaged: tuple[tuple[bool, str], ...] = ()
    writers: dict[str, str] = {}
    blind: tuple[str, ...] = ()
    victims: dict[str, str] = {}
    background: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    parents: dict[str, str] = {}

    def containables(self) -> list[Containable]:
        return [
            Containable(
                *one,
                background=one[0] in self.background,
                needed=one[0] in self.needed,
                parent=self.parents.get(one[0], ""),
            )
            for one in self.subsystems
        ]

    def targets(self) -> frozenset[Target]:
        return frozenset(
            Target(is_subsystem, name, self.writers.get(name, "")) for is_subsystem, name in self.damaged
        )
