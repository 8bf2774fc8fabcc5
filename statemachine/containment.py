"""The containment ladder: how firmly a subsystem is held, and why that firmly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from statemachine.assessor import Anomaly
from statemachine.finding import OPERATOR
from statemachine.phase import Phase
from statemachine.rung import Rung
from statemachine.shortage import host_is_short
from statemachine.tool_targets import is_tool_target

__all__ = [
    "Cause",
    "Containable",
    "Hold",
    "Rung",
    "called_for",
    "desired_holds",
    "reasons_to_hold",
    "tools_among",
]


class Cause(StrEnum):
    """Gives the reason for a hold; it decides the condition and the command that end the hold."""

    FOUND = "found"
    PERSON = "person"
    PARKED = "parked"
    PAUSED = "paused"
    VICTIM = "victim"
    BACKGROUND = "background"
    SHORTAGE = "shortage"
    LIFEBOAT = "lifeboat"


@dataclass(frozen=True, slots=True)
class Hold:
    """The containment one subsystem should be under, and the sentence that says why.

    `paused` marks a hold through no fault of the subsystem's own: for everybody's sake, or a person's wish.
    `root` is whose victim it is, where it waits for that one. `cause` and `probe` (whose anomaly it is) are for
    those who word the hold; two holds that differ in nothing else are the same hold.
    """

    rung: Rung
    reason: str = ""
    paused: bool = False
    root: str = ""
    cause: Cause = field(default=Cause.FOUND, compare=False)
    probe: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Containable:
    """Describes a subsystem to the ladder. `layer` is above that of everything it depends on.

    `essential` decides whether a recovery repairs or parks it, and nothing about a hold. `background` says that it may
    be cut for the others' sake, `needed` that another subsystem depends on it. `parent` is the one that has spawned it,
    empty for others: that one's holds are its own too.
    """

    name: str
    essential: bool
    has_process: bool
    layer: int = 0
    background: bool = False
    needed: bool = field(default=False, compare=False)
    parent: str = field(default="", compare=False)


_NOBODY: Mapping[str, str] = MappingProxyType({})
_OPEN = Hold(Rung.OPEN)


def desired_holds(
    subsystems: Iterable[Containable],
    anomalies: Iterable[Anomaly],
    phase: Phase,
    rung_by_probe: Mapping[str, Rung],
    parked: Mapping[str, str],
    paused: Mapping[str, str] = _NOBODY,
    victims: Mapping[str, str] = _NOBODY,
) -> dict[str, Hold]:
    """Say how each subsystem should be held now.

    A pure function of the facts, so that a daemon that died and came back arrives at the same holds.
    `rung_by_probe` is the rung each probe's anomaly calls for, unless its finding names a `rung` of its
    own; `parked` maps subsystems that recovery has given up on to the reason, `paused` those that a
    person has told to rest, `victims` those that fail because another does to that other: they wait, and are
    not started, until it is well. The highest rung that anything asks for wins.
    """
    reasons = reasons_to_hold(subsystems, anomalies, phase, rung_by_probe, parked, paused, victims)
    return {name: holds[0] if holds else _OPEN for name, holds in reasons.items()}


def reasons_to_hold(
    subsystems: Iterable[Containable],
    anomalies: Iterable[Anomaly],
    phase: Phase,
    rung_by_probe: Mapping[str, Rung],
    parked: Mapping[str, str],
    paused: Mapping[str, str] = _NOBODY,
    victims: Mapping[str, str] = _NOBODY,
) -> dict[str, list[Hold]]:
    """Return everything that asks for a hold of each subsystem, the firmest first.

    A tool or a category is among them while something was found of it.
    """
    active, subsystems = list(anomalies), list(subsystems)
    short = host_is_short(active)
    reasons = {}
    for s in [*subsystems, *tools_among((a.key.subsystem for a in active), subsystems)]:
        holds = [
            *_found(s, active, rung_by_probe),
            *_waiting(s, parked, paused, victims),
            *_for_the_others(s, phase, short=short),
        ]
        reasons[s.name] = [_within_reach(hold, s) for hold in sorted(holds, key=lambda hold: -hold.rung)]
    parents = {s.name: s.parent for s in subsystems if s.parent in reasons}
    if not parents:
        return reasons
    joined = {name: [*holds, *_of_parents(name, parents, reasons)] for name, holds in reasons.items()}
    return {name: sorted(holds, key=lambda hold: -hold.rung) for name, holds in joined.items()}


def _of_parents(name: str, parents: Mapping[str, str], reasons: Mapping[str, Sequence[Hold]]) -> list[Hold]:
    """Return the holds of a spawned agent's parent, and of that one's."""
    holds: list[Hold] = []
    while name in parents:
        name = parents[name]
        holds += [replace(hold, reason=f"its parent {name} is held: {hold.reason}") for hold in reasons[name]]
    return holds


def tools_among(names: Iterable[str], subsystems: Iterable[Containable]) -> list[Containable]:
    """Return the tools and categories among these names, sorted; nobody pauses one for the others' sake."""
    known = [s.name for s in subsystems]
    tools = sorted({name for name in names if is_tool_target(name, known)})
    return [Containable(name, essential=False, has_process=False, needed=True) for name in tools]


