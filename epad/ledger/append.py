"""Append records to the ledger's file in durable transactions; one open connection, used by one thread.

| connection | `frontier` | appending | entered by | left by |
|---|---|---|---|---|
| none | as it was | opens the file again first, and reads its end back | `drop`, an I/O error | `connection`, `close` |
| open | the tree of all records | heads may be signed | `open`, `regrow` | `withhold`, an I/O error, `close` |
| open | none | no head is signed; `withheld` says why | records that contradict the newest head, or a gap | `regrow` |

Invariants: `tail` is the newest record whose commit has returned, or the newest head's where that is ahead: records
missing in between stay a gap that can be filled. `tail` and `frontier` change after a COMMIT alone, so an error before
it leaves both right. An entry that cannot be taken is refused alone; the others of its batch are written. A record of
the ledger's own is in one transaction with the work that it records. Nothing here awaits, and nobody can cancel.

A crash, or an error, by the moment at which it comes:

- before COMMIT: nothing of the transaction is in the file;
- in COMMIT: all of it is on the disk, or nothing (SQLite's log ends at the last whole commit). A crash leaves records
  that nobody was told of: an opened turn without an end counts with all that was reserved. An I/O error leaves that
  open: the kernel reports a failed fsync once, and then calls the lost pages clean. So the connection is dropped,
  without copying its log over, and `_check_promises` reads the end back: each acknowledged record must be there, or
  nothing more is promised; an unacknowledged one may be there, and then counts;
- a full disk, a lock that is held too long: rolled back, and the connection goes on (`_HARMLESS`);
- after COMMIT, before `close`: the next epoch's first record says that this one did not end in order.

Rejected: `synchronous=NORMAL`, twenty times as many commits of ten records on a busy machine, since the last of them
are gone with the power (`tests/faults/test_campaign_ledger.py` plants it); another fsync on the same connection after
an error, since it succeeds without having written anything; refusing a batch for one unusable entry, since one client
could turn away the turns of the others; one INSERT for each record, since SQLite gives up the GIL for each
(`batch.py`).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import apsw

from epad.configuration.schema import LedgerConfig
from epad.ledger.anchor import Heads
from epad.ledger.batch import insert, insert_one, rows_of, tail_of
from epad.ledger.catalogue import renewed_digest
from epad.ledger.chain import links_before
from epad.ledger.entry import CloseTurn, Closing, Entry, Opening, Stamp, record_of
from epad.ledger.errors import LedgerError, LedgerUnavailableError
from epad.ledger.payload import Requests, without_digest
from epad.ledger.record import EpochStarted, Kind, Outcome, Record, ToolOutcome
from epad.ledger.rows import INDEXES, TABLES
from epad.ledger.tail import Tail, read_tail, tail_behind
from epad.ledger.tree import Frontier
from epad.ledger.tree_rebuild import grow
from epad.storage.database import DatabaseError, connect, fetch, in_words
from statemachine.clock import Clock

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The connection is still good after these: nothing was written, or the transaction was rolled back.
_HARMLESS = (apsw.FullError, apsw.BusyError, apsw.LockedError, apsw.NoMemError, apsw.InterruptError)


_NEVER_OPENED = (Outcome.REFUSED, ToolOutcome.REFUSED)
"""Ends of turns that nothing need have opened."""


class _NotAllTakenError(Exception):
    """A batch has a record that cannot be taken; none of it was."""


Make = Callable[[Stamp], Record]
"""Makes a record of the ledger's own, given its stamp."""


