"""Keep when each secret was last used, by whom and for which host: by its name, never by its value.

The event log has a use as `secret.used`; the same uses of one minute are one event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Final, Protocol

import apsw
import structlog

from epad.runtime.side_tasks import Tasks
from epad.secrets.purpose import Purpose
from epad.storage.database import Database, DatabaseError, fetch
from epad.storage.event_log import EventKind, EventLog
from statemachine.clock import Clock

USE_SCHEMA = """
CREATE TABLE IF NOT EXISTS secret_use(
    name TEXT NOT NULL PRIMARY KEY, utc TEXT NOT NULL, subsystem TEXT NOT NULL, host TEXT NOT NULL)
    STRICT, WITHOUT ROWID;
"""
EVENT_SECONDS: Final = 60.0
_MOST_TOLD: Final = 10_000


@dataclass(frozen=True, slots=True)
class Use:
    """Tells of a secret's last use: when (ISO 8601, UTC), by whom and for which host."""

    at: str
    subsystem: str
    host: str


class Uses(Protocol):
    """Takes note of uses."""

    def note(self, name: str, purpose: Purpose) -> None:
        """Take note that a secret was used now."""
        ...

    def last(self) -> Mapping[str, Use]:
        """Return the last use of each secret that was used."""
        ...


class LastUses:
    """Keeps uses in `state.db`. `load` comes first; nobody waits for a write."""

    def __init__(self, database: Database, events: EventLog, clock: Clock) -> None:
        self._database = database
        self._events = events
        self._clock = clock
        self._last: dict[str, Use] = {}
        self._told: dict[tuple[str, Purpose], float] = {}
        self._log = structlog.get_logger("epad.secrets")
        self._writing = Tasks(self._log)

    async def load(self) -> None:
        """Read the former uses. Raises DatabaseError."""
        rows = await self._database.read(
            lambda connection: fetch(connection, "SELECT name, utc, subsystem, host FROM secret_use")
        )
        self._last = {name: Use(*row) for name, *row in rows} | self._last

    def note(self, name: str, purpose: Purpose) -> None:
        """Take note that a secret was used now; it is written down once in a minute."""
        now, key = self._clock.monotonic(), (name, purpose)
        at = self._clock.utc().astimezone(UTC).isoformat(timespec="seconds")
        self._last[name] = use = Use(at, purpose.subsystem, purpose.host)
        if now - self._told.get(key, float("-inf")) < EVENT_SECONDS:
            return
        self._told.pop(key, None)
        self._told[key] = now
        if len(self._told) > _MOST_TOLD:
            del self._told[next(iter(self._told))]
        self._events.emit(EventKind.SECRET_USED, purpose.subsystem, secret=name, host=purpose.host)
        self._writing.start(self._write(name, use), "secret use")

    def last(self) -> Mapping[str, Use]:
        """Return the last use of each secret that was used."""
        return self._last

    async def close(self) -> None:
        """Write no more."""
        await self._writing.cancel()

    async def _write(self, name: str, use: Use) -> None:
        row = (name, use.at, use.subsystem, use.host)

        def write(connection: apsw.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO secret_use VALUES (?, ?, ?, ?)", row)

        try:
            await self._database.write(write)
        except DatabaseError as error:  # the event has it, and the next use is written
            self._log.warning("secret.use_not_kept", secret=name, error=str(error))
