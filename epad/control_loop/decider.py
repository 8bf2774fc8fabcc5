"""Work out the decision that follows from a change, without carrying it out.

It does no I/O and has no await, so nothing interrupts it: the controller (`loop.py`) journals a decision, then acts.

| state | changed by | after a restart |
|---|---|---|
| the machine (phase) | `move`, once the row is in the journal | from the journal |
| anomalies (`assessor`) | `absorb`; a recovery or a relaunch clears | from the journal |
| incident, paused ones | `absorb`, `next_decision` | from their notes; `Incident.settled` |
| holds | `next_decision`, from the ladder of containment | worked out again |

Invariants: a decision takes at most one row of the table. Holds are those of the ladder at the last decision. A
decision can be repeated from its recorded stimulus and world, so the clock, the world and `Rules` are handed in. A
crash before the journal has a decision loses it with its stimulus, and the probes find the trouble again; after it,
`restore` takes phase, anomalies and notes up. Rejected: a library's asynchronous machine, which loses requests
(`statemachine/machine.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf

from epad.control_loop.incident import INCIDENT_NOTE, Incident
from epad.control_loop.journal import Decision, Loaded
from epad.control_loop.plans import (
    Target,
    calls_off,
    containment_steps,
    plan_for,
    recovery_targets,
    within_blast_ratio,
)
from epad.control_loop.repair import held_by_a_person, needing_repair, waits_for_a_person
from epad.control_loop.rules import Rules
from epad.control_loop.step import Lane, OperationEnded, Plan, Step, StepName, StepState
from epad.control_loop.stimulus import Forced, Ordered, Paused, Released, Resumed, Stimulus
from epad.control_loop.symptoms import is_excused, taken_back
from epad.control_loop.world_protocol import World
from statemachine.assessor import Anomaly, Assessor, Change
from statemachine.clock import Clock
from statemachine.containment import Containable, Hold, Rung, desired_holds, reasons_to_hold
from statemachine.finding import FOR_A_PERSON, HOST, AnomalyKey, Finding, Severity
from statemachine.force import force, refusal
from statemachine.forecast import forecast
from statemachine.machine import Machine
from statemachine.phase import Phase
from statemachine.policy import decide
from statemachine.roots import roots
from statemachine.shortage import host_is_short
from statemachine.situation import Persist, Situation
from statemachine.table import Row, Trigger
from statemachine.tool_targets import is_tool_target

PAUSED_NOTE = "paused"
# Phases one stimulus may move through before the loop looks at the next one.
MAX_MOVES = 5
_SAVES = frozenset({StepName.CHECKPOINT, StepName.FIRST_TIER, StepName.LIFEBOAT})

Asked = tuple[
    Sequence[Containable],
    Sequence[Anomaly],
    Phase,
    Mapping[str, Rung],
    Mapping[str, str],
    Mapping[str, str],
    Mapping[str, str],
]
"""The arguments of `desired_holds`."""


class Decider:
    """Owns the machine, the anomalies and the incident."""

    def __init__(self, rules: Rules, assessor: Assessor, world: World, clock: Clock, boot_id: str) -> None:
        self.assessor = assessor
        self._rules = rules
        self._world = world
        self._clock = clock
        self._boot_id = boot_id
        self._machine = Machine()
        self._incident = Incident()
        self._noted = self._incident
        self._paused: dict[str, str] = {}
        self._noted_paused: dict[str, str] = {}
        self._entered_at = clock.monotonic()
        self._last_trouble = clock.monotonic()
        self._holds: dict[str, Hold] = {}
        self._forced: Forced | None = None
        self.recovering: dict[str, str] = {}
        """What the last recovery of this life works on, each with what was found of it then."""

    def configure(self, rules: Rules) -> None:
        """Decide by these rules from now on."""
        self._rules = rules

    def judged(self, finding: Finding) -> Finding:
        """Return a finding as it counts: of a detector that only tells, a warning."""
        return self._rules.enforcement.judge(finding)

    def begin_afresh(self, subsystem: str) -> None:
        """Hold nothing against it that its detectors remember: a person starts it anew."""
        self._world.forget(subsystem)

    def hold_for(self, subsystem: str) -> Hold:
        """Return the hold that a subsystem would need now, although nothing was decided about it yet."""
        return self._desired(self.phase)[subsystem]

    def reasons_to_hold(self) -> dict[str, list[Hold]]:
        """Return every reason to hold each subsystem as of now, the firmest first."""
        reasons = reasons_to_hold(*self._asked(self.phase))
        return {name: [h for h in holds if h.rung is not Rung.OPEN] for name, holds in reasons.items()}

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    @property
    def phase_seconds(self) -> float:
        return self._clock.monotonic() - self._entered_at

    @property
    def has_room_for_chores(self) -> bool:
        """Tell if epad may do optional work: not while it saves or mends, nor on a host that is short."""
        return self.phase in {Phase.NORMAL, Phase.QUARANTINE} and not host_is_short(self.assessor.active)

    @property
    def incident(self) -> Incident:
        return self._incident

    @property
    def attempts_allowed(self) -> int:
        """Return how many recovery attempts an incident gets."""
        return self._rules.limits.recovery_attempts

    @property
    def paused(self) -> Mapping[str, str]:
        """Return the subsystems that a person lets rest, and why."""
        return self._paused

    @property
    def holds(self) -> Mapping[str, Hold]:
        """Return each subsystem's hold, as of the last decision."""
        return self._holds

    def restore(self, loaded: Loaded) -> None:
        """Take up where a former life of the daemon was."""
        self._machine = Machine(loaded.phase)
        self.assessor.restore(loaded.anomalies)
        if INCIDENT_NOTE in loaded.notes:
            self._noted = Incident.from_json(loaded.notes[INCIDENT_NOTE], self._boot_id)
            self._incident = self._noted.settled(loaded, self._clock.monotonic())
        self._paused = dict(loaded.notes.get(PAUSED_NOTE, {}))
        self._noted_paused = dict(self._paused)
        self._entered_at = loaded.entered_monotonic
        self._last_trouble = self._clock.monotonic()
        self._holds = self._desired(self.phase)

    def absorb(self, stimulus: Stimulus) -> list[Change]:
        """Take in one stimulus, and the time that has passed."""
        self._forced = stimulus if isinstance(stimulus, Forced) else None
        changes = self._absorb(stimulus)
        for keys, reason in taken_back(self.assessor.active, self._world):
            changes += self.assessor.dismiss(keys, reason)
        changes += self.assessor.sweep(self._clock.monotonic(), self._world.blind_probes())
        if any(not self._waits_for_a_person(a.key) for a in self.assessor.active):
            self._last_trouble = self._clock.monotonic()
        return changes

    def _absorb(self, stimulus: Stimulus) -> list[Change]:
        match stimulus:
            case Finding():
                found = self._rules.enforcement.judge(stimulus)
                return [] if is_excused(found.key, self._world) else self.assessor.observe(found)
            case Released(subsystem, reason):
                self._world.forget(subsystem)
                self._incident = self._incident.without(subsystem)
                return self.assessor.acknowledge(subsystem, f"released: {reason}")
            case Paused(subsystem, reason):
                self._paused[subsystem] = reason
            case Resumed(subsystem):
                self._paused.pop(subsystem, None)
            case Ordered(order, reason):
                self._incident = replace(self._incident, order=order, order_reason=reason)
            case OperationEnded():
                self._absorb_end(stimulus)
        return []

    def _absorb_end(self, ended: OperationEnded) -> None:
        if ended.operation.lane is not Lane.PHASE or ended.state is StepState.ABORTED:
            return
        # An operation of a former phase may end late: a lifeboat's bundle is no persist step.
        saved = {record.step.name for record in ended.operation.steps} & _SAVES
        if self.phase is Phase.PRESERVATION and StepName.CHECKPOINT in saved:
            persist = Persist.DONE if ended.state is StepState.DONE else Persist.FAILED
            self._incident = replace(self._incident, persist=persist)
        if self.phase is Phase.RECOVERY and not saved:
            now = self._clock.monotonic()
            self._incident = replace(self._incident, attempt_running=False, attempt_ended_at=now)

    def situation(self) -> Situation:
        """The facts as of now; while a forced move is decided, those it is forced to: the waiting is over."""
        now = self._situation()
        if self._forced is None:
            return now
        forced = force(now, self._forced.phase, self._rules.limits)
        return now if forced is None else forced[1]

    def refusal(self, wanted: Phase) -> str:
        """Return why a phase cannot be forced now; empty if it can."""
        return refusal(self._situation(), wanted, self._rules.limits)

    def _situation(self) -> Situation:
        return self._situation_of(self._clock.monotonic(), self.assessor.active, self._last_trouble)

    def situation_at(self, at: float) -> Situation:
        """Return the facts at a later time if nothing is found until then and no operation ends."""
        active = [a for a in self.assessor.active if self.lets_go_at(a) > at]
        last = max((self.lets_go_at(a) for a in self._found(self.assessor.active)), default=0.0)
        return self._situation_of(at, active, max(self._last_trouble, min(last, at)))

    def lets_go_at(self, anomaly: Anomaly) -> float:
        """Return when an anomaly clears by itself if nothing bad is found again; infinity if it does not."""
        return inf if self.is_blind(anomaly.key.probe) else self.assessor.clears_at(anomaly)

    def is_blind(self, probe: str) -> bool:
        """Tell if a probe could not see at its last look: its findings stand until it can."""
        return probe in self._world.blind_probes()

    def next_move(self) -> tuple[float, Row] | None:
        """Return the time and row of the phase's next move if nothing is found until then; None if it stays."""
        limits, active = self._rules.limits, self.assessor.active
        clear = [self._last_trouble, *(self.lets_go_at(a) for a in active)]
        moments = [
            self._entered_at + limits.dwell_seconds,
            self._entered_at + limits.recovery_limit_seconds,
            self._incident.attempt_ended_at + limits.verify_seconds,
            *(at + seconds for at in clear for seconds in (0.0, limits.verify_seconds)),
            *(a.raised_at + limits.quarantine_limit_seconds for a in active),
        ]
        return forecast(self.situation_at, moments, self._clock.monotonic(), limits)

    def _found(self, active: Sequence[Anomaly]) -> list[Anomaly]:
        """Return the anomalies that wait for no person."""
        return [a for a in active if not self._waits_for_a_person(a.key)]

    def _situation_of(self, now: float, active: Sequence[Anomaly], last_trouble: float) -> Situation:
        found, held = self._found(active), held_by_a_person(self.assessor.active)
        independent = roots(found, self._rules.rung_by_probe)
        return Situation(
            phase=self.phase,
            in_phase_seconds=now - self._entered_at,
            anomalies=len(active),
            held=len(active) - len(found),
            critical=sum(a.severity is Severity.CRITICAL for a in found),
            # What a person holds is contained and may not be repaired: its age calls for nothing more.
            oldest_anomaly_seconds=max(
                (now - a.raised_at for a in found if a.key.subsystem not in held), default=0.0
            ),
            quiet_seconds=now - last_trouble,
            degraded=len(self._degraded()),
            persist=self._incident.persist,
            attempt_running=self._incident.attempt_running,
            attempts=self._incident.attempts,
            since_attempt_seconds=now - self._incident.attempt_ended_at,
            recent_recoveries=self._incident.recent_recoveries(now),
            order=self._incident.order,
            dependent=len(found) - len(independent),
        )

    def _degraded(self) -> frozenset[Target]:
        """Return the targets that need repair now."""
        active, now = self.assessor.active, self._clock.monotonic()
        outlasting = [a for a in active if now - a.raised_at >= self._rules.limits.quarantine_limit_seconds]
        held = held_by_a_person(active)
        return needing_repair(self._world, outlasting, held, self._incident.parked, self._paused)

    def _waits_for_a_person(self, key: AnomalyKey) -> bool:
        # No phase mends a tool: its hold is all there is to do.
        is_tool = is_tool_target(key.subsystem, (c.name for c in self._world.containables()))
        return is_tool or waits_for_a_person(key, self._incident.parked, self._world.damaged)

    def decisions(
        self, changes: Sequence[Change], requested: Sequence[Plan] = ()
    ) -> Iterator[tuple[Decision, Situation]]:
        """Work out one decision after another until none follows; each transition is to be taken before the next."""
        for _ in range(MAX_MOVES):
            situation = self.situation()
            decision = self.next_decision(changes, situation, requested)
            if decision is None:
                return
            yield decision, situation
            if decision.row is None:
                return
            changes, requested = [], []

    def next_decision(
        self, changes: Sequence[Change], situation: Situation, requested: Sequence[Plan] = ()
    ) -> Decision | None:
        """Work out the decision that follows from the situation; None if none does."""
        row = decide(situation, self._rules.limits)
        ordered, self._forced = self._ordered(row), None
        targets: tuple[Target, ...] = ()
        if row is not None:
            self._incident = self._incident.after(row, self._clock.monotonic())
            if row.trigger in {Trigger.RECOVER, Trigger.RETRY}:
                targets = self._choose_targets()
                self.recovering = self._reasons_to_recover(targets)
            changes = [*changes, *self._dismissed_by(row)]
        phase = row.destination if row else self.phase
        holds = self._desired(phase)
        # LIFEBOAT calls off what is still being done, so it cannot build on any of it.
        before = {} if row and phase is Phase.LIFEBOAT else self._holds
        steps = containment_steps(self._world.containables(), before, holds, skip=targets)
        plans = [*requested, *(plan_for(row, steps, targets) if row else _contain(steps))]
        self._holds = holds
        news = self._incident != self._noted or self._paused != self._noted_paused
        if not (row or changes or plans or news):
            return None
        self._noted, self._noted_paused = self._incident, dict(self._paused)
        return Decision(
            changes=changes,
            row=row,
            cause={"situation": situation.as_json(), "order": ordered},
            plans=plans,
            notes={
                INCIDENT_NOTE: self._incident.as_json(self._boot_id),
                PAUSED_NOTE: dict(self._paused),
            },
            abort_open=f"the phase moved on to {phase}" if calls_off(row) else "",
        )

    def _ordered(self, row: Row | None) -> str:
        """Return the reason that a person gave for the order behind this row."""
        forced = self._forced
        if forced is not None and row is not None and row.destination is forced.phase:
            return forced.reason
        return self._incident.order_reason

    def move(self, row: Row, situation: Situation) -> None:
        """Take a transition that is in the journal."""
        self._machine.take(row, situation, self._rules.limits)
        if row.source is not row.destination:
            self._entered_at = self._clock.monotonic()

    def prospect(self) -> tuple[Target, ...]:
        """Return the targets of a recovery that would begin now, in its order."""
        order = [c.name for c in self._world.containables()]
        return recovery_targets(self._degraded(), self.assessor.active, self._world.victims(), order)

    def _choose_targets(self) -> tuple[Target, ...]:
        """Choose the targets of this recovery, and park those that have been tried often enough."""
        essential = {c.name: c.essential for c in self._world.containables()}
        chosen = []
        for target in self.prospect():
            times = self._incident.tried.get(target.name, 0)
            expendable = target.is_subsystem and not essential[target.name]
            if expendable and times >= self._rules.limits.attempts_per_subsystem:
                reason = f"parked after {times} recoveries; `epactl release {target.name}` lets it go"
                self._incident = self._incident.with_parked(target.name, reason)
            else:
                self._incident = self._incident.with_tried(target.name)
                chosen.append(target)
        return tuple(chosen)

    def _reasons_to_recover(self, targets: Sequence[Target]) -> dict[str, str]:
        found = {a.key.subsystem: a.finding.reason for a in reversed(self.assessor.active)}
        # The second attempt is made of what has failed again, before anything is found of it.
        found = {**self.recovering, **found}
        return {t.name: found.get(t.name if t.is_subsystem else t.writer or HOST, "") for t in targets}

    def _dismissed_by(self, row: Row) -> list[Change]:
        """Return the anomalies that a recovery or a relaunch clears: each must be found again to count."""
        match row.trigger:
            case Trigger.RECOVER | Trigger.RETRY:
                keys = {a.key for a in self.assessor.active if a.key.probe not in FOR_A_PERSON}
            case Trigger.RELAUNCH:
                keys = {a.key for a in self.assessor.active}
            case _:
                return []
        for key in keys:
            self._world.forget(key.subsystem)
        return self.assessor.dismiss(keys, row.sentence)

    def _desired(self, phase: Phase) -> dict[str, Hold]:
        return desired_holds(*self._asked(phase))

    def _asked(self, phase: Phase) -> Asked:
        """Return the inputs of the ladder of containment."""
        containables = self._world.containables()
        victims = within_blast_ratio(self._world.victims(), len(containables), self._rules.blast_ratio, phase)
        rungs, parked = self._rules.rung_by_probe, self._incident.parked
        return containables, self.assessor.active, phase, rungs, parked, self._paused, victims


def _contain(steps: Sequence[Step]) -> list[Plan]:
    return [Plan(Lane.CONTAINMENT, "containment", steps)] if steps else []