def _within_reach(hold: Hold, subsystem: Containable) -> Hold:
    """There is no process of a client's to freeze or stop: its door is all there is to shut."""
    return hold if subsystem.has_process or hold.rung <= Rung.BLOCK else replace(hold, rung=Rung.BLOCK)


def _found(subsystem: Containable, anomalies: Sequence[Anomaly], rungs: Mapping[str, Rung]) -> list[Hold]:
    """Return the holds that the subsystem's own anomalies call for."""
    return [
        Hold(
            called_for(a, rungs),
            a.finding.reason,
            cause=Cause.PERSON if a.key.probe == OPERATOR else Cause.FOUND,
            probe=a.key.probe,
        )
        for a in anomalies
        if a.key.subsystem == subsystem.name
    ]


def _waiting(
    subsystem: Containable,
    parked: Mapping[str, str],
    paused: Mapping[str, str],
    victims: Mapping[str, str],
) -> list[Hold]:
    """Return the holds of a subsystem that waits for a person, or for another subsystem."""
    name, holds = subsystem.name, []
    if name in parked:
        holds.append(Hold(Rung.STOP, parked[name], cause=Cause.PARKED))
    if name in paused:
        holds.append(Hold(Rung.FREEZE, paused[name], paused=True, cause=Cause.PAUSED))
    if name in victims:
        reason = f"it waits for {victims[name]}, whose victim it is"
        holds.append(Hold(Rung.FREEZE, reason, paused=True, root=victims[name], cause=Cause.VICTIM))
    return holds


def _for_the_others(subsystem: Containable, phase: Phase, *, short: bool) -> list[Hold]:
    """Return the holds that the phase asks for, regardless of the subsystem's own behaviour.

    PRESERVATION cuts the subsystems that are declared expendable. It pauses others only while the host itself is short,
    and of those none that another depends on: a frozen provider gives nothing back and stops its users too.
    """
    if phase is Phase.LIFEBOAT:
        reason = "LIFEBOAT: everything is stopped until a relaunch"
        return [Hold(Rung.STOP, reason, paused=True, cause=Cause.LIFEBOAT)]
    if phase is not Phase.PRESERVATION:
        return []
    if subsystem.background:
        reason = "PRESERVATION: background work is paused"
        return [Hold(Rung.FREEZE, reason, paused=True, cause=Cause.BACKGROUND)]
    if short and not subsystem.needed:
        reason = "PRESERVATION: the host is short of room, so what nobody else needs is paused"
        return [Hold(Rung.FREEZE, reason, paused=True, cause=Cause.SHORTAGE)]
    return []


def called_for(anomaly: Anomaly, rung_by_probe: Mapping[str, Rung]) -> Rung:
    """Return the rung that the finding names, else the probe's."""
    named = anomaly.finding.rung
    return rung_by_probe.get(anomaly.key.probe, Rung.BLOCK) if named is None else named
