"""Put each order on record before it is carried out, and its result after.

A daemon that is killed at any moment leaves no order that it has acted on without a record. While the ledger takes
nothing, orders that narrow, mend or look after the machine go on, for a kill switch must work then too, and their
record waits; any other is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from epad.answers.orders import Result
from epad.audit.described import entry
from epad.audit.trail import AuditTrail
from epad.ledger.entry import NoteAudit
from epad.operations.bodies import OrderBody
from epad.operations.protocol import ConflictError, UnknownNameError
from epad.operations.registry import Operation

ANSWERS: Final = frozenset({Operation.APPROVE, Operation.DENY, Operation.REVOKE_HOST})
"""The orders that are a person's consent, or the end of one."""
MAY_GO_UNRECORDED: Final = frozenset(
    {
        *(Operation.QUARANTINE, Operation.PAUSE, Operation.STOP, Operation.LIFEBOAT),
        *(Operation.DENY, Operation.REVOKE_HOST, Operation.REVOKE_KEY, Operation.RETRACT_MEMORY),
        *(Operation.RELEASE, Operation.RESUME, Operation.RESTART, Operation.RELAUNCH, Operation.FORCE_PHASE),
        *(Operation.ACCEPT_LOSS, Operation.CHECKPOINT, Operation.UPGRADE, Operation.RELOAD),
    }
)
"""The orders that are carried out though the ledger takes no record; theirs is written when it does."""


class RecordedOrders:
    """Records orders in the audit."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    async def carry_out(
        self, order: Operation, name: str, body: OrderBody, by: str, work: Callable[[], Awaitable[Result]]
    ) -> Result:
        """Record an order, do its work, and record the result. Raises ConflictError, and the work's own errors."""
        asked = _Asked(order, name, by, body.recorded())
        why = await self._trail.write(
            asked.noted("given", body.reason.strip(), "given", self._trail.now_ns())
        )
        if why and order not in MAY_GO_UNRECORDED:
            raise ConflictError(f"{asked.about} cannot be put on record: {why}", "see `epactl ledger verify`")
        told, outcome = "", "broken off"
        try:
            result = await work()
            told, outcome = "; ".join(map(str, result["results"])), "failed" if result["failed"] else "done"
        except (ConflictError, UnknownNameError) as error:
            told, outcome = str(error), "refused"
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._trail.note(asked.noted("ended", told, outcome, self._trail.now_ns()))
        return result

    async def refused(self, operation: Operation, by: str, why: str) -> None:
        """Record that the gate has refused something, before the answer."""
        what, now = f"{operation}: {why}", self._trail.now_ns()
        noted = entry("gate.refused", subsystem="", who=by, what=what, outcome="refused", happened_ns=now)
        await self._trail.write(noted)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Holds an order as it was given."""

    order: Operation
    name: str
    by: str
    body: Mapping[str, Any]

    @property
    def about(self) -> str:
        return f"{self.order} {self.name}".strip()

    def noted(self, word: str, told: str, outcome: str, happened_ns: int) -> NoteAudit:
        """Return the entry of its beginning or end."""
        is_about_one = self.order.about == "subsystem"
        return entry(
            f"{'answer' if self.order in ANSWERS else 'order'}.{word}",
            subsystem=self.name if is_about_one else str(self.body.get("subsystem", "")),
            who=self.by,
            what=f"{self.about}: {told}",
            outcome=outcome,
            happened_ns=happened_ns,
            evidence={"order": self.order.value, "name": self.name, **self.body},
        )
