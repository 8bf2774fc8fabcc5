"""The newest reading of both clocks in each boot, kept when the wall clock is set and when the daemon stops.

The time between two boots is the wall clock's, from the last thing known of one to the first of the next. A wall clock
that was set after a boot's last turn would count as time passed in between; with a reading after the step it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import apsw
import structlog

from epad.ledger.entry import Stamp
from epad.storage.database import Database, DatabaseError, fetch
from statemachine.clock import Clock

MARK_SCHEMA = """
CREATE TABLE IF NOT EXISTS clock_mark(
    boot_id TEXT PRIMARY KEY, wall_ns INTEGER NOT NULL, monotonic_ns INTEGER NOT NULL) STRICT;
"""
_KEEP = """
INSERT INTO clock_mark VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET wall_ns = excluded.wall_ns, monotonic_ns = excluded.monotonic_ns
"""

Marks = Mapping[str, Stamp]
"""By boot."""


class ClockMarks:
    """Keeps this boot's reading, and knows those of former ones."""

    def __init__(self, database: Database, clock: Clock, boot_id: str) -> None:
        self._database = database
        self._clock = clock
        self._boot_id = boot_id
        self._jumped = asyncio.Event()

    async def load(self) -> Marks:
        """Return every boot's newest reading. Raises DatabaseError."""
        query = "SELECT boot_id, wall_ns, monotonic_ns FROM clock_mark"
        rows = await self._database.read(lambda connection: fetch(connection, query))
        return {boot_id: Stamp(wall_ns, boot_id, monotonic_ns, 0) for boot_id, wall_ns, monotonic_ns in rows}

    async def keep(self) -> None:
        """Read both clocks and keep that. Raises DatabaseError."""
        wall_ns, monotonic_ns = int(self._clock.utc().timestamp() * 1e9), int(self._clock.monotonic() * 1e9)
        row = (self._boot_id, wall_ns, monotonic_ns)

        def work(connection: apsw.Connection) -> None:
            connection.execute(_KEEP, row)

        await self._database.write(work)

    def jumped(self) -> None:
        """Have the clocks read anew: somebody set one."""
        self._jumped.set()

    async def run(self) -> None:
        """Keep a reading after each jump."""
        while True:
            await self._jumped.wait()
            self._jumped.clear()
            try:
                await self.keep()
            except DatabaseError as error:
                # The next jump, or the stop, keeps a reading again.
                structlog.get_logger("epad.clock").warning("clock.mark_not_kept", error=str(error))
