"""Keep events, typed: written to `state.db`, streamed to subscribers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import apsw
import structlog

from epad.answers import decisions
from epad.storage.database import Database, DatabaseError, fetch
from statemachine.clock import Clock

EVENT_SCHEMA = """
CREATE TABLE IF NOT EXISTS event(
    id INTEGER PRIMARY KEY AUTOINCREMENT, utc TEXT NOT NULL, kind TEXT NOT NULL, subsystem TEXT NOT NULL,
    fields TEXT NOT NULL) STRICT;
"""

# The oldest are dropped each time that so many were written, and by the nightly job.
PRUNE_EVERY = 1_000
# A listener this many events behind is cut off rather than allowed to hold the memory of all of them.
MAX_BACKLOG = 1_000
# Events kept for a disk that takes none; the oldest beyond that are lost, which is logged.
MAX_UNWRITTEN = 10_000


class EventKind(StrEnum):
    """Lists every kind of event."""

    DAEMON_STARTED = "daemon.started"
    DAEMON_STOPPING = "daemon.stopping"
    PHASE_CHANGED = "phase.changed"
    ANOMALY_RAISED = "anomaly.raised"
    ANOMALY_CLEARED = "anomaly.cleared"
    STEP_ENDED = "step.ended"
    SUBSYSTEM_EXITED = "subsystem.exited"
    SUBSYSTEM_CHANGED = "subsystem.changed"
    CELL_MADE = "cell.made"
    CELL_CLOSED = "cell.closed"
    TURN_REFUSED = "turn.refused"
    ORDER_GIVEN = "order.given"
    AGENT_REPORTED = "agent.reported"
    AGENT_SPAWNED = "agent.spawned"
    AGENT_REFUSED = "agent.refused"
    AGENT_ENDED = "agent.ended"
    GATE_DECIDED = "gate.decided"
    PROBE_BLIND = "probe.blind"
    PROBE_SEES = "probe.sees"
    VRAM_RELEASED = "vram.released"
    LOOP_LAGGED = "loop.lagged"
    CONFIG_RELOADED = "config.reloaded"
    CONFIG_REFUSED = "config.refused"
    POLICY_CHANGED = "policy.changed"
    CLOCK_JUMPED = "clock.jumped"
    EGRESS_OPENED = "egress.opened"
    EGRESS_CLOSED = "egress.closed"
    EGRESS_REFUSED = "egress.refused"
    EGRESS_DIRECT = "egress.direct"
    EGRESS_ASKED = "egress.asked"
    EGRESS_DECIDED = "egress.decided"
    EGRESS_REVOKED = "egress.revoked"
    SECRET_USED = "secret.used"  # noqa: S105 - what happened to one
    TOOL_ASKED = "tool.asked"
    TOOL_DECIDED = "tool.decided"
    TOOL_REVOKED = "tool.revoked"
    IDENTITY_ISSUED = "identity.issued"
    IDENTITY_REFUSED = "identity.refused"
    IDENTITY_ROTATED = "identity.rotated"
    INTENT_FOUND = "intent.found"
    DEFINITIONS_PINNED = "definitions.pinned"
    DEFINITIONS_HELD = "definitions.held"
    DEFINITIONS_RELEASED = "definitions.released"
    LEDGER_VERIFIED = "ledger.verified"
    RESTORE_DRILLED = "restore.drilled"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Event:
    """Holds one event. `fields` hold JSON values; ids in them join to the journal and the ledger."""

    id: int
    at: str
    kind: str
    subsystem: str
    fields: Mapping[str, Any]

    def as_json(self) -> decisions.Event:
        return {
            "id": self.id,
            "at": self.at,
            "kind": self.kind,
            "subsystem": self.subsystem,
            "fields": self.fields,
        }


def _nobody(_: Event) -> None:
    return


class EventLog:
    """Takes events from anywhere in the loop without making anyone wait for the disk; `also` is called with each."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        kept: int = 200_000,
        also: Callable[[Event], None] = _nobody,
    ) -> None:
        self._also = also
        self._database = database
        self._clock = clock
        self._kept = kept
        self._since_pruned = 0
        self._log = structlog.get_logger("epad.events")
        self._pending: asyncio.Queue[Event] = asyncio.Queue()
        self._unwritten: list[Event] = []
        self._listeners: set[asyncio.Queue[decisions.Event]] = set()

    def emit(self, kind: EventKind, subsystem: str = "", **fields: Any) -> None:
        """Record that something happened; it is on the disk a few milliseconds later, or when that takes it."""
        at = self._clock.utc().astimezone(UTC).isoformat(timespec="milliseconds")
        event = Event(0, at, kind, subsystem, fields)
        self._pending.put_nowait(event)
        self._also(event)

    async def run(self) -> None:
        """Write emitted events in batches, until cancelled."""
        while True:
            await self._write_batch([await self._pending.get()])

    async def flush(self) -> None:
        """Write the events that still wait, for an orderly stop."""
        await self._write_batch([])

    async def _write_batch(self, batch: list[Event]) -> None:
        while not self._pending.empty():
            batch.append(self._pending.get_nowait())
        batch = [*self._unwritten, *batch]
        if not batch:
            return
        self._since_pruned += len(batch)
        kept = self._kept if self._since_pruned >= PRUNE_EVERY else None
        try:
            # What was taken off the queue is written even if the daemon stops here.
            written = await asyncio.shield(
                self._database.write(lambda connection: _insert(connection, batch, kept))
            )
        except DatabaseError as error:
            # The phase journal is what decisions rest on; an event that is late, or lost, is said and not fatal.
            self._unwritten, lost = batch[-MAX_UNWRITTEN:], max(len(batch) - MAX_UNWRITTEN, 0)
            self._log.error("events.unwritten", count=len(batch) - lost, lost=lost, error=str(error))
            return
        self._unwritten = []
        self._since_pruned %= PRUNE_EVERY
        for event in written:
            self._publish(event)

    def _publish(self, event: Event) -> None:
        for queue in tuple(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
            else:
                queue.put_nowait(event.as_json())

    async def since(self, event_id: int, limit: int) -> list[decisions.Event]:
        """Return the events after an id, oldest first; an id of -n means the newest n."""

        def work(connection: apsw.Connection) -> list[decisions.Event]:
            start = event_id
            if event_id < 0:
                newest = fetch(connection, "SELECT coalesce(max(id), 0) FROM event")[0][0]
                start = max(newest + event_id, 0)
            rows = fetch(
                connection,
                "SELECT id, utc, kind, subsystem, fields FROM event WHERE id > ? ORDER BY id LIMIT ?",
                (start, limit),
            )
            return [Event(r[0], r[1], r[2], r[3], json.loads(r[4])).as_json() for r in rows]

        return await self._database.read(work)

    async def of_kind(self, kind: EventKind, since: datetime, limit: int) -> list[decisions.Event]:
        """Return the newest events of one kind since a time, the newest first. Raises DatabaseError."""
        first = since.astimezone(UTC).isoformat(timespec="milliseconds")

        def work(connection: apsw.Connection) -> list[decisions.Event]:
            rows = fetch(
                connection,
                "SELECT id, utc, kind, subsystem, fields FROM event WHERE kind = ? AND utc >= ? "
                "ORDER BY id DESC LIMIT ?",
                (kind, first, limit),
            )
            return [Event(r[0], r[1], r[2], r[3], json.loads(r[4])).as_json() for r in rows]

        return await self._database.read(work)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[asyncio.Queue[decisions.Event]]:
        """Yield a queue of the events from now on."""
        queue: asyncio.Queue[decisions.Event] = asyncio.Queue(MAX_BACKLOG)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    async def prune(self) -> None:
        """Drop the oldest events beyond those that are kept."""
        await self._database.write(lambda connection: _prune(connection, self._kept))


def _prune(connection: apsw.Connection, kept: int) -> None:
    connection.execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?", (kept,))


def _insert(connection: apsw.Connection, batch: Sequence[Event], kept: int | None) -> list[Event]:
    """Write events; drop the oldest beyond those that are kept, if any are to go now."""
    written = []
    for event in batch:
        connection.execute(
            "INSERT INTO event(utc, kind, subsystem, fields) VALUES (?, ?, ?, ?)",
            (event.at, event.kind, event.subsystem, json.dumps(event.fields, default=str)),
        )
        number = connection.last_insert_rowid()
        written.append(Event(number, event.at, event.kind, event.subsystem, event.fields))
    if kept is not None:
        _prune(connection, kept)
    return written
