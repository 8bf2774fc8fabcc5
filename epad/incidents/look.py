"""Word the troubles and holds of one moment, from the facts of the decider.

When a thing ends is asked of the assessor and of the transition table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from functools import cached_property
from math import inf, isfinite
from typing import Any

from epad.control_loop.decider import Decider
from epad.incidents.metrics import HOLD, HOLD_ENDS
from epad.incidents.sentence import (
    NOT_BY_ITSELF,
    Sentence,
    ends_it,
    moment,
    names,
    together,
    user_name,
    with_user_names,
)
from epad.incidents.words import ADVICE, HOLDERS, OF_THE_HOST, SILENT, UPSTREAM_WORDS, VERBS
from epad.metrics.registry import Metrics
from statemachine.assessor import Anomaly
from statemachine.clock import Clock
from statemachine.containment import Cause, Hold, Rung
from statemachine.finding import HOST
from statemachine.phase import Phase
from statemachine.situation import Persist
from statemachine.table import Row

CALM = "nothing is wrong"
MOST_CHARACTERS = 300
"""Of a reason, which may quote what a program or a server has said."""
RELAUNCH = "epactl lifeboat relaunch --reason TEXT"
_OWN = frozenset({Cause.FOUND, Cause.PERSON, Cause.PARKED, Cause.PAUSED})

Upstreams = Callable[[], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Ending:
    """Names the end of a hold: `at` is infinity if no time ends it, and `text` describes it."""

    at: float
    text: str
    do: str
    by_itself: bool = True


class IncidentLook:
    """Words the decider's facts at one moment; each moment needs a new one.

    The decider is asked once, regardless of the number of subsystems.
    """

    def __init__(
        self, decider: Decider, clock: Clock, upstreams: Upstreams = tuple, zone: tzinfo | None = None
    ) -> None:
        self._decider = decider
        self._clock = clock
        self._upstreams = upstreams
        self._zone = zone
        self._told: dict[str, Sentence | None] = {}

    @cached_property
    def _reasons(self) -> dict[str, list[Hold]]:
        return self._decider.reasons_to_hold()

    @cached_property
    def _move(self) -> tuple[float, Row] | None:
        return self._decider.next_move()

    @cached_property
    def _anomalies(self) -> dict[tuple[str, str], Anomaly]:
        return {(a.key.probe, a.key.subsystem): a for a in self._decider.assessor.active}

    def of(self, subsystem: str) -> Sentence | None:
        """Return the hold of a subsystem, its reason, its end, and the command; None if it is not held."""
        if subsystem not in self._told:
            self._told[subsystem] = self._of(subsystem)
        return self._told[subsystem]

    def _of(self, subsystem: str) -> Sentence | None:
        reasons = self._reasons.get(subsystem, [])
        if not reasons:
            return None
        # A relaunch out of the lifeboat ends every other reason too.
        reasons = [hold for hold in reasons if hold.cause is Cause.LIFEBOAT] or reasons
        endings = [self._ending(subsystem, hold) for hold in reasons]
        hold, ending = reasons[0], endings[0]
        return Sentence(
            who=subsystem,
            why=_short(self._why(hold)),
            until=_until(ending, reasons, endings),
            do=_do(ending, endings),
            what=VERBS[hold.rung],
            since=self._since(subsystem, hold),
            by_itself=ending.by_itself,
        )

    def ends_at(self, subsystem: str) -> float | None:
        """Return when the last hold on a subsystem ends by itself (monotonic); None if none does by time."""
        endings = [self._ending(subsystem, hold) for hold in self._reasons.get(subsystem, [])]
        at = max((ending.at for ending in endings), default=inf)
        return at if isfinite(at) else None

    def observe(self, metrics: Metrics) -> None:
        """Bring the series of the holds up to date."""
        held, ends = metrics.of(HOLD), metrics.of(HOLD_ENDS)
        held.clear()
        ends.clear()
        now, utc = self._clock.monotonic(), self._clock.utc().timestamp()
        for name, hold in self._decider.holds.items():
            if hold.rung is Rung.OPEN:
                continue
            held.labels(name, hold.rung.label, self._cause(name)).set(1)
            if (at := self.ends_at(name)) is not None:
                ends.labels(name).set(utc + at - now)

    def line_of(self, subsystem: str) -> str:
        """Return the same as text; empty if it is not held."""
        sentence = self.of(subsystem)
        return "" if sentence is None else sentence.line

    def current(self) -> list[Sentence]:
        """Return a sentence for every trouble and hold: subsystems, the host, the upstreams, then those who wait."""
        return [*self._troubles(), *together(self._waiting())]

    def about(self, subject: str | None) -> list[Sentence]:
        """Return the sentences about a subsystem, the host, the present phase, or (None) everything."""
        phase = self.phase()
        if subject is None or subject == self._decider.phase:
            return [*([phase] if phase is not None else ()), *self.current()]
        if subject == HOST:
            return self._unheld()
        sentence = self.of(subject)
        root = next((hold.root for hold in self._reasons.get(subject, []) if hold.root), "")
        return [one for one in (sentence, self.of(root) if root else None) if one is not None]

    def headline(self) -> str:
        """Say all of it in one line: the condition of the phase itself, every trouble, and the waiting subsystems."""
        phase = self.phase()
        lines = [one.line for one in (*([phase] if phase is not None else ()), *self._troubles())]
        waiting = [one.who for one in self._waiting()]
        if waiting and self._decider.phase is not Phase.LIFEBOAT:
            lines.append(f"{names(waiting)} {'wait' if len(waiting) > 1 else 'waits'} meanwhile")
        return ". ".join(lines) or CALM

    def _held(self) -> list[tuple[Cause, Sentence]]:
        names_of_held = [name for name, hold in self._decider.holds.items() if hold.rung is not Rung.OPEN]
        held = [(name, self.of(name)) for name in names_of_held]
        return [(self._cause(name), sentence) for name, sentence in held if sentence is not None]

    def _troubles(self) -> list[Sentence]:
        own = [sentence for cause, sentence in self._held() if cause in _OWN]
        return [*together(own), *self._unheld(), *self._silent_upstreams()]

    def _waiting(self) -> list[Sentence]:
        """Return the sentences of those who are held through no fault of their own."""
        return [sentence for cause, sentence in self._held() if cause not in _OWN]

    def phase(self) -> Sentence | None:
        """Return the phase's action, its end, and the command for that; None if the subsystems' lines say it all."""
        decider, phase = self._decider, self._decider.phase
        if phase is Phase.LIFEBOAT:
            who = "everything is saved and stopped"
            return Sentence(who, "", NOT_BY_ITSELF, RELAUNCH, by_itself=False)
        if phase is Phase.NORMAL or (phase is Phase.QUARANTINE and decider.assessor.active):
            return None
        return Sentence(self._doing(phase), self._recovered(phase), self._phase_ends(), self._forced)

    def _doing(self, phase: Phase) -> str:
        incident = self._decider.incident
        if phase is Phase.QUARANTINE:
            return "nothing is wrong any more"
        if phase is Phase.PRESERVATION:
            return (
                "a checkpoint is being written"
                if incident.persist is Persist.RUNNING
                else "the state is safe"
            )
        under_way = "is under way" if incident.attempt_running else "has ended and is being watched"
        return f"recovery attempt {incident.attempts} of {self._decider.attempts_allowed} {under_way}"

    def _recovered(self, phase: Phase) -> str:
        """Name the targets of a recovery, and the reasons."""
        if phase is not Phase.RECOVERY:
            return ""
        targets = self._decider.recovering.items()
        return "; ".join(f"{name}: {why}" if why else name for name, why in targets)

    def _phase_ends(self) -> str:
        move = self._move
        if move is None:
            return self._waits_for()
        at, row = move
        return f"{row.destination} follows by itself {self._at(at)} if nothing else is found"

    def _waits_for(self) -> str:
        """Name the trouble that must end before any time counts."""
        incident = self._decider.incident
        if incident.attempt_running:
            return "goes on by itself once it has ended"
        if incident.persist is Persist.RUNNING:
            return "goes on by itself once it is written"
        return "goes on by itself once the trouble is over"

    @cached_property
    def _forced(self) -> str:
        """The command that ends the phase's waiting now; empty where more than time stands in the way."""
        for wanted in (Phase.NORMAL, Phase.QUARANTINE):
            if wanted.number < self._decider.phase.number and not self._decider.refusal(wanted):
                return f"epactl phase --force {wanted} --reason TEXT"
        return ""

    # Holds.

    def _cause(self, subsystem: str) -> Cause:
        reasons = self._reasons.get(subsystem, [])
        causes = [hold.cause for hold in reasons] or [Cause.FOUND]
        return Cause.LIFEBOAT if Cause.LIFEBOAT in causes else causes[0]

    def _why(self, hold: Hold) -> str:
        match hold.cause:
            case Cause.PARKED:  # its reason names the command, which the sentence does at its end
                return hold.reason.partition("; `epactl ")[0]
            case Cause.PERSON | Cause.PAUSED:
                return with_user_names(hold.reason, user_name)
            case _:
                return hold.reason

    def _since(self, subsystem: str, hold: Hold) -> str:
        anomaly = self._anomaly(hold.probe, subsystem)
        if anomaly is not None:
            return self._moment(anomaly.raised_at, seconds=False)
        if hold.cause in {Cause.BACKGROUND, Cause.SHORTAGE, Cause.LIFEBOAT}:
            return self._moment(self._clock.monotonic() - self._decider.phase_seconds, seconds=False)
        return ""

    def _ending(self, name: str, hold: Hold) -> _Ending:
        match hold.cause:
            case Cause.FOUND | Cause.PERSON:
                return self._ending_of_anomaly(name, self._anomaly(hold.probe, name))
            case Cause.PARKED:
                return _Ending(inf, NOT_BY_ITSELF, f"epactl release {name} --reason TEXT", by_itself=False)
            case Cause.PAUSED:
                return _Ending(inf, NOT_BY_ITSELF, f"epactl resume {name} --reason TEXT", by_itself=False)
            case Cause.VICTIM:
                return _Ending(
                    inf, f"goes on by itself once {hold.root} is well", f"epactl explain {hold.root}"
                )
            case Cause.LIFEBOAT:
                return _Ending(inf, NOT_BY_ITSELF, RELAUNCH, by_itself=False)
            case Cause.BACKGROUND | Cause.SHORTAGE:
                return self._ending_of_phase()

    def _ending_of_anomaly(self, name: str, anomaly: Anomaly | None) -> _Ending:
        do = f"epactl release {name} --reason TEXT"
        if anomaly is None:
            return _Ending(self._clock.monotonic(), "lets go by itself at once", do)
        at = self._decider.lets_go_at(anomaly)
        move = self._move
        if not isfinite(at):
            if self._decider.is_blind(anomaly.key.probe):
                return _Ending(at, f"lets go by itself once the probe {anomaly.key.probe} sees again", do)
            return _Ending(at, NOT_BY_ITSELF, do, by_itself=False)
        if move is not None and move[0] < at and move[1].guard == "outlasted":
            return _Ending(at, f"a recovery takes it over by itself {self._at(move[0])}", do)
        return _Ending(at, f"lets go by itself {self._at(at)} if it stays quiet", do)

    def _ending_of_phase(self) -> _Ending:
        forced, move = self._forced, self._move
        if move is None:
            text = "goes on by itself once the checkpoint is written and the trouble is over"
            return _Ending(inf, text, forced or "epactl explain")
        at, row = move
        if row.destination is Phase.LIFEBOAT:
            return _Ending(inf, f"LIFEBOAT follows {self._at(at)}", "epactl explain")
        return _Ending(
            at, f"goes on by itself {self._at(at)} if nothing else is found", forced or "epactl explain"
        )

    # What holds nobody.

    def _unheld(self) -> list[Sentence]:
        """Anomalies of the host, and of subsystems that they do not hold."""
        rungs = self._decider.holds
        found = [a for a in self._decider.assessor.active if _is_open(a, rungs)]
        return together(self._unheld_one(a) for a in found)

    def _unheld_one(self, anomaly: Anomaly) -> Sentence:
        probe, name = anomaly.key
        at = self._decider.lets_go_at(anomaly)
        about = OF_THE_HOST.get(probe, "the host") if name == HOST else name
        advice = ADVICE.get(probe, "epactl explain {name}") if name != HOST or probe in OF_THE_HOST else ""
        return Sentence(
            who=about,
            why=_short(anomaly.finding.reason),
            until=f"over by itself {self._at(at)} if it is not found again" if isfinite(at) else "",
            do=advice.format(name=name) or "epactl explain host",
            what="is in trouble",
            since=self._moment(anomaly.raised_at, seconds=False),
        )

    def _silent_upstreams(self) -> list[Sentence]:
        return [self._of_upstream(row) for row in self._upstreams() if row["reason"] or not row["healthy"]]

    def _of_upstream(self, row: Mapping[str, Any]) -> Sentence:
        """A model server that is not well; it holds nobody, and its clients are refused with its name."""
        what, until, do = UPSTREAM_WORDS.get(row.get("state", ""), SILENT)
        now = self._clock.monotonic()
        since = self._moment(now - row["seconds"], seconds=False) if row.get("seconds") else ""
        again = self._at(now + row.get("retry_seconds", 0.0))
        return Sentence(
            who=f"upstream {row['name']}",
            why=_short(str(row["reason"])),
            until=until.format(at=again),
            do=do.format(name=row["name"], url=row["url"]),
            what=what,
            since=since,
        )

    # Times.

    def _anomaly(self, probe: str, subsystem: str) -> Anomaly | None:
        return self._anomalies.get((probe, subsystem))

    def _at(self, monotonic: float) -> str:
        """Return a time to come, as a clause."""
        soon = monotonic <= self._clock.monotonic() + 1.0
        return "within a second" if soon else f"at {self._moment(monotonic)}"

    def _moment(self, monotonic: float, *, seconds: bool = True) -> str:
        now = self._clock.utc()
        at = now + timedelta(seconds=monotonic - self._clock.monotonic())
        return moment(at, now, self._zone, seconds=seconds)


