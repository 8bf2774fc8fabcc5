"""Pass the observations of gateway and supervisor on to the probes and the event log."""

from __future__ import annotations

from collections.abc import Sequence

from epad.metrics.registry import Metrics
from epad.probing.metrics import EXITS, RESTARTS
from epad.storage.event_log import EventKind, EventLog
from probes.subsystems import SubsystemExited, SubsystemObserver
from probes.turns import (
    StreamObserver,
    TurnAdmitted,
    TurnFinished,
    TurnObserver,
    TurnRefused,
    TurnStreamed,
)
from statemachine.clock import Clock

# A refused loop asks thousands of times a second: one event stands for all of the same kind in this time.
REFUSAL_EVENT_SECONDS = 5.0


class TurnFanout:
    """Tells every observer about turns, those that listen to streams about chunks, the event log about refusals."""

    def __init__(self, observers: Sequence[TurnObserver], events: EventLog, clock: Clock) -> None:
        self._observers = observers
        self._tell_admitted = [each.admitted for each in observers]
        self._tell_finished = [each.finished for each in observers]
        self._tell_streamed = [each.streamed for each in observers if isinstance(each, StreamObserver)]
        self._events = events
        self._clock = clock
        self._silent: dict[tuple[str, str], tuple[float, int]] = {}

    def admitted(self, event: TurnAdmitted) -> None:
        for tell in self._tell_admitted:
            tell(event)

    def refused(self, event: TurnRefused) -> None:
        for observer in self._observers:
            observer.refused(event)
        self._emit_refusal(event)

    def finished(self, event: TurnFinished) -> None:
        for tell in self._tell_finished:
            tell(event)

    def streamed(self, event: TurnStreamed) -> str:
        """Tell everyone, and pass on the first reason to end the turn here."""
        ending = ""
        for tell in self._tell_streamed:
            ending = tell(event) or ending
        return ending

    def _emit_refusal(self, event: TurnRefused) -> None:
        now = self._clock.monotonic()
        key = (event.subsystem, event.code)
        told_at, unsaid = self._silent.get(key, (float("-inf"), 0))
        if now - told_at < REFUSAL_EVENT_SECONDS:
            self._silent[key] = (told_at, unsaid + 1)
            return
        self._silent[key] = (now, 0)
        self._events.emit(
            EventKind.TURN_REFUSED,
            event.subsystem,
            code=event.code,
            limit=event.limit,
            limit_tokens=event.limit_tokens,
            used_tokens=event.used_tokens,
            asked_tokens=event.asked_tokens,
            unit=event.unit,
            also_refused_since_last_event=unsaid,
        )


class ExitFanout:
    """Tells the cascade probe, the metrics and the event log that a process ended."""

    def __init__(self, observer: SubsystemObserver, events: EventLog, metrics: Metrics) -> None:
        self._observer = observer
        self._events = events
        self._exits, self._restarts = metrics.of(EXITS), metrics.of(RESTARTS)

    def exited(self, event: SubsystemExited) -> None:
        self._observer.exited(event)
        if not event.wanted:
            self._exits.labels(event.subsystem).inc()
        if event.will_restart:
            self._restarts.labels(event.subsystem).inc()
        fields = {
            "status": event.status,
            "wanted": event.wanted,
            "will_restart": event.will_restart,
            "reason": event.reason,
        }
        self._events.emit(EventKind.SUBSYSTEM_EXITED, event.subsystem, **fields)
