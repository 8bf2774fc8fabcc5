"""Count how often the stores were opened and closed in order, in `state.db` and beside the ledger's heads.

A `state.db` that was deleted, or put back from an older copy, has forgotten holds, revoked keys and money spent, and
looks well. But it knows of fewer openings than the anchor does; an older anchor of fewer than `state.db`. Then no turn
is taken until a person gives up what is lost. (Records that are missing are `epad/ledger/loss.py`'s.)

Counting has three steps, each durable: `state.db` begins the number, the anchor has it, `state.db` has it. Killed
between any two of them the next start finds one of the pairs below, and no other pair is found without a loss:

| `state.db` begun, counted | anchor | then |
|---|---|---|
| n, n | n | as it was left |
| n + 1, n | n or n + 1 | killed while counting |
| none | none | the first start; where `state.db` is new beside a ledger that is not: both are lost |

The count goes on every COUNT_SECONDS in which `state.db` has changed: an older copy of the same life has fewer too.
A restore or relaunch, which are a person's word, leave ANY_COUNT in the anchor.
"""

from __future__ import annotations

import asyncio
from datetime import UTC
from pathlib import Path

import apsw
import msgspec
import structlog
from msgspec import Struct

from epad.ledger.anchor import replace_file
from epad.ledger.paths import ANY_COUNT
from epad.runtime.timers import sleep_to_beat
from epad.storage.database import Database, DatabaseError, fetch
from statemachine.clock import Clock

START_SCHEMA = """
CREATE TABLE IF NOT EXISTS start_count(
    id INTEGER PRIMARY KEY CHECK (id = 1), begun INTEGER NOT NULL, counted INTEGER NOT NULL, utc TEXT NOT NULL) STRICT;
"""
COUNT_SECONDS = 60.0
NO_COUNT = -1
"""What `state.db` has counted while it is known that it was made beside a ledger that was there before it."""
BESIDE_A_LEDGER = "INSERT INTO start_count VALUES (1, 0, -1, '')"
"""For a `state.db` that is made beside a ledger: a start that is killed before it compares has said so."""
_BEGIN = """
INSERT INTO start_count VALUES (1, ?, ?, ?)
ON CONFLICT DO UPDATE SET begun = excluded.begun
"""
_COUNT = "UPDATE start_count SET counted = ?, utc = ?"


class Counted(Struct, frozen=True):
    """A number, and when it was counted, as one of the two places has it."""

    count: int
    utc: str = ""

    @property
    def words(self) -> str:
        """Return the same for a person."""
        return f"{self.count} opening(s) and closings, the last at {self.utc}"


class Starts:
    """The count of one state directory; `path` is the anchor's place for it."""

    def __init__(self, database: Database, path: Path, clock: Clock) -> None:
        self._database = database
        self._path = path
        self._clock = clock
        self._count = 0
        self._changes = -1
        self._lock = asyncio.Lock()
        self._log = structlog.get_logger("epad.starts")
        self.lost = ""

    @property
    def sentence(self) -> str:
        """Describe the loss and the fix, in one line; empty while there is none."""
        if not self.lost:
            return ""
        return (
            f"{self.lost}, so nothing is forwarded: put the newest checkpoint back (`epactl checkpoint restore`), or "
            "go on without it with `epactl ledger accept-loss --reason R`, which counts every budget as spent"
        )

    async def begin(self, *, ledger_is_new: bool) -> None:
        """Compare the two counts; count this start if they agree. Raises DatabaseError."""
        begun, own = await self._database.read(_read_own)
        known = await asyncio.to_thread(self._read_anchor)
        self._count = max(begun, known.count if known else 0, 0)
        self.lost = _lost(begun, own, known, alone=self._database.is_new and not ledger_is_new)
        if not self.lost:
            await self.count()
            return
        self._log.error("starts.disagree", lost=self.lost)
        if known is None and own is None:  # the next start finds a state.db that is not new any more
            await self._database.write(lambda db: db.execute(_BEGIN, (0, NO_COUNT, "")).fetchall())

    async def accept(self) -> str:
        """Give up the loss, on a person's word; return its description. Raises DatabaseError."""
        lost = self.lost
        if lost:
            await asyncio.shield(self._count_one())
            self.lost = ""
        return lost

    async def count(self) -> None:
        """Count one more, in both places, unless one of them has lost something. Raises DatabaseError."""
        if not self.lost:
            # A count once begun is ended: a stop in the middle of it would count the same number beside it.
            await asyncio.shield(self._count_one())

    async def run(self) -> None:
        """Count on while `state.db` changes; a side task that never ends."""
        while True:
            await sleep_to_beat(COUNT_SECONDS)
            try:
                if await self._database.read(_changes) != self._changes:
                    await self.count()
            except DatabaseError as error:
                self._log.warning("starts.not_counted", error=str(error))

    async def _count_one(self) -> None:
        async with self._lock:
            number, utc = self._count + 1, self._clock.utc().astimezone(UTC).isoformat(timespec="seconds")
            await self._database.write(lambda db: db.execute(_BEGIN, (number, self._count, utc)).fetchall())
            await asyncio.to_thread(self._write_anchor, Counted(number, utc))
            await self._database.write(lambda db: db.execute(_COUNT, (number, utc)).fetchall())
            self._count, self._changes = number, await self._database.read(_changes)

    def _read_anchor(self) -> Counted | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Counted)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError):
            return Counted(0)  # cut short or overwritten: it vouches for nothing

    def _write_anchor(self, counted: Counted) -> None:
        try:
            replace_file(self._path, msgspec.json.encode(counted) + b"\n")
        except OSError as error:
            raise DatabaseError(f"{self._path}: {error.strerror or error}") from error


def _lost(begun: int, own: Counted | None, known: Counted | None, *, alone: bool) -> str:
    """Say which of the two places has lost something; empty if neither has."""
    if known is not None and known.count == ANY_COUNT:
        return ""
    if known is None and (own is None or own.count == NO_COUNT):
        return _BOTH_LOST if alone or own else ""
    if own is not None and own.count == NO_COUNT:
        own = None
    known = known or Counted(0)
    if own is None or known.count > begun:
        has = f"knows of {own.words}" if own else "is new"
        return (
            f"state.db {has}, and the anchor of {known.words}: state.db was deleted or put back from an older copy, "
            "and what it had since then is lost (holds, keys given and revoked, budgets set, money spent, events; a "
            "client whose key is refused gets a new one by `epactl key rotate NAME`)"
        )
    if known.count < own.count:
        has = f"knows of {known.words}" if known.count else "knows of no opening"
        return (
            f"the ledger's anchor {has}, and state.db of {own.words}: the anchor was deleted or put back from an older "
            "copy, and its heads since then are lost, which vouch for the ledger's records"
        )
    return ""


_BOTH_LOST = (
    "state.db is new and the anchor knows of no opening, though the ledger had records: both were deleted, and what "
    "they had is lost (holds, keys, budgets set, money spent, events, the heads that vouch for the ledger's records)"
)


def _read_own(connection: apsw.Connection) -> tuple[int, Counted | None]:
    """Return the begun and the counted start of `state.db`."""
    rows = fetch(connection, "SELECT begun, counted, utc FROM start_count")
    if not rows:
        return 0, None
    begun, counted, utc = rows[0]
    return begun, Counted(counted, utc)


def _changes(connection: apsw.Connection) -> int:
    return connection.total_changes()
