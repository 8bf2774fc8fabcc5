"""What priced turns cost, in `state.db`: each turn's most before it is forwarded, its cost when it has ended.

A turn without its cost is in flight, or a crash left it open: it counts at its most. Turns of models that cost
nothing have no row here, so for local models nothing is written twice.

A row is dated by the boot's clock too, since its age must not change with the wall clock: see epad/ledger/timeline.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import apsw

from epad.database import Database, fetch
from epad.gateway.limits import LONGEST_WINDOW_SECONDS
from epad.ledger.entry import Stamp
from epad.ledger.timeline import Timeline
from statemachine.clock import Clock

COST_SCHEMA = """
CREATE TABLE IF NOT EXISTS turn_cost (
  turn TEXT PRIMARY KEY,
  subsystem TEXT NOT NULL,
  wall_ns INTEGER NOT NULL,
  reserved_microusd INTEGER NOT NULL,
  charged_microusd INTEGER,
  boot_id TEXT,
  monotonic_ns INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS cost_before (
  subsystem TEXT PRIMARY KEY,
  microusd INTEGER NOT NULL
) STRICT;
"""

# What a file of before these columns lacks. Its rows have no other time than the wall clock's: they are dated
# by it once, and from then on by the boot's clock like all others.
_COLUMNS = {"boot_id": "TEXT", "monotonic_ns": "INTEGER"}
_DATE = """
UPDATE turn_cost SET boot_id = ?1, monotonic_ns = ?2 - max(0, ?3 - wall_ns) WHERE boot_id IS NULL
"""
_SETTLE = """
UPDATE turn_cost SET charged_microusd = reserved_microusd, wall_ns = ?, boot_id = ?, monotonic_ns = ?
WHERE charged_microusd IS NULL
"""
_CLOSE = """
UPDATE turn_cost SET charged_microusd = ?, wall_ns = ?, boot_id = ?, monotonic_ns = ? WHERE turn = ?
"""
_FOLD = """
INSERT INTO cost_before VALUES (?, ?) ON CONFLICT DO UPDATE SET microusd = microusd + excluded.microusd
"""
_ROWS = (
    "SELECT turn, subsystem, wall_ns, coalesce(charged_microusd, reserved_microusd), charged_microusd IS NULL, "
    "coalesce(boot_id, ''), coalesce(monotonic_ns, 0) FROM turn_cost"
)
_TOTALS = """
SELECT subsystem, sum(microusd) FROM (
  SELECT subsystem, microusd FROM cost_before UNION ALL
  SELECT subsystem, coalesce(charged_microusd, reserved_microusd) FROM turn_cost) GROUP BY subsystem
"""
_NO_WINDOW_SECONDS = 2 * LONGEST_WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class Cost:
    """What a turn cost, or what all turns of a subsystem together did that no window reaches (`wall_ns` 0)."""

    subsystem: str
    wall_ns: int
    microusd: int
    age_seconds: float = field(default=0.0, compare=False)


class CostBook:
    """Implements `epad.gateway.parts.TurnCosts`."""

    def __init__(self, database: Database, clock: Clock, boot_id: str = "") -> None:
        self._database = database
        self._clock = clock
        self._boot_id = boot_id

    async def settle_left_open(self) -> None:
        """Charge what a crash left open at its most, as spent now: the last life ended before, but not when it opened.

        First of all at a start, when nothing is in flight. Brings a file of before to its form. Raises DatabaseError.
        """
        now = self._now()

        def work(connection: apsw.Connection) -> None:
            there = {name for (name,) in fetch(connection, "SELECT name FROM pragma_table_info('turn_cost')")}
            for name, kind in _COLUMNS.items():
                if name not in there:
                    connection.execute(f"ALTER TABLE turn_cost ADD COLUMN {name} {kind}")
            connection.execute(_DATE, (now.boot_id, now.monotonic_ns, now.wall_ns))
            connection.execute(_SETTLE, (now.wall_ns, now.boot_id, now.monotonic_ns))

        await self._database.write(work)

    async def load(self, timeline: Timeline | None = None) -> list[Cost]:
        """Everything spent so far, each at its age; what has left the longest window is summed up.

        The timeline knows of former boots; without one they are dated by the wall clock. Raises DatabaseError.
        """
        ages = timeline or Timeline(self._now())

        def work(connection: apsw.Connection) -> list[Cost]:
            costs, past, sums = [], [], Counter[str]()
            for turn, subsystem, wall_ns, microusd, in_flight, boot_id, monotonic_ns in fetch(
                connection, _ROWS
            ):
                age_ns = 0 if in_flight else ages.age_ns(Stamp(wall_ns, boot_id, monotonic_ns, 0))
                if age_ns > LONGEST_WINDOW_SECONDS * 1e9:
                    past.append((turn,))
                    sums[subsystem] += microusd
                else:
                    costs.append(Cost(subsystem, wall_ns, microusd, age_ns / 1e9))
            if past:
                connection.executemany(_FOLD, sums.items())
                connection.executemany("DELETE FROM turn_cost WHERE turn = ?", past)
            before = fetch(connection, "SELECT subsystem, microusd FROM cost_before")
            return [*(Cost(name, 0, microusd, _NO_WINDOW_SECONDS) for name, microusd in before), *costs]

        return await self._database.write(work)

    async def totals(self) -> Mapping[str, int]:
        """What each subsystem has cost so far, in micro-USD. Raises DatabaseError."""
        return dict(await self._database.read(lambda connection: fetch(connection, _TOTALS)))

    async def open(self, turn: str, subsystem: str, reserved_microusd: int) -> None:
        """Record the most that a turn can cost, before it is forwarded. Raises DatabaseError."""
        now = self._now()
        row = (turn, subsystem, now.wall_ns, reserved_microusd, now.boot_id, now.monotonic_ns)
        statement = "INSERT INTO turn_cost VALUES (?, ?, ?, ?, NULL, ?, ?)"
        await self._database.write(lambda connection: connection.execute(statement, row).fetchall())

    async def close(self, turn: str, charged_microusd: int) -> None:
        """Record what it cost, at the time of its settling as the windows count it. Raises DatabaseError."""
        now = self._now()
        row = (charged_microusd, now.wall_ns, now.boot_id, now.monotonic_ns, turn)
        await self._database.write(lambda connection: connection.execute(_CLOSE, row).fetchall())

    def _now(self) -> Stamp:
        wall_ns = int(self._clock.utc().timestamp() * 1e9)
        return Stamp(wall_ns, self._boot_id, int(self._clock.monotonic() * 1e9), 0)
