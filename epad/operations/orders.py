"""What the parts of all operations share: an order is noted before it is carried out, and its result is worded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from epad.answers.orders import Result
from epad.control_loop.decider import Decider
from epad.operations.registry import Operation
from epad.storage.event_log import EventKind, EventLog
from statemachine.finding import HOST


@dataclass(frozen=True, slots=True)
class Orders:
    """Notes orders before they are carried out, and words their results."""

    decider: Decider
    event_log: EventLog

    def _note(self, order: Operation, target: str, reason: str, by: str) -> None:
        self.event_log.emit(EventKind.ORDER_GIVEN, target, order=order, reason=reason, by=by)

    def _result(self, results: Sequence[str], name: str = HOST, *, failed: bool = False) -> Result:
        return {"subsystem": name, "phase": self.decider.phase, "failed": failed, "results": results}
