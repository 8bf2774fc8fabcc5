"""A ledger that takes entries of the audit alone, or none while it is told not to."""

from __future__ import annotations

import asyncio

from epad.ledger.entry import NoteAudit
from epad.ledger.errors import LedgerError, LedgerUnavailableError


class NotedAudits:
    """Implements `epad.audit.trail.AuditLedger`; what it took stands in `entries`."""

    def __init__(self) -> None:
        self.entries: list[NoteAudit] = []
        self.fails: LedgerError | None = None
        self.holds: list[asyncio.Future[int]] | None = None
        """Futures that are answered by the test, where there is a list."""

    def fail(self) -> None:
        self.fails = LedgerUnavailableError("ledger.db: was deleted")

    def note_audit(self, noted: NoteAudit, *, lazily: bool = False) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.fails is not None:
            future.set_exception(self.fails)
            return future
        self.entries.append(noted)
        if self.holds is None:
            future.set_result(len(self.entries))
        else:
            self.holds.append(future)
        return future
