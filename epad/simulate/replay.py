"""A recording, decided again: the same assessor, decider and table, on the recorded inputs and their clock.

With nothing changed every cycle is repeated at the moment it happened, so the transitions are the same ones. With
something changed, time is looked at as often as the daemon does; from the first transition that differs, the
recorded ends of operations mean nothing, and each operation is taken to succeed at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from epad.answers.reports import RefusedTurns
from epad.configuration.recorded import read_recorded
from epad.configuration.schema import Config
from epad.control_loop.decider import Decider
from epad.control_loop.journal import Decision
from epad.control_loop.plans import Target
from epad.control_loop.rules import make_rules
from epad.control_loop.seen import Seen
from epad.control_loop.step import Lane, Operation, OperationEnded, StepRecord, StepState
from epad.control_loop.stimulus import Stimulus
from epad.probing.build import configure_assessor, make_assessor
from epad.simulate import settings as changed
from epad.simulate.record import Admitted, Began, Cycle, Ended, Finished, Found, Reconfigured, Record, Refused
from epad.simulate.settings import Setting
from epad.simulate.turns import Turns
from probes.token_burn import GENTLE_NAME, NAME, Detector
from statemachine.containment import Containable, Hold, Rung
from statemachine.phase import Phase
from statemachine.table import Row

Stamped = tuple[float, float, Record]
"""UTC and monotonic seconds, and what was recorded at that time."""


@dataclass(frozen=True, slots=True)
class Move:
    """Holds one transition. `because` are the troubles that stood at that time."""

    utc: float
    source: str
    trigger: str
    destination: str
    guard: str
    because: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return the key by which two transitions are the same, at any time."""
        return self.source, self.trigger, self.destination, self.guard


@dataclass(slots=True)
class Replayed:
    """Holds the result of a replay."""

    moves: list[Move] = field(default_factory=list)
    records: int = 0
    lives: int = 0
    begun_utc: float | None = None
    ended_utc: float | None = None
    diverged_utc: float | None = None
    refusals: Sequence[RefusedTurns] = ()


