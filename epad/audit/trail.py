"""Write the audit: each entry a record of the ledger, in the order in which things happened.

| an entry | is written | and while the ledger takes nothing |
|---|---|---|
| `write`: an order, before it is carried out | before the call returns | the call says why, and the entry waits |
| `note`, `take`: what has happened | a few milliseconds later | it waits, up to MOST_WAITING of them |

Entries that wait are written in their order once the ledger takes records again, each with the time at which it
happened. Beyond MOST_WAITING the oldest are lost, and a record says how many: `audit.gap`. No more than MOST_IN_FLIGHT
are handed to the ledger at a time, so that a storm of them takes no turn's place in its queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from epad.audit.described import NOT_CHAINED, described, entry
from epad.audit.row import EPAD, GAP
from epad.ledger.entry import NoteAudit
from epad.ledger.errors import LedgerBusyError, LedgerError, LedgerUnavailableError
from epad.storage.event_log import Event, EventKind
from statemachine.clock import Clock

MOST_WAITING: Final = 10_000
MOST_IN_FLIGHT: Final = 64
RETRY_SECONDS: Final = 5.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AuditLedger(Protocol):
    """The part of the ledger that the audit is written to."""

    def note_audit(self, noted: NoteAudit, *, lazily: bool = False) -> asyncio.Future[int]: ...


class AuditTrail:
    """Hands entries to the ledger; for callers on the event loop."""

    def __init__(self, ledger: AuditLedger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._waiting: deque[NoteAudit] = deque()
        self._in_flight: dict[asyncio.Future[int], NoteAudit] = {}
        self._failed: list[NoteAudit] = []
        self._timer: asyncio.TimerHandle | None = None
        self._log = structlog.get_logger("epad.audit")
        self.lost = 0
        """Entries that no record tells of yet."""

    def now_ns(self) -> int:
        """Return the wall clock's time."""
        return (self._clock.utc() - _EPOCH) // timedelta(microseconds=1) * 1_000

    def take(self, event: Event) -> None:
        """Note an event, unless it is one that the audit leaves out."""
        kind = EventKind(event.kind)
        if kind not in NOT_CHAINED:
            self.note(described(kind, event.subsystem, event.fields, self.now_ns()))

    def note(self, noted: NoteAudit) -> None:
        """Note what has happened."""
        self._waiting.append(noted)
        self._bound()
        if self._timer is None:
            self._hand_over()

    async def write(self, noted: NoteAudit) -> str:
        """Record something before it is done; return why it is not on the disk yet, empty if it is."""
        try:
            await self._ledger.note_audit(noted)
        except LedgerError as error:
            self._log.error(
                "audit.unwritten", audit=noted.event, who=noted.who, what=noted.what, error=str(error)
            )
            self._waiting.append(noted)
            self._bound()
            self._retry_later()
            return str(error)
        return ""

    async def close(self) -> None:
        """Write what waits, if that can be done by now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._take_back()
        self._hand_over()
        while self._in_flight and self._timer is None:
            await asyncio.wait(self._in_flight)
            await asyncio.sleep(0)  # their callbacks run now, and hand over more
        if self._timer is not None:
            self._timer.cancel()
        left = len(self._waiting) + len(self._failed)
        if left:
            self._log.error("audit.unwritten", count=left)

    def _bound(self) -> None:
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1

    def _hand_over(self) -> None:
        """Hand entries to the ledger, as many as may be in flight."""
        if self.lost and len(self._in_flight) < MOST_IN_FLIGHT:
            self._waiting.appendleft(self._gap())
            self.lost = 0
        while self._waiting and len(self._in_flight) < MOST_IN_FLIGHT:
            noted = self._waiting.popleft()
            future = self._ledger.note_audit(noted, lazily=True)
            self._in_flight[future] = noted
            future.add_done_callback(self._written)

    def _gap(self) -> NoteAudit:
        what = f"{self.lost} entries were lost: the ledger took none"
        evidence = {"lost": self.lost}
        return entry(
            GAP,
            subsystem="",
            who=EPAD,
            what=what,
            outcome="lost",
            happened_ns=self.now_ns(),
            evidence=evidence,
        )

    def _written(self, future: asyncio.Future[int]) -> None:
        noted = self._in_flight.pop(future)
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or isinstance(error, LedgerUnavailableError | LedgerBusyError):
            self._failed.append(noted)
            self._retry_later()
        elif error is not None:
            self.lost += 1
            self._log.error("audit.not_taken", audit=noted.event, what=noted.what, error=str(error))
        if self._timer is None and self._waiting:
            self._hand_over()

    def _retry_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self._take_back()
        self._hand_over()

    def _take_back(self) -> None:
        """Put what was not written in front of what came later."""
        self._waiting.extendleft(reversed(self._failed))
        self._failed.clear()
        self._bound()
