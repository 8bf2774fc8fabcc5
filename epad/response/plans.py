"""Which steps each transition calls for. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from epad.response.step import Lane, Plan, Step, StepName
from statemachine.assessor import Anomaly
from statemachine.containment import Containable, Hold, Rung
from statemachine.finding import HOST, OPERATOR
from statemachine.phase import Phase
from statemachine.table import Row


class Target(NamedTuple):
    """Something a recovery works on: a subsystem, or a part of epad's own state."""

    is_subsystem: bool
    name: str

    @classmethod
    def subsystem(cls, name: str) -> Target:
        return cls(True, name)


LEDGER = Target(False, "ledger")
_UNPERSISTED = frozenset({Phase.NORMAL, Phase.QUARANTINE})
_OPEN = Hold(Rung.OPEN)


def containment_steps(
    subsystems: Sequence[Containable],
    before: Mapping[str, Hold],
    after: Mapping[str, Hold],
    skip: Collection[Target] = (),
) -> list[Step]:
    """The steps from one set of holds to another.

    Tightening goes first, users before what they depend on; loosening follows, providers first. What a
    recovery restarts in this same decision is skipped: its restart step opens it.
    """
    skipped = {target.name for target in skip if target.is_subsystem}
    changed = [
        s.name for s in subsystems if s.name not in skipped and before.get(s.name, _OPEN) != after[s.name]
    ]
    tighter = [n for n in reversed(changed) if after[n].rung >= before.get(n, _OPEN).rung]
    looser = [n for n in changed if n not in tighter]
    return [_hold_step(name, after[name]) for name in (*tighter, *looser)]


def _hold_step(name: str, hold: Hold) -> Step:
    arguments = {"rung": hold.rung.label, "reason": hold.reason, "paused": hold.paused}
    return Step(StepName.HOLD, name, arguments)


def recovery_targets(
    degraded: Iterable[Target],
    anomalies: Iterable[Anomaly],
    victims: Collection[str] = (),
    order: Sequence[str] = (),
) -> tuple[Target, ...]:
    """What a recovery works on: what is degraded or was found to be in trouble, unless a person holds it.

    Epad's own state goes first, then the subsystems in `order`, providers before those who need them. A victim is
    not restarted: it comes back by itself once its root does.
    """
    active = list(anomalies)
    held = {a.key.subsystem for a in active if a.key.probe == OPERATOR}
    troubled = {a.key.subsystem for a in active} - held - {HOST} - set(victims)
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
    """The plans of a transition: containment in its own lane, the phase's response in the other."""
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
    """What a recovery does, in order: what is damaged is rebuilt, what failed is restarted, what was lost replayed."""
    return [*map(_recovery_step, targets), Step(StepName.REPLAY, HOST)]


def _recovery_step(target: Target) -> Step:
    if target == LEDGER:
        return Step(StepName.REPAIR_LEDGER, target.name)
    return Step(StepName.RESTART, target.name)
