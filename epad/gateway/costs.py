"""What priced turns cost, in `state.db`: each turn's most before it is forwarded, its cost when it has ended.

A turn without its cost is one that a crash left open: it counts at its most. Turns of models that cost
nothing have no row here, so for local models nothing is written twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from epad.database import Database, fetch
from epad.gateway.limits import LONGEST_WINDOW_SECONDS
from statemachine.clock import Clock

COST_SCHEMA = """
CREATE TABLE IF NOT EXISTS turn_cost (
  turn TEXT PRIMARY KEY,
  subsystem TEXT NOT NULL,
  wall_ns INTEGER NOT NULL,
  reserved_microusd INTEGER NOT NULL,
  charged_microusd INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS cost_before (
  subsystem TEXT PRIMARY KEY,
  microusd INTEGER NOT NULL
) STRICT;
"""

_FOLD = """
INSERT INTO cost_before SELECT subsystem, sum(coalesce(charged_microusd, reserved_microusd)) FROM turn_cost
WHERE wall_ns < ?1 GROUP BY subsystem ON CONFLICT DO UPDATE SET microusd = microusd + excluded.microusd;
"""
_SPENT = "SELECT subsystem, wall_ns, coalesce(charged_microusd, reserved_microusd) FROM turn_cost"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a turn cost, or what all turns of a subsystem together did that no window reaches (`wall_ns` 0)."""

    subsystem: str
    wall_ns: int
    microusd: int


class CostBook:
    """Implements `epad.gateway.parts.TurnCosts`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def load(self) -> list[Cost]:
        """Everything spent so far; what has left the longest window is summed up. Raises DatabaseError."""
        oldest_ns = self._wall_ns() - int(LONGEST_WINDOW_SECONDS * 1e9)

        def work(connection: apsw.Connection) -> list[Cost]:
            connection.execute(_FOLD, (oldest_ns,))
            connection.execute("DELETE FROM turn_cost WHERE wall_ns < ?", (oldest_ns,))
            before = fetch(connection, "SELECT subsystem, 0, microusd FROM cost_before")
            return [Cost(*row) for row in (*before, *fetch(connection, _SPENT))]

        return await self._database.write(work)

    async def open(self, turn: str, subsystem: str, reserved_microusd: int) -> None:
        """Record the most that a turn can cost, before it is forwarded. Raises DatabaseError."""
        row = (turn, subsystem, self._wall_ns(), reserved_microusd)
        statement = "INSERT INTO turn_cost VALUES (?, ?, ?, ?, NULL)"
        await self._database.write(lambda connection: connection.execute(statement, row).fetchall())

    async def close(self, turn: str, charged_microusd: int) -> None:
        """Record what it cost, at the time of its settling as the windows count it. Raises DatabaseError."""
        row = (charged_microusd, self._wall_ns(), turn)
        statement = "UPDATE turn_cost SET charged_microusd = ?, wall_ns = ? WHERE turn = ?"
        await self._database.write(lambda connection: connection.execute(statement, row).fetchall())

    def _wall_ns(self) -> int:
        return int(self._clock.utc().timestamp() * 1e9)
