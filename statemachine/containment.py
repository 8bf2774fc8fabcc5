"""The containment ladder: how firmly a subsystem is held, and why that firmly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType

from statemachine.assessor import Anomaly
from statemachine.phase import Phase


class Rung(IntEnum):
    """How firmly a subsystem is held; each rung shuts the gateway at least as far as the ones below it.

    RELEASE_VRAM stands above FREEZE although the process runs on under it: a frozen process keeps its GPU memory.
    """

    OPEN = 0
    THROTTLE = 1
    BLOCK = 2
    FREEZE = 3
    RELEASE_VRAM = 4
    STOP = 5

    @property
    def label(self) -> str:
        """The word used in configuration, events and metrics."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Hold:
    """The containment one subsystem should be under, and the sentence that says why.

    `paused` marks a hold through no fault of the subsystem's own: for everybody's sake, or a person's wish.
    `root` is whose victim it is, where it waits for that one.
    """

    rung: Rung
    reason: str = ""
    paused: bool = False
    root: str = ""


@dataclass(frozen=True, slots=True)
class Containable:
    """What the ladder needs to know of a subsystem. `layer` is above that of everything it depends on."""

    name: str
    essential: bool
    has_process: bool
    layer: int = 0


_NOBODY: Mapping[str, str] = MappingProxyType({})


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
    `rung_by_probe` is the rung each probe's anomaly calls for, unless its finding's evidence names a `rung`
    of its own; `parked` maps subsystems that recovery has given up on to the reason, `paused` those that a
    person has told to rest, `victims` those that fail because another does to that other: they wait, and are
    not started, until it is well. The highest rung that anything asks for wins.
    """
    active = list(anomalies)
    return {s.name: _desired(s, active, phase, rung_by_probe, parked, paused, victims) for s in subsystems}


def _desired(
    subsystem: Containable,
    anomalies: list[Anomaly],
    phase: Phase,
    rung_by_probe: Mapping[str, Rung],
    parked: Mapping[str, str],
    paused: Mapping[str, str],
    victims: Mapping[str, str],
) -> Hold:
    holds = [
        Hold(_called_for(a, rung_by_probe), a.finding.reason)
        for a in anomalies
        if a.key.subsystem == subsystem.name
    ]
    if subsystem.name in parked:
        holds.append(Hold(Rung.STOP, parked[subsystem.name]))
    if subsystem.name in paused:
        holds.append(Hold(Rung.FREEZE, paused[subsystem.name], paused=True))
    if subsystem.name in victims:
        root = victims[subsystem.name]
        holds.append(Hold(Rung.FREEZE, f"it waits for {root}, whose victim it is", paused=True, root=root))
    if phase is Phase.LIFEBOAT:
        holds.append(Hold(Rung.STOP, "LIFEBOAT: everything is stopped until a relaunch", paused=True))
    elif phase is Phase.PRESERVATION and not subsystem.essential:
        holds.append(Hold(Rung.FREEZE, "PRESERVATION: non-essential work is paused", paused=True))
    strongest = max(holds, key=lambda hold: hold.rung, default=Hold(Rung.OPEN))
    if not subsystem.has_process and strongest.rung > Rung.BLOCK:
        return replace(strongest, rung=Rung.BLOCK)
    return strongest


_RUNG_BY_LABEL = {rung.label: rung for rung in Rung}


def _called_for(anomaly: Anomaly, rung_by_probe: Mapping[str, Rung]) -> Rung:
    """The rung that the evidence names; where it names none, or none there is, the probe's."""
    named = anomaly.finding.evidence.get("rung")
    rung = _RUNG_BY_LABEL.get(named) if isinstance(named, str) else None
    return rung_by_probe.get(anomaly.key.probe, Rung.BLOCK) if rung is None else rung