class _Clock:
    """The recording's time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> Any:
        raise NotImplementedError("nothing is decided from the wall clock")


class _World:
    """Gives the world as it was recorded; implements `epad.control_loop.world_protocol.World`."""

    def __init__(self) -> None:
        self.turns: Turns | None = None
        self.see(Seen())

    def see(self, seen: Seen) -> None:
        self._containables = seen.containables()
        self._failed, self._blind = frozenset(seen.failed), frozenset(seen.blind)
        self._damaged, self._victims = seen.targets(), seen.victims

    @property
    def sound(self) -> bool:
        return not (self._failed or self._damaged)

    def containables(self) -> Sequence[Containable]:
        return self._containables

    def failed(self) -> frozenset[str]:
        return self._failed

    def damaged(self) -> frozenset[Target]:
        return self._damaged

    def blind_probes(self) -> frozenset[str]:
        return self._blind

    def victims(self) -> Mapping[str, str]:
        return self._victims

    def forget(self, subsystem: str) -> None:
        if self.turns is not None:
            self.turns.forget(subsystem)

    def close_gateway(self, reason: str) -> None:
        """There is none."""

    def reopen_gateway(self) -> None:
        """There is none."""

    async def journal_failed(self, reason: str) -> None:
        """Do nothing: a replay writes no journal."""


class Replay:
    """Replays one recording. `actual` are the transitions that the journal has of the same time."""

    def __init__(self, settings: Sequence[Setting], actual: Sequence[Move] = ()) -> None:
        self._settings = settings
        self._actual = [move.key for move in actual]
        self._clock = _Clock()
        self._world = _World()
        self._decider: Decider | None = None
        self._ticked_at = self._sampled_at = float("-inf")
        self._pending: list[OperationEnded] = []
        self._boot_id = ""
        self._offset = 0.0
        self._result = Replayed()
        self._applied: set[tuple[str, ...]] = set()
        self._last_config: Config

    def run(self, records: Iterable[Stamped]) -> Replayed:
        """Replay everything. Raises SettingError, msgspec.ValidationError for another version's recording."""
        result = self._result
        for utc, at, record in records:
            result.begun_utc = utc if result.begun_utc is None else result.begun_utc
            result.ended_utc, self._offset = utc, utc - at
            result.records += 1
            if self._decider is not None and not (isinstance(record, Began) and record.life):
                self._pass_time(at)
            another_boot = isinstance(record, Began) and record.boot_id != self._boot_id
            self._clock.now = at if another_boot else max(self._clock.now, at)
            self._take(record)
        if self._world.turns is not None:
            result.refusals = self._turns.as_rows()
            # What was at home in no configuration of that time is a mistake, and is told as one.
            strange = [one for one in self._settings if one[0] not in self._applied]
            changed.apply(self._last_config, strange)
        return result

    def _take(self, record: Record) -> None:
        match record:
            case Began():
                self._begin(record)
            case Reconfigured(config):
                self._configure(config)
            case Cycle():
                self._cycle(record)
            case Admitted(event):
                self._turns.admitted(event)
            case Refused(event, more):
                self._turns.refused(event, more)
            case Finished(event):
                self._turns.finished(event)
        self._say_findings()

    @property
    def _turns(self) -> Turns:
        if self._world.turns is None:
            raise LookupError("the recording does not begin with a beginning")
        return self._world.turns

    # Lives.

    def _begin(self, record: Began) -> None:
        """Start from the recorded state of a daemon's start; a quiet moment is a place to begin and no more."""
        if self._decider is not None and not record.life:
            return
        config = self._config_of(record.config)
        same_boot, self._boot_id = self._boot_id == record.boot_id, record.boot_id
        self._pending.clear()
        self._result.lives += record.life
        self._decider = Decider(
            make_rules(config), make_assessor(config.hysteresis), self._world, self._clock, record.boot_id
        )
        self._decider.restore(record.loaded(self._clock.now))
        self._ticked_at = self._sampled_at = self._clock.now
        self._tick_seconds = config.daemon.tick_seconds
        if self._world.turns is None:
            self._world.turns = self._make_turns(config)
        else:
            self._turns.begin(config, same_boot=same_boot)

    def _make_turns(self, config: Config) -> Turns:
        budgets = changed.touches(self._settings, ("subsystems",), ("groups",), ("budgets",))
        burn = changed.touches(self._settings, ("probes", "token_burn"))
        return Turns(
            config,
            self._clock,
            self._hold_of,
            judge_holds=bool(self._settings),
            judge_budgets=budgets,
            judge_burn=budgets or burn,
        )

    def _configure(self, body: msgspec.Raw) -> None:
        config = self._config_of(body)
        if self._decider is not None:
            self._decider.configure(make_rules(config))
            configure_assessor(self._decider.assessor, config.hysteresis)
            self._turns.configure(config)

    def _config_of(self, body: msgspec.Raw) -> Config:
        config = read_recorded(body)
        settings = changed.at_home(config, self._settings)
        self._applied.update(path for path, _ in settings)
        self._last_config = config
        return changed.apply(config, settings)

    def _hold_of(self, subsystem: str) -> Hold:
        holds = self._decider.holds if self._decider is not None else {}
        return holds.get(subsystem, Hold(Rung.OPEN))

    # Cycles.

    def _cycle(self, record: Cycle) -> None:
        if record.seen is not None:
            self._world.see(record.seen)
        given = record.input
        if isinstance(given, Found) and self._is_judged_anew(given):
            given = None
        if isinstance(given, Ended) and self._result.diverged_utc is not None:
            given = None
        self._decide(given.stimulus() if given else None, list(record.moves), looked=record.looked)

    def _is_judged_anew(self, found: Found) -> bool:
        """Tell if the detectors of this replay produce the finding themselves; streamed text is not recorded."""
        streamed = found.evidence.get("detector") == Detector.LOOPING_OUTPUT
        return self._turns.judges_burn and found.probe in {NAME, GENTLE_NAME} and not streamed

    def _decide(self, stimulus: Stimulus, moved_at: list[float], *, looked: bool = True) -> None:
        """Do the work of `Controller.run_cycle`, but for the writing and the acting."""
        decider = self._decider
        if decider is None:
            return
        changes = decider.absorb(stimulus)
        if not looked and not changes:
            return
        for decision, situation in decider.decisions(changes):
            if self._result.diverged_utc is not None:
                self._pending += _taken_to_succeed(decision)
            if decision.row is None:
                return
            if moved_at:
                self._clock.now = max(self._clock.now, moved_at.pop(0))
            because = "; ".join(anomaly.finding.reason for anomaly in decider.assessor.active)
            decider.move(decision.row, situation)
            self._note(decision, decision.row, because)

    def _note(self, decision: Decision, row: Row, because: str) -> None:
        result, utc = self._result, self._clock.now + self._offset
        result.moves.append(
            Move(
                utc,
                row.source.value,
                row.trigger.value,
                row.destination.value,
                row.guard,
                because or row.sentence,
            )
        )
        at = len(result.moves) - 1
        if result.diverged_utc is None and self._actual[at : at + 1] != [result.moves[-1].key]:
            result.diverged_utc = utc
            self._pending += _taken_to_succeed(decision)

    # Time.

    def _pass_time(self, until: float) -> None:
        """Look at the time as often as the daemon does, where something was changed and time may matter."""
        if not self._settings:
            return
        while (due := min(self._next_tick(), self._next_sample())) < until:
            self._clock.now = max(self._clock.now, due)
            if due >= self._next_sample():
                self._sampled_at = self._clock.now
                self._turns.findings += self._turns.sample()
                self._say_findings()
            if due >= self._next_tick():
                self._ticked_at = self._clock.now
                self._tick()
        self._ticked_at = max(self._ticked_at, until - self._tick_seconds)

    def _tick(self) -> None:
        pending, self._pending = self._pending, []
        for ended in pending:
            self._decide(ended, [])
        self._decide(None, [])

    def _next_tick(self) -> float:
        """Return the time of the next tick; infinity while nothing is wrong, since time alone changes nothing then."""
        decider = self._decider
        idle = decider is None or (
            decider.phase is Phase.NORMAL and not decider.assessor.active and self._world.sound
        )
        return float("inf") if idle else self._ticked_at + self._tick_seconds

    def _next_sample(self) -> float:
        turns = self._turns
        return self._sampled_at + turns.interval_seconds if turns.judges_burn else float("inf")

    def _say_findings(self) -> None:
        turns = self._world.turns
        if turns is not None and turns.findings:
            found, turns.findings[:] = list(turns.findings), []
            for finding in found:
                self._decide(finding, [])


def _taken_to_succeed(decision: Decision) -> list[OperationEnded]:
    """Return successful ends of the operations in the lane that the policy waits for."""
    return [
        OperationEnded(
            Operation(
                0,
                "",
                plan.lane,
                plan.purpose,
                tuple(StepRecord(0, step, StepState.DONE) for step in plan.steps),
            ),
            StepState.DONE,
        )
        for plan in decision.plans
        if plan.lane is Lane.PHASE
    ]
