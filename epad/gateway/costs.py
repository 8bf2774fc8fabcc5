"""Keep the costs of priced turns in `state.db`: a turn's most before it is forwarded, its cost after its end.

A turn without its cost is in flight, or a crash left it open: it counts at its most. Turns of models that cost nothing
have no row here, so for local models nothing is written twice.

A row is dated by the boot's clock too, since its age must not change with the wall clock: see epad/ledger/timeline.py.
Rows older than a minute are summed up by slots of that clock, as the ledger's sums are (epad/ledger/sums.py), so that a
start reads as much after a month of turns as after an hour.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import apsw

from epad.gateway.limits import LONGEST_WINDOW_SECONDS
from epad.ledger.entry import Stamp
from epad.ledger.sums import LEVELS, SECOND_NS
from epad.ledger.timeline import Timeline
from epad.storage.database import Database, fetch
from statemachine.clock import Clock

COST_SCHEMA = """
CREATE TABLE IF NOT EXISTS turn_cost (
  turn TEXT PRIMARY KEY,
  subsystem TEXT NOT NULL,
  wall_ns INTEGER NOT NULL,
  reserved_microusd INTEGER NOT NULL,
  charged_microusd INTEGER,
  boot_id TEXT,
  monotonic_ns INTEGER,
  left_open INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS cost_before (
  subsystem TEXT PRIMARY KEY,
  microusd INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS cost_slot (
  subsystem TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  width_ns INTEGER NOT NULL,
  number INTEGER NOT NULL,
  wall_ns INTEGER NOT NULL,
  monotonic_ns INTEGER NOT NULL,
  microusd INTEGER NOT NULL,
  PRIMARY KEY (subsystem, boot_id, width_ns, number)
) STRICT, WITHOUT ROWID;
"""
FOLD_EVERY = 1_000
"""Closed turns after which those of before the last minute are summed up."""

# What a file of before these columns lacks. Its rows have no other time than the wall clock's: they are dated
# by it once, and from then on by the boot's clock like all others.
_COLUMNS = {"boot_id": "TEXT", "monotonic_ns": "INTEGER", "left_open": "INTEGER"}
_DATE = """
UPDATE turn_cost SET boot_id = ?1, monotonic_ns = ?2 - max(0, ?3 - wall_ns) WHERE boot_id IS NULL
"""
_SETTLE = """
UPDATE turn_cost SET charged_microusd = reserved_microusd, wall_ns = ?, boot_id = ?, monotonic_ns = ?, left_open = 1
WHERE charged_microusd IS NULL
"""
_CLOSE = """
UPDATE turn_cost SET charged_microusd = ?, wall_ns = ?, boot_id = ?, monotonic_ns = ?, left_open = NULL WHERE turn = ?
"""
_FOLD = """
INSERT INTO cost_before VALUES (?, ?) ON CONFLICT DO UPDATE SET microusd = microusd + excluded.microusd
"""
# ?1 the boot, ?2 the width of a slot, ?3 the time of the boot before which a slot has to end, ?4 the width before.
_ADD_TO_SLOT = (
    " ON CONFLICT DO UPDATE SET microusd = microusd + excluded.microusd, wall_ns = max(wall_ns, excluded.wall_ns),"
    " monotonic_ns = max(monotonic_ns, excluded.monotonic_ns)"
)
_OLD_ENOUGH = "boot_id = ?1 AND (monotonic_ns / ?2 + 1) * ?2 < ?3"
_OLD_TURNS = f"charged_microusd IS NOT NULL AND left_open IS NULL AND {_OLD_ENOUGH}"
_OLD_SLOTS = f"width_ns = ?4 AND {_OLD_ENOUGH}"
_NEWEST = "max(wall_ns), max(monotonic_ns)"
_FOLD_TURNS = f"""
INSERT INTO cost_slot SELECT subsystem, boot_id, ?2, monotonic_ns / ?2 AS number, {_NEWEST}, sum(charged_microusd)
FROM turn_cost WHERE {_OLD_TURNS} GROUP BY subsystem, number {_ADD_TO_SLOT}
"""  # noqa: S608  constants only
_FOLD_SLOTS = f"""
INSERT INTO cost_slot SELECT subsystem, boot_id, ?2, monotonic_ns / ?2 AS wider, {_NEWEST}, sum(microusd)
FROM cost_slot WHERE {_OLD_SLOTS} GROUP BY subsystem, wider {_ADD_TO_SLOT}
"""  # noqa: S608  constants only
_FOLD_TURN = f"INSERT INTO cost_slot VALUES (?, ?, ?, ?, ?, ?, ?){_ADD_TO_SLOT}"  # noqa: S608  constants only
_SLOT_ROWS = "SELECT subsystem, boot_id, width_ns, number, wall_ns, monotonic_ns, microusd FROM cost_slot"
_ROWS = (
    "SELECT turn, subsystem, wall_ns, coalesce(charged_microusd, reserved_microusd), charged_microusd IS NULL, "
    "coalesce(boot_id, ''), coalesce(monotonic_ns, 0), coalesce(left_open, 0) FROM turn_cost"
)
_TOTALS = """
SELECT subsystem, sum(microusd) FROM (
  SELECT subsystem, microusd FROM cost_before UNION ALL
  SELECT subsystem, microusd FROM cost_slot UNION ALL
  SELECT subsystem, coalesce(charged_microusd, reserved_microusd) FROM turn_cost) GROUP BY subsystem
"""
_NO_WINDOW_SECONDS = 2 * LONGEST_WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class Cost:
    """Holds a turn's cost, or the sum of a subsystem's turns that no window reaches (`wall_ns` 0)."""

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
        self._closed = 0

    async def settle_left_open(self) -> None:
        """Charge turns that a crash left open at their most, as spent now; the real time is not known."""
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
        """Return everything spent so far, each at its age; costs beyond the longest window are summed up.

        The timeline knows of former boots; without one they are dated by the wall clock. Raises DatabaseError.
        """
        ages = timeline or Timeline(self._now())

        now = self._now()

        def work(connection: apsw.Connection) -> list[Cost]:
            _fold(connection, now)
            costs = [*_turns(connection, ages, now.boot_id), *_slots(connection, ages)]
            before = fetch(connection, "SELECT subsystem, microusd FROM cost_before")
            return [*(Cost(name, 0, microusd, _NO_WINDOW_SECONDS) for name, microusd in before), *costs]

        return await self._database.write(work)

    async def totals(self) -> Mapping[str, int]:
        """Return each subsystem's cost so far, in micro-USD. Raises DatabaseError."""
        return dict(await self._database.read(lambda connection: fetch(connection, _TOTALS)))

    async def open(self, turn: str, subsystem: str, reserved_microusd: int) -> None:
        """Record the most that a turn can cost, before it is forwarded. Raises DatabaseError."""
        now = self._now()
        row = (turn, subsystem, now.wall_ns, reserved_microusd, now.boot_id, now.monotonic_ns)
        statement = "INSERT INTO turn_cost VALUES (?, ?, ?, ?, NULL, ?, ?, NULL)"
        await self._database.write(lambda connection: connection.execute(statement, row).fetchall())

    async def close(self, turn: str, charged_microusd: int) -> None:
        """Record a turn's cost, at the time of its settling as the windows count it. Raises DatabaseError."""
        now = self._now()
        row = (charged_microusd, now.wall_ns, now.boot_id, now.monotonic_ns, turn)
        self._closed += 1
        folds = self._closed % FOLD_EVERY == 0

        def work(connection: apsw.Connection) -> None:
            connection.execute(_CLOSE, row)
            if folds:
                _fold(connection, now)

        await self._database.write(work)

    def _now(self) -> Stamp:
        wall_ns = int(self._clock.utc().timestamp() * 1e9)
        return Stamp(wall_ns, self._boot_id, int(self._clock.monotonic() * 1e9), 0)


def _fold(connection: apsw.Connection, now: Stamp) -> None:
    """Sum up the turns that this boot has closed, as far as no window tells them apart any more."""
    for (narrow, until), (wide, _) in itertools.pairwise(LEVELS):
        width_ns, before_ns = wide * SECOND_NS, now.monotonic_ns - until * SECOND_NS
        if narrow == LEVELS[0][0]:
            bindings: tuple[object, ...] = (now.boot_id, width_ns, before_ns)
            connection.execute(_FOLD_TURNS, bindings)
            connection.execute(f"DELETE FROM turn_cost WHERE {_OLD_TURNS}", bindings)  # noqa: S608  constants only
        else:
            bindings = (now.boot_id, width_ns, before_ns, narrow * SECOND_NS)
            connection.execute(_FOLD_SLOTS, bindings)
            connection.execute(f"DELETE FROM cost_slot WHERE {_OLD_SLOTS}", bindings)  # noqa: S608  constants only


def _turns(connection: apsw.Connection, ages: Timeline, boot_id: str) -> list[Cost]:
    """Single turns at their ages; those of a former boot are summed up once they are older than a minute.

    One that a crash left open stays single as long as a window reaches it: a replay may close it at another cost.
    """
    costs, past, width_ns = [], [], LEVELS[1][0] * SECOND_NS
    for turn, subsystem, wall_ns, microusd, in_flight, boot, monotonic_ns, left_open in fetch(
        connection, _ROWS
    ):
        age_ns = 0 if in_flight else ages.age_ns(Stamp(wall_ns, boot, monotonic_ns, 0))
        outlived = age_ns > LONGEST_WINDOW_SECONDS * 1e9
        settled = boot not in {boot_id, ""} and not left_open and age_ns > LEVELS[0][1] * SECOND_NS
        if settled or outlived:
            number = monotonic_ns // width_ns
            row = (subsystem, boot, width_ns, number, wall_ns, monotonic_ns, microusd)
            connection.execute(_FOLD_TURN, row)
            past.append((turn,))
        else:
            costs.append(Cost(subsystem, wall_ns, microusd, age_ns / 1e9))
    if past:
        connection.executemany("DELETE FROM turn_cost WHERE turn = ?", past)
    return costs


def _slots(connection: apsw.Connection, ages: Timeline) -> list[Cost]:
    """Return the sums, each slot at the age of its newest turn; slots beyond the longest window join the rest."""
    costs, past, sums = [], [], Counter[str]()
    for subsystem, boot, width_ns, number, wall_ns, monotonic_ns, microusd in fetch(connection, _SLOT_ROWS):
        age_ns = ages.age_ns(Stamp(wall_ns, boot, monotonic_ns, 0))
        if age_ns > LONGEST_WINDOW_SECONDS * 1e9:
            past.append((subsystem, boot, width_ns, number))
            sums[subsystem] += microusd
        else:
            costs.append(Cost(subsystem, wall_ns, microusd, age_ns / 1e9))
    if past:
        connection.executemany(_FOLD, sums.items())
        connection.executemany(
            "DELETE FROM cost_slot WHERE subsystem = ? AND boot_id = ? AND width_ns = ? AND number = ?", past
        )
    return costs
