"""Announce what the control loop takes in and decides: events, metrics, log, and one sentence for people."""

from __future__ import annotations

import structlog

from epad.control_loop.decider import Decider
from epad.control_loop.journal import Decision
from epad.control_loop.stimulus import Stimulus
from epad.metrics.registry import Metrics
from epad.storage.event_log import EventKind, EventLog
from statemachine.assessor import Change, Raised
from statemachine.clock import Clock
from statemachine.finding import Finding
from statemachine.phase import Phase
from statemachine.table import Row

# A finding of a detector that only reports is announced again after this long.
OBSERVED_SECONDS = 60.0

# Only a person's order leaves it, however calm it is.
_CALM = {Phase.LIFEBOAT: "everything is saved and stopped; `epactl lifeboat relaunch` starts it again"}


class Announcements:
    """The last station of the control path. `sentence` is about the last decision."""

    def __init__(self, decider: Decider, clock: Clock, events: EventLog, metrics: Metrics) -> None:
        self._decider = decider
        self._clock = clock
        self._events = events
        self._metrics = metrics
        self._log = structlog.get_logger("epad.controller")
        self._observed_at: dict[tuple[str, str], float] = {}
        self.sentence = "started"

    def resumed(self) -> None:
        """Announce the phase of the previous run, which this one takes up."""
        if self._decider.phase is not Phase.NORMAL:
            self.sentence = _with_troubles(f"resumed in {self._decider.phase}", self._decider)
        self._show_phase()

    def show_all(self) -> None:
        """Set the series of the phase and of every anomaly."""
        self._show_phase()
        for anomaly in self._decider.assessor.active:
            self._metrics.anomalies.labels(*anomaly.key).set(1)

    def stimulus(self, stimulus: Stimulus) -> None:
        """Show the number of a finding; announce, once in a while, one of a detector that only reports."""
        if not isinstance(stimulus, Finding):
            return
        self._metrics.record(stimulus)
        finding = self._decider.judged(stimulus)
        if not finding.evidence.get("observed") and not finding.evidence.get("ended"):
            return
        now = self._clock.monotonic()
        key = (finding.subsystem, str(finding.evidence.get("detector", finding.probe)))
        if now - self._observed_at.get(key, float("-inf")) < OBSERVED_SECONDS:
            return
        self._observed_at[key] = now
        fields = {"text": f"{key[1]}: {finding.reason}", "probe": finding.probe, "detector": key[1]}
        self._log.warning(EventKind.NOTICE, subsystem=finding.subsystem, **fields)
        self._events.emit(EventKind.NOTICE, finding.subsystem, **fields)

    def decision(self, decision: Decision) -> None:
        """Announce a decision that is in the journal and whose transition has been taken."""
        for change in decision.changes:
            self._change(change)
        if decision.row is not None:
            self._phase(decision.row)
        elif decision.changes:
            self.sentence = _as_it_stands(self._decider)

    def _change(self, change: Change) -> None:
        anomaly = change.anomaly
        raised = isinstance(change, Raised)
        self._metrics.anomalies.labels(anomaly.key.probe, anomaly.key.subsystem).set(raised)
        reason = anomaly.finding.reason if isinstance(change, Raised) else change.reason
        kind = EventKind.ANOMALY_RAISED if raised else EventKind.ANOMALY_CLEARED
        fields = {"probe": anomaly.key.probe, "severity": anomaly.severity.label, "reason": reason}
        self._log.warning(kind, subsystem=anomaly.key.subsystem, **fields)
        finding = anomaly.finding
        named = {} if finding.rung is None else {"rung": finding.rung.label}
        self._events.emit(kind, anomaly.key.subsystem, **fields, **named, evidence=dict(finding.evidence))

    def _phase(self, row: Row) -> None:
        self.sentence = _with_troubles(row.sentence, self._decider)
        self._show_phase()
        self._metrics.transitions.labels(row.source, row.destination, row.trigger).inc()
        fields = {
            "source": row.source,
            "destination": row.destination,
            "trigger": row.trigger,
            "guard": row.guard,
            "sentence": self.sentence,
        }
        self._log.warning(EventKind.PHASE_CHANGED, **fields)
        self._events.emit(EventKind.PHASE_CHANGED, **fields)

    def _show_phase(self) -> None:
        for phase in Phase:
            self._metrics.phase.labels(phase).set(phase is self._decider.phase)
        self._metrics.phase_entered.set(self._clock.utc().timestamp() - self._decider.phase_seconds)


def _as_it_stands(decider: Decider) -> str:
    """Return the phase's sentence once the troubles differ from those it was entered for."""
    calm = "wrong now" if decider.assessor.active else "nothing is wrong any more; waiting out the dwell time"
    return _with_troubles(_CALM.get(decider.phase, calm), decider)


def _with_troubles(sentence: str, decider: Decider) -> str:
    troubles = "; ".join(dict.fromkeys(anomaly.finding.reason for anomaly in decider.assessor.active))
    return f"{sentence}: {troubles}" if troubles else sentence