def _short(reason: str) -> str:
    return reason if len(reason) <= MOST_CHARACTERS else f"{reason[: MOST_CHARACTERS - 3]}..."


def _until(first: _Ending, reasons: Sequence[Hold], endings: Sequence[_Ending]) -> str:
    """Describe the end of the firmest hold, and the holds that remain after it."""
    later = dict.fromkeys(
        HOLDERS[hold.cause]
        for hold, ending in zip(reasons[1:], endings[1:], strict=True)
        if (first.by_itself and ending.at > first.at)
        or (ending.do != first.do and not (first.by_itself and ending.by_itself))
    )
    if not later:
        return first.text
    still = "still holds" if len(later) == 1 else "still hold"
    return f"{first.text}, but {names(list(later))} {still} it then"


def _do(first: _Ending, endings: Sequence[_Ending]) -> str:
    """Name all commands that release it at once; if they are not enough, the command that explains why."""
    commands = list(dict.fromkeys(ending.do for ending in endings))
    if first.by_itself:
        commands = next(([do] for do in commands if not ends_it(do)), commands)
    return "; ".join(filter(ends_it, commands)) or commands[0]


def _is_open(anomaly: Anomaly, holds: Mapping[str, Hold]) -> bool:
    """Tell if an anomaly belongs to no held subsystem."""
    hold = holds.get(anomaly.key.subsystem)
    return hold is None or hold.rung is Rung.OPEN
