"""Remember which hosts each subsystem has reached, and those that a person has allowed for ever, in `state.db`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

import apsw
import structlog
from structlog.typing import FilteringBoundLogger

from epad.confinement.host_questions import HostSubject
from epad.runtime.side_tasks import Tasks
from epad.storage.database import Database, DatabaseError, fetch
from statemachine.clock import Clock

KNOWN_HOST_SCHEMA = """
CREATE TABLE IF NOT EXISTS known_host(
    subsystem TEXT NOT NULL, host TEXT NOT NULL, port INTEGER NOT NULL, first_utc TEXT NOT NULL,
    PRIMARY KEY(subsystem, host, port)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS approved_host(
    subsystem TEXT NOT NULL, host TEXT NOT NULL, port INTEGER NOT NULL, utc TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY(subsystem, host, port)) STRICT, WITHOUT ROWID;
"""
MOST_KNOWN = 10_000
"""Of one subsystem; what a wildcard lets it reach beyond that is new to nobody."""


class KnownHosts:
    """The hosts that each subsystem has reached. `load` comes first; nobody waits for a write."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, set[tuple[str, int]]] = {}
        self._log: FilteringBoundLogger = structlog.get_logger("epad.confinement")
        self._writing = Tasks(self._log)

    async def load(self) -> None:
        """Read the known hosts. Raises DatabaseError."""
        rows = await self._database.read(
            lambda connection: fetch(connection, "SELECT subsystem, host, port FROM known_host")
        )
        for subsystem, host, port in rows:
            self._known.setdefault(subsystem, set()).add((host, port))

    def is_first(self, subject: HostSubject) -> bool:
        """Tell if a host is reached for the first time, and remember it."""
        known = self._known.setdefault(subject.subsystem, set())
        place = (subject.host, subject.port)
        if place in known or len(known) >= MOST_KNOWN:
            return False
        known.add(place)
        self._writing.start(self._write(subject), "known host")
        return True

    async def approved(self) -> Sequence[HostSubject]:
        """Return the hosts that a person has allowed for ever. Raises DatabaseError."""
        rows = await self._database.read(
            lambda connection: fetch(connection, "SELECT subsystem, host, port FROM approved_host")
        )
        return [HostSubject(*row) for row in rows]

    async def approve(self, subject: HostSubject, reason: str) -> None:
        """Keep an approval without an end. Raises DatabaseError."""
        row = (subject.subsystem, subject.host, subject.port, self._utc(), reason)

        def write(connection: apsw.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO approved_host VALUES (?, ?, ?, ?, ?)", row)

        await self._database.write(write)

    async def revoke(self, subject: HostSubject) -> None:
        """Keep an approval without an end no longer. Raises DatabaseError.

        The host stays among those that were reached: that it was is still so, and a second "first" would be false.
        """
        place = (subject.subsystem, subject.host, subject.port)

        def write(connection: apsw.Connection) -> None:
            connection.execute(
                "DELETE FROM approved_host WHERE subsystem = ? AND host = ? AND port = ?", place
            )

        await self._database.write(write)

    async def close(self) -> None:
        """Write no more."""
        await self._writing.cancel()

    async def _write(self, subject: HostSubject) -> None:
        row = (subject.subsystem, subject.host, subject.port, self._utc())

        def write(connection: apsw.Connection) -> None:
            connection.execute("INSERT OR IGNORE INTO known_host VALUES (?, ?, ?, ?)", row)

        try:
            await self._database.write(write)
        except DatabaseError as error:  # it is told as the first one once more, after a restart
            self._log.warning("egress.host_not_kept", host=subject.host, error=str(error))

    def _utc(self) -> str:
        return self._clock.utc().astimezone(UTC).isoformat(timespec="seconds")
