"""Hold the memory of one incident, between two NORMALs, as an immutable value that survives in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from epad.control_loop.journal import Loaded
from epad.control_loop.step import Lane, StepState
from statemachine.phase import Phase
from statemachine.situation import Order, Persist
from statemachine.table import Row, Trigger

HOUR_SECONDS = 3_600.0
INCIDENT_NOTE = "incident"
"""The name of the journal's note that holds it."""


@dataclass(frozen=True, slots=True)
class Incident:
    """The incident so far.

    `recoveries` are the monotonic times at which recoveries began; they and `parked` outlive the incident,
    since a crash loop of "successful" recoveries is one trouble, not many.
    """

    persist: Persist = Persist.NOT_TRIED
    order: Order = Order.NONE
    order_reason: str = ""
    attempts: int = 0
    attempt_running: bool = False
    attempt_ended_at: float = 0.0
    tried: Mapping[str, int] = field(default_factory=dict)
    parked: Mapping[str, str] = field(default_factory=dict)
    recoveries: tuple[float, ...] = ()

    def after(self, row: Row, now: float) -> Incident:
        """Return the incident once `row` has been taken."""
        if row.trigger in {Trigger.RECOVER, Trigger.RETRY}:
            return self._with_attempt(row, now)
        if row.trigger is Trigger.RELAUNCH:
            return Incident()
        match row.destination:
            case Phase.PRESERVATION:
                return replace(self, persist=Persist.RUNNING)
            case Phase.LIFEBOAT:
                return replace(self, order=Order.NONE, order_reason="", attempt_running=False)
            case Phase.NORMAL:
                return Incident(parked=self.parked, recoveries=self.recoveries, tried=self.tried)
            case _:
                # QUARANTINE, where something may wait for a person for days: what comes then is another trouble.
                return replace(self, attempts=0)

    def _with_attempt(self, row: Row, now: float) -> Incident:
        recent = tuple(at for at in self.recoveries if now - at < HOUR_SECONDS)
        began = (*recent, now) if row.trigger is Trigger.RECOVER else recent
        # The count per subsystem ages with the recoveries: an hour without one is a clean slate.
        tried = self.tried if recent else {}
        return replace(self, attempts=self.attempts + 1, attempt_running=True, recoveries=began, tried=tried)

    def settled(self, loaded: Loaded, now: float) -> Incident:
        """Settle the work that ran when the daemon died, unless its operation is open and will report itself."""
        if any(operation.lane is Lane.PHASE for operation in loaded.open_operations):
            return self
        incident = self
        if incident.persist is Persist.RUNNING:
            done = loaded.last_phase_state is StepState.DONE
            incident = replace(incident, persist=Persist.DONE if done else Persist.FAILED)
        if incident.attempt_running:
            incident = replace(incident, attempt_running=False, attempt_ended_at=now)
        return incident

    def recent_recoveries(self, now: float) -> int:
        """Return how many recoveries began within the last hour."""
        return sum(1 for at in self.recoveries if now - at < HOUR_SECONDS)

    def with_tried(self, name: str) -> Incident:
        """Return the incident with one more recovery of a subsystem."""
        return replace(self, tried={**self.tried, name: self.tried.get(name, 0) + 1})

    def with_parked(self, name: str, reason: str) -> Incident:
        """Return a subsystem that recovery has given up on."""
        return replace(self, parked={**self.parked, name: reason})

    def without(self, name: str) -> Incident:
        """A subsystem gets a clean slate, by a person's order."""
        return replace(
            self,
            parked={k: v for k, v in self.parked.items() if k != name},
            tried={k: v for k, v in self.tried.items() if k != name},
        )

    def as_json(self, boot_id: str) -> dict[str, Any]:
        return {
            "boot_id": boot_id,
            "persist": self.persist,
            "order": self.order,
            "order_reason": self.order_reason,
            "attempts": self.attempts,
            "attempt_running": self.attempt_running,
            "attempt_ended_at": self.attempt_ended_at,
            "tried": dict(self.tried),
            "parked": dict(self.parked),
            "recoveries": list(self.recoveries),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], boot_id: str) -> Incident:
        """Rebuild a noted incident; monotonic times of a former boot mean nothing and are dropped."""
        same_boot = data["boot_id"] == boot_id
        return cls(
            persist=Persist(data["persist"]),
            order=Order(data["order"]),
            order_reason=data["order_reason"],
            attempts=data["attempts"],
            attempt_running=data["attempt_running"],
            attempt_ended_at=data["attempt_ended_at"] if same_boot else 0.0,
            tried=data["tried"],
            parked=data["parked"],
            recoveries=tuple(data["recoveries"]) if same_boot else (),
        )
