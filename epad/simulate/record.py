"""Define the records of a recording: every input of a decision, small enough to keep for weeks.

Times are `Clock.monotonic()` of the boot that the last `Began` names.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from epad.control_loop.journal import Loaded
from epad.control_loop.seen import Seen
from epad.control_loop.step import Lane, Operation, OperationEnded, Step, StepName, StepRecord, StepState
from epad.control_loop.stimulus import Forced, Ordered, Paused, Released, Requested, Resumed, Stimulus
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.assessor import Anomaly
from statemachine.finding import Finding, Severity
from statemachine.phase import Phase
from statemachine.rung import Rung
from statemachine.situation import Order

# Of a finding's evidence, what decisions look at; the rest may be large and is in the journal.
EVIDENCE = ("detector",)
MAX_REASON_CHARACTERS = 200
NOTES = ("incident", "paused")


class Found(Struct, frozen=True, tag="found", omit_defaults=True):
    """A finding. A recording made before `rung` was a field of its own has it in the evidence.

    Raises UnknownRungError, as a ValidationError where it is decoded, for a rung that there is not.
    """

    probe: str
    subsystem: str
    severity: int
    at: float
    reason: str = ""
    evidence: dict[str, Any] = {}
    hard: bool = False
    unit: str = ""
    rung: str | None = None

    def __post_init__(self) -> None:
        self._rung()

    def _rung(self) -> Rung | None:
        named = self.evidence.get("rung") if self.rung is None else self.rung
        return None if named is None else Rung.labelled(named)

    @classmethod
    def of(cls, finding: Finding) -> Found:
        evidence = {key: finding.evidence[key] for key in EVIDENCE if key in finding.evidence}
        reason = finding.reason[:MAX_REASON_CHARACTERS]
        return cls(
            finding.probe,
            finding.subsystem,
            int(finding.severity),
            finding.at,
            reason,
            evidence,
            finding.hard,
            finding.unit,
            None if finding.rung is None else finding.rung.label,
        )

    def stimulus(self) -> Finding:
        return Finding(
            self.probe,
            self.subsystem,
            Severity(self.severity),
            self.at,
            self.reason,
            unit=self.unit,
            evidence={key: value for key, value in self.evidence.items() if key != "rung"},
            hard=self.hard,
            rung=self._rung(),
        )


class Told(Struct, frozen=True, tag="told"):
    """A person's order about a subsystem: release, pause or resume."""

    order: str
    subsystem: str
    reason: str = ""

    @classmethod
    def of(cls, told: Released | Paused | Resumed) -> Told:
        match told:
            case Released(subsystem, reason):
                return cls("release", subsystem, reason)
            case Paused(subsystem, reason):
                return cls("pause", subsystem, reason)
            case Resumed(subsystem):
                return cls("resume", subsystem)

    def stimulus(self) -> Released | Paused | Resumed:
        match self.order:
            case "release":
                return Released(self.subsystem, self.reason)
            case "pause":
                return Paused(self.subsystem, self.reason)
        return Resumed(self.subsystem)


class Commanded(Struct, frozen=True, tag="commanded"):
    """A person's order about the whole daemon."""

    order: str
    reason: str

    def stimulus(self) -> Ordered:
        return Ordered(Order(self.order), self.reason)


class ForcedTo(Struct, frozen=True, tag="forced"):
    """A person's order to enter a phase without waiting."""

    phase: str
    reason: str

    def stimulus(self) -> Forced:
        return Forced(Phase(self.phase), self.reason)


class Ended(Struct, frozen=True, tag="ended"):
    """The end of an operation."""

    lane: str
    steps: tuple[str, ...]
    state: str

    def stimulus(self) -> OperationEnded:
        steps = tuple(StepRecord(0, Step(StepName(name), ""), StepState.DONE) for name in self.steps)
        return OperationEnded(Operation(0, "", Lane(self.lane), "", steps), StepState(self.state))


Input = Found | Told | Commanded | ForcedTo | Ended


def as_input(stimulus: Stimulus) -> Input | None:
    """A stimulus as it is recorded; None for the passing of time, and for work that changes no phase."""
    match stimulus:
        case Finding():
            return Found.of(stimulus)
        case Released() | Paused() | Resumed():
            return Told.of(stimulus)
        case Ordered(order, reason):
            return Commanded(order, reason)
        case Forced(phase, reason):
            return ForcedTo(phase.value, reason)
        case OperationEnded(operation, state):
            names = tuple(record.step.name.value for record in operation.steps)
            return Ended(operation.lane.value, names, state.value)
        case Requested() | None:
            return None


class Standing(Struct, frozen=True):
    """An anomaly that stood when a recording began."""

    finding: Found
    raised_at: float
    raises: int


class Began(Struct, frozen=True, tag="began"):
    """A place to begin a replay at: the start of a daemon, or (`life` False) a quiet moment of its life."""

    boot_id: str
    config: msgspec.Raw
    phase: str
    entered_at: float
    anomalies: tuple[Standing, ...] = ()
    notes: dict[str, Any] = {}
    phase_operation_open: bool = False
    last_phase_state: str = ""
    life: bool = True

    @classmethod
    def of(cls, boot_id: str, config: bytes, loaded: Loaded) -> Began:
        """Build the record of a start from the state that the previous run left."""
        return cls(
            boot_id=boot_id,
            config=msgspec.Raw(config),
            phase=loaded.phase.value,
            entered_at=loaded.entered_monotonic,
            anomalies=tuple(Standing(Found.of(a.finding), a.raised_at, a.raises) for a in loaded.anomalies),
            notes={key: loaded.notes[key] for key in NOTES if key in loaded.notes},
            phase_operation_open=any(o.lane is Lane.PHASE for o in loaded.open_operations),
            last_phase_state=loaded.last_phase_state.value if loaded.last_phase_state else "",
        )

    def loaded(self, now: float) -> Loaded:
        """Return the same as the journal gave it to the daemon."""
        waiting = Operation(0, "", Lane.PHASE, "", ())
        return Loaded(
            phase=Phase(self.phase),
            entered_monotonic=self.entered_at,
            entered_utc=None,
            anomalies=tuple(
                Anomaly(stood.finding.stimulus(), stood.raised_at, now, stood.raises)
                for stood in self.anomalies
            ),
            open_operations=(waiting,) if self.phase_operation_open else (),
            last_phase_state=StepState(self.last_phase_state) if self.last_phase_state else None,
            notes=self.notes,
        )


class Reconfigured(Struct, frozen=True, tag="reconfigured"):
    """A reload changed the configuration."""

    config: msgspec.Raw


class Cycle(Struct, frozen=True, tag="cycle", omit_defaults=True):
    """Holds one cycle of the control loop.

    `seen` is left out while it is as before. `looked` is whether anything was decided anew, `decided` whether
    that came to something, `moves` when each transition of it was taken.
    """

    input: Input | None = None
    seen: Seen | None = None
    looked: bool = False
    decided: bool = False
    moves: tuple[float, ...] = ()


class Admitted(Struct, frozen=True, tag="admitted"):
    """A turn was let through."""

    event: TurnAdmitted


class Refused(Struct, frozen=True, tag="refused"):
    """A request was turned away, and `more` like it within the same second."""

    event: TurnRefused
    more: int = 0


class Finished(Struct, frozen=True, tag="finished"):
    """A turn was closed."""

    event: TurnFinished


Record = Began | Reconfigured | Cycle | Admitted | Refused | Finished
