"""Tell what needs repair, and what waits for a person instead. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from epad.control_loop.plans import Target
from epad.control_loop.world_protocol import World
from statemachine.assessor import Anomaly
from statemachine.finding import FOR_A_PERSON, AnomalyKey


def held_by_a_person(active: Iterable[Anomaly]) -> set[str]:
    """Return the subsystems that only a person's word lets go."""
    return {a.key.subsystem for a in active if a.key.probe in FOR_A_PERSON}


def waits_for_a_person(
    key: AnomalyKey, parked: Collection[str], damaged: Callable[[], Iterable[Target]]
) -> bool:
    """Tell if only a person can end an anomaly: it is a person's own hold, or about a parked subsystem.

    Repairable data of a parked one is still repaired: the damage does not wait.
    """
    if key.probe in FOR_A_PERSON:
        return True
    return key.subsystem in parked and key.subsystem not in {target.writer for target in damaged()}


def needing_repair(
    world: World,
    outlasting: Iterable[Anomaly],
    held: Collection[str],
    parked: Collection[str],
    paused: Collection[str],
) -> frozenset[Target]:
    """Return the targets that need repair: failed, troubled too long, or damaged; not held or parked ones.

    `outlasting` are the anomalies that have lasted longer than a quarantine may.
    """
    outlasted = {a.key.subsystem for a in outlasting if a.key.probe not in FOR_A_PERSON}
    known = {c.name for c in world.containables()}
    exempt = {*held, *parked, *paused, *world.victims()}
    names = ((world.failed() | outlasted) & known) - exempt
    # Nothing is taken from under the hands of one that a person holds or lets rest.
    spared = {*held, *paused}
    damaged = {target for target in world.damaged() if target.writer not in spared}
    return frozenset(Target.subsystem(name) for name in names) | damaged
