"""Plan the steps that each transition calls for. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from epad.control_loop.step import WAVE, Lane, Plan, Step, StepName
from statemachine.assessor import Anomaly
from statemachine.containment import Containable, Hold, Rung, tools_among
from statemachine.finding import FOR_A_PERSON, HOST
from statemachine.phase import Phase
from statemachine.table import Row
from statemachine.tool_targets import is_tool_target

DATASTORES = "datastores"


class Target(NamedTuple):
    """Something a recovery works on: a subsystem, a part of epad's own state, or a store and who writes it."""

    is_subsystem: bool
    name: str
    writer: str = ""

    @classmethod
    def subsystem(cls, name: str) -> Target:
        return cls(True, name)

    @classmethod
    def datastore(cls, name: str, writer: str) -> Target:
        return cls(False, f"{DATASTORES}/{name}", writer)


LEDGER = Target(False, "ledger")
_UNPERSISTED = frozenset({Phase.NORMAL, Phase.QUARANTINE})
_OPEN = Hold(Rung.OPEN)


def containment_steps(
    subsystems: Sequence[Containable],
    before: Mapping[str, Hold],
    after: Mapping[str, Hold],
    skip: Collection[Target] = (),
) -> list[Step]:
    """Return the steps from one set of holds to another.

    Tightening goes first, users before providers; loosening follows, providers first. Subsystems that none of the
    others depends on form one wave, done at once. A subsystem that a recovery restarts in this same decision is
    skipped: its restart step opens it. A tool that nothing is found of any more is in `before` alone.
    """
    skipped = {target.name for target in skip if target.is_subsystem}
    wanted = {**dict.fromkeys(before, _OPEN), **after}
    changed = [
        s
        for s in (*subsystems, *tools_among(wanted, subsystems))
        if s.name not in skipped and before.get(s.name, _OPEN) != wanted[s.name]
    ]
    tighter = [s for s in reversed(changed) if wanted[s.name].rung >= before.get(s.name, _OPEN).rung]
    looser = [s for s in changed if s not in tighter]
    waves = (tuple(wave) for part in (tighter, looser) for _, wave in groupby(part, key=lambda s: s.layer))
    return [_hold_step(s.name, wanted[s.name], number) for number, wave in enumerate(waves) for s in wave]


def _hold_step(name: str, hold: Hold, wave: int) -> Step:
    arguments = {"rung": hold.rung.label, "reason": hold.reason, "paused": hold.paused, WAVE: wave}
    return Step(StepName.HOLD, name, {**arguments, "root": hold.root} if hold.root else arguments)


def recovery_targets(
    degraded: Iterable[Target],
    anomalies: Iterable[Anomaly],
    victims: Collection[str] = (),
    order: Sequence[str] = (),
) -> tuple[Target, ...]:
    """Return the targets of a recovery: the degraded ones and those in trouble, unless a person holds them.

    Epad's own state and damaged stores go first, then the subsystems in `order`, providers before those who need
    them; who writes a store that is restored is stopped for it, and so is among them. A victim is not restarted:
    it comes back by itself once its root does. A tool has nothing that a restart would mend.
    """
    active, degraded = list(anomalies), list(degraded)
    held = {a.key.subsystem for a in active if a.key.probe in FOR_A_PERSON}
    writers = {target.writer for target in degraded if target.writer}
    tools = {a.key.subsystem for a in active if is_tool_target(a.key.subsystem, order)}
    troubled = ({a.key.subsystem for a in active} | writers) - held - tools - {HOST} - set(victims)
    rank = {name: number for number, name in enumerate(order)}
    targets = {Target.subsystem(name) for name in troubled} | set(degraded)
    return tuple(
        sorted(targets, key=lambda target: (target.is_subsystem, rank.get(target.name, -1), target.name))
    )


def within_blast_ratio(
    victims: Mapping[str, str], subsystems: int, ratio: float, phase: Phase
) -> dict[str, str]:
    """The victims that may be paused: no more than a share of all subsystems while nothing has been persisted.

    Those nearest to the root go first; the rest run on and are shown.
    """
    most = len(victims) if phase not in _UNPERSISTED else int(ratio * subsystems)
    return dict(list(victims.items())[:most])


def plan_for(row: Row, containment: Sequence[Step], targets: Sequence[Target]) -> list[Plan]:
    """Return the plans of a transition: containment in its own lane, the phase's response in the other."""
    if row.destination is Phase.LIFEBOAT:
        # One lane here: what is irreplaceable is saved at once, the children are stopped in order, and the bundle
        # is written once they have.
        why = {"sentence": row.sentence}
        first, save = Step(StepName.FIRST_TIER, HOST, why), Step(StepName.LIFEBOAT, HOST, why)
        return [Plan(Lane.PHASE, row.sentence, (first, *containment, save))]
    plans = [Plan(Lane.CONTAINMENT, row.sentence, containment)] if containment else []
    if row.destination is Phase.PRESERVATION:
        plans.append(
            Plan(Lane.PHASE, row.sentence, [Step(StepName.CHECKPOINT, HOST, {"reason": row.sentence})])
        )
    if row.destination is Phase.RECOVERY:
        plans.append(Plan(Lane.PHASE, row.sentence, recovery_steps(targets)))
    return plans


def recovery_steps(targets: Sequence[Target]) -> list[Step]:
    """Return the steps of a recovery, in order: rebuild damaged data, restart subsystems, replay lost turns."""
    return [*map(_recovery_step, targets), Step(StepName.REPLAY, HOST)]


def _recovery_step(target: Target) -> Step:
    if target == LEDGER:
        return Step(StepName.REPAIR_LEDGER, target.name)
    if not target.is_subsystem:
        return Step(StepName.RESTORE_DATASTORE, target.name.partition("/")[2], {"writer": target.writer})
    return Step(StepName.RESTART, target.name)


def calls_off(row: Row | None) -> bool:
    """Tell if unfinished work is to be left: on the way into LIFEBOAT, and out of it."""
    return row is not None and Phase.LIFEBOAT in {row.source, row.destination}