class Appender:
    """Writes records to one file, each durable on return. For one thread."""

    def __init__(
        self, path: Path, config: LedgerConfig, clock: Clock, boot_id: str, heads: Heads | None = None
    ) -> None:
        self.tail = Tail()
        self.frontier: Frontier | None = None
        self.withheld = ""
        self.lacks: tuple[int, int] | None = None
        self.epoch = 0
        self.path = path
        self._config = config
        self._clock = clock
        self._boot_id = boot_id
        self._heads = heads
        self._leaves: list[bytes] = []
        self._open_turns: set[str] = set()  # of this epoch: their closings need not be looked up
        self._requests = Requests(config.payloads)
        self._connection: apsw.Connection | None = None

    def open(self) -> None:
        """Open the file and start an epoch. Raises LedgerUnavailableError."""
        connection = self._connect()
        try:
            self.tail, last_epoch = read_tail(connection)
            if self._heads is not None:
                self._note_missing(self._heads)
                self.tail = tail_behind(self._heads.newest, self.tail)
                self.regrow()
            self.epoch = last_epoch + 1
            closed = fetch(connection, "SELECT value FROM meta WHERE key = 'closed'")
            clean = self.tail.seq == 0 or bool(closed and closed[0][0] == self.tail.link)
        except apsw.Error as error:
            raise self._failed(error) from error
        nonce, previous_link = secrets.token_bytes(16), self.tail.link
        self.append_own(
            lambda stamp: EpochStarted(
                nonce, previous_link, clean, stamp.wall_ns, stamp.boot_id, stamp.monotonic_ns, stamp.epoch
            )
        )

    def _note_missing(self, heads: Heads) -> None:
        """Say which records the newest head vouches for and are not there."""
        newest = heads.newest
        if newest is not None and newest.size > self.tail.seq:
            self.lacks = (self.tail.seq + 1, newest.size)

    def regrow(self) -> None:
        """Derive the tree anew and hold it against the newest head; until they agree no head may be signed."""
        if self._heads is None:
            return
        if self._heads.newest is None and self._heads.faults:
            self.frontier, self.withheld = None, self._heads.faults[0]
            return
        grown = grow(self.connection(), self.tail.seq, self._heads.newest)
        self.frontier, self.withheld = grown.frontier, grown.why_not

    def withhold(self, why: str) -> None:
        """Sign no more heads: writing goes on, but the records before are in dispute."""
        self.frontier, self.withheld = None, why

    def forget_heads(self, heads: Heads) -> None:
        """Use these heads from now on: the damaged ones have been put aside."""
        self._heads = heads

    def append(self, entries: Sequence[Entry]) -> list[int | LedgerError]:
        """Append all in one transaction: to each its number, or why this one alone was not taken.

        Raises LedgerUnavailableError when none was.
        """
        if self._config.payloads == "off":
            entries = [without_digest(entry) for entry in entries]
        results: list[int | LedgerError]
        try:
            results = [*self._transaction(lambda db, tail: self._append_together(db, tail, entries))]
        except _NotAllTakenError:
            results = self._transaction(lambda db, tail: self._append_singly(db, tail, entries))
        self._requests.written(entries)
        for entry, result in zip(entries, results, strict=True):
            if isinstance(entry, Closing):
                self._open_turns.discard(entry.turn)
            elif isinstance(entry, Opening) and isinstance(result, int):
                self._open_turns.add(entry.turn)
        return results

    def append_own(self, make: Make, before: Callable[[apsw.Connection], None] = lambda _: None) -> int:
        """Append a record of the ledger's own, in one transaction with the work that it records."""

        def work(connection: apsw.Connection, start: Tail) -> tuple[int, Tail]:
            before(connection)
            tail = self._insert(connection, start, make(self.stamp()))
            return tail.seq, tail

        return self._transaction(work)

    def connection(self) -> apsw.Connection:
        """Return the open file; opened again, and its tail read back, if an I/O error had ended it."""
        if self._connection is None:
            connection = self._connect()
            try:
                self._check_promises(connection)
            except apsw.Error as error:
                raise self._failed(error) from error
            except LedgerUnavailableError:
                self.drop()
                raise
        if self._connection is None:
            raise LedgerUnavailableError(f"{self.path} could not be opened")
        return self._connection

    def close(self) -> None:
        """End the epoch in order and close the file."""
        connection, link = self._connection, self.tail.link
        if connection is None:
            return
        try:
            with connection, renewed_digest(connection):
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('closed', ?)", (link,))
            connection.close()
        except apsw.Error as error:
            raise self._failed(error) from error
        self._connection = None

    def stamp(self) -> Stamp:
        wall_ns = (self._clock.utc() - _EPOCH) // timedelta(microseconds=1) * 1_000
        return Stamp(wall_ns, self._boot_id, int(self._clock.monotonic() * 1e9), self.epoch)

    def _append_together(
        self, connection: apsw.Connection, start: Tail, entries: Sequence[Entry]
    ) -> tuple[range, Tail]:
        """Insert all at once. Raises _NotAllTakenError where one of them is not to be taken."""
        stamp, opened_now = self.stamp(), set[str]()
        try:
            for entry in entries:
                if isinstance(entry, Opening):
                    opened_now.add(entry.turn)
                elif isinstance(entry, Closing):
                    self._require_opened(connection, entry, opened_now)
            rows = rows_of(entries, start, stamp)
            insert(connection, rows)
        except (LedgerError, apsw.ConstraintError, ValueError, OverflowError, TypeError) as error:
            raise _NotAllTakenError from error
        self._requests.keep(connection, entries, stamp.wall_ns)
        self._requests.drop(connection, entries)
        self._leaves += [row[6] for row in rows]
        tail = tail_of(rows)
        return range(start.seq + 1, tail.seq + 1), tail

    def _append_singly(
        self, connection: apsw.Connection, tail: Tail, entries: Sequence[Entry]
    ) -> tuple[list[int | LedgerError], Tail]:
        """Insert one by one, so that an unusable record harms only itself."""
        results: list[int | LedgerError] = []
        stamp, opened_now = self.stamp(), set[str]()
        for entry in entries:
            try:
                if isinstance(entry, Closing):
                    self._require_opened(connection, entry, opened_now)
                tail = self._insert(connection, tail, record_of(entry, stamp))
                self._requests.keep(connection, [entry], stamp.wall_ns)
                if isinstance(entry, Opening):
                    opened_now.add(entry.turn)
                results.append(tail.seq)
            except LedgerError as error:
                results.append(error)
        self._requests.drop(connection, entries)
        return results, tail

    def _require_opened(self, connection: apsw.Connection, entry: Closing, opened_now: set[str]) -> None:
        """Raise LedgerError if its turn was never opened; the file is asked only where memory does not know."""
        turn = entry.turn
        if turn in self._open_turns or turn in opened_now or entry.outcome in _NEVER_OPENED:
            return
        kind = Kind.OPENED if isinstance(entry, CloseTurn) else Kind.TOOL_OPENED
        if not _was_opened(connection, turn, kind):
            raise LedgerError(f"turn {turn} cannot be closed as {entry.outcome}: it was never opened")

    def _insert(self, connection: apsw.Connection, tail: Tail, record: Record) -> Tail:
        after, leaf = insert_one(connection, tail, record)
        self._leaves.append(leaf)
        return after

    def _transaction(self, work: Callable[[apsw.Connection, Tail], tuple[T, Tail]]) -> T:
        connection = self.connection()
        self._leaves.clear()
        try:
            connection.execute("BEGIN IMMEDIATE")
            result, tail = work(connection, self.tail)
            connection.execute("COMMIT")
        except apsw.Error as error:
            raise self._failed(error) from error
        except BaseException:
            self._roll_back()
            raise
        self.tail = tail
        if self.frontier is not None:
            self.frontier.extend(self._leaves)
        return result

    def write(self, work: Callable[[apsw.Connection], T]) -> T:
        """Do something durable that is no record: notes, seals, payloads."""
        return self._transaction(lambda connection, tail: (work(connection), tail))

    def _connect(self) -> apsw.Connection:
        try:
            connection = connect(self.path)
        except DatabaseError as error:
            raise LedgerUnavailableError(str(error)) from error
        self._connection = connection
        try:
            with connection:
                connection.execute(TABLES)
                for statement in INDEXES.values():
                    connection.execute(statement)
        except apsw.Error as error:
            raise self._failed(error) from error
        return connection

    def _check_promises(self, connection: apsw.Connection) -> None:
        """Read the tail back: acknowledged records must be there; others may be, and then count."""
        tail, _ = read_tail(connection)
        if self.tail.seq and self.tail.link not in links_before(connection, self.tail.seq + 1):
            raise LedgerUnavailableError(
                f"{self.path}: record {self.tail.seq} was acknowledged and is not on the disk as it was; "
                "restore the newest checkpoint"
            )
        if tail != self.tail:
            self.tail = tail
            self.frontier = None
            self._connection = connection
            self.regrow()

    def _failed(self, error: apsw.Error) -> LedgerUnavailableError:
        """Clean up after an error and say it in our words."""
        if isinstance(error, _HARMLESS):
            self._roll_back()
        else:
            self.drop()
        return LedgerUnavailableError(in_words(self.path, error))

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None or not connection.in_transaction:
            return
        try:
            connection.execute("ROLLBACK")
        except apsw.Error:
            self.drop()

    def drop(self) -> None:
        """Close the connection without copying the WAL over: its pages can no longer be trusted."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.suppress(apsw.Error):
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        with contextlib.suppress(apsw.Error):
            connection.close(force=True)


def _was_opened(connection: apsw.Connection, turn: str, kind: Kind) -> bool:
    found = fetch(connection, "SELECT 1 FROM record WHERE turn = ? AND kind = ?", (turn, int(kind)))
    return bool(found)
