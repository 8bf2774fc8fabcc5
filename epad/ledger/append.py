"""Appending records: one open file, owned by one thread.

An I/O error ends the connection it came from. The kernel reports a failed fsync once and then calls the lost
pages clean, so the file is opened again and its tail is read back before anything more is promised.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import apsw
from msgspec.structs import replace

from epad.configuration.schema import LedgerConfig
from epad.ledger.anchor import Heads
from epad.ledger.batch import Tail, insert, rows_of, tail_of
from epad.ledger.catalogue import renewed_digest
from epad.ledger.chain import links_before
from epad.ledger.entry import CloseTurn, Entry, OpenTurn, Stamp, record_of
from epad.ledger.errors import LedgerError, LedgerUnavailableError, RecordError
from epad.ledger.payload import drop_payloads, keep_payload
from epad.ledger.record import (
    HASH_BYTES,
    EpochStarted,
    Kind,
    Outcome,
    Record,
    columns_of,
    decode,
    encode,
    leaf_hash,
    link_hash,
)
from epad.ledger.rows import INDEXES, TABLES, last_sequence, row_at
from epad.ledger.tree import Frontier
from epad.ledger.tree_rebuild import grow
from epad.storage.database import DatabaseError, connect, fetch, in_words
from statemachine.clock import Clock

T = TypeVar("T")

_INSERT = "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The connection is still good after these: nothing was written, or the transaction was rolled back.
_HARMLESS = (apsw.FullError, apsw.BusyError, apsw.LockedError, apsw.NoMemError, apsw.InterruptError)


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
        self._kept: dict[str, bytes] = {}  # open turns of this epoch whose payload goes when they are closed
        self._connection: apsw.Connection | None = None

    def open(self) -> None:
        """Open the file and start an epoch. Raises LedgerUnavailableError."""
        connection = self._connect()
        try:
            self.tail, last_epoch = _read_tail(connection)
            if self._heads is not None:
                self._note_missing(self._heads)
                self.tail = _after_heads(self.tail, self._heads)
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
            entries = [_without_digest(entry) for entry in entries]
        results: list[int | LedgerError]
        try:
            results = [*self._transaction(lambda db, tail: self._append_together(db, tail, entries))]
        except _NotAllTakenError:
            results = self._transaction(lambda db, tail: self._append_singly(db, tail, entries))
        self._kept = self._still_kept(entries)
        for entry, result in zip(entries, results, strict=True):
            if isinstance(entry, CloseTurn):
                self._open_turns.discard(entry.turn)
            elif isinstance(result, int):
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
        """The open file; opened again, and its tail read back, if an I/O error had ended it."""
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
                if isinstance(entry, OpenTurn):
                    opened_now.add(entry.turn)
                else:
                    self._require_opened(connection, entry, opened_now)
            rows = rows_of(entries, start, stamp)
            insert(connection, rows)
        except (LedgerError, apsw.ConstraintError, ValueError, OverflowError, TypeError) as error:
            raise _NotAllTakenError from error
        self._keep_payloads(connection, entries, stamp)
        self._drop_payloads(connection, entries)
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
                if isinstance(entry, CloseTurn):
                    self._require_opened(connection, entry, opened_now)
                tail = self._insert(connection, tail, record_of(entry, stamp))
                self._keep_payloads(connection, [entry], stamp)
                if isinstance(entry, OpenTurn):
                    opened_now.add(entry.turn)
                results.append(tail.seq)
            except LedgerError as error:
                results.append(error)
        self._drop_payloads(connection, entries)
        return results, tail

    def _require_opened(self, connection: apsw.Connection, entry: CloseTurn, opened_now: set[str]) -> None:
        """Raise LedgerError if its turn was never opened; the file is asked only where memory does not know."""
        turn = entry.turn
        if turn in self._open_turns or turn in opened_now or entry.outcome is Outcome.REFUSED:
            return
        if not _was_opened(connection, turn):
            raise LedgerError(f"turn {turn} cannot be closed as {entry.outcome}: it was never opened")

    def _keep_payloads(self, connection: apsw.Connection, entries: Sequence[Entry], stamp: Stamp) -> None:
        for entry in self._with_kept_payload(entries):
            keep_payload(connection, entry.payload or b"", stamp.wall_ns)

    def _drop_payloads(self, connection: apsw.Connection, entries: Sequence[Entry]) -> None:
        """Drop the payloads of turns that are closed now, unless another open turn asks the same."""
        if not self._kept:
            return
        closed = {self._kept[e.turn] for e in entries if isinstance(e, CloseTurn) and e.turn in self._kept}
        if closed:
            drop_payloads(connection, closed - set(self._still_kept(entries).values()))

    def _still_kept(self, entries: Sequence[Entry]) -> dict[str, bytes]:
        """The payloads that are kept for open turns, once these entries are written."""
        opened = self._with_kept_payload(entries)
        if self._config.payloads != "open" or not (opened or self._kept):
            return self._kept
        kept = self._kept | {e.turn: e.request_sha256 for e in opened}
        for entry in entries:
            if isinstance(entry, CloseTurn):
                kept.pop(entry.turn, None)
        return kept

    def _with_kept_payload(self, entries: Sequence[Entry]) -> list[OpenTurn]:
        """The openings whose request is kept: without a key nobody could come for the answer to its replay."""
        how = self._config.payloads
        if how == "open":
            return [
                e
                for e in entries
                if isinstance(e, OpenTurn) and e.idempotency_key is not None and e.payload is not None
            ]
        if how == "kept":
            return [e for e in entries if isinstance(e, OpenTurn) and e.payload is not None]
        return []

    def _insert(self, connection: apsw.Connection, tail: Tail, record: Record) -> Tail:
        after, leaf = _insert(connection, tail, record)
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
        tail, _ = _read_tail(connection)
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


def _insert(connection: apsw.Connection, tail: Tail, record: Record) -> tuple[Tail, bytes]:
    """Write a record after the tail; the new tail and its leaf.

    Raises LedgerError if it alone cannot be taken.
    """
    turn, kind, subsystem, wall_ns = columns_of(record)
    sequence = tail.seq + 1
    try:
        body = encode(record)
        leaf = leaf_hash(body)
        link = link_hash(tail.link, sequence, leaf)
        connection.execute(_INSERT, (sequence, turn, kind, subsystem, wall_ns, body, leaf, link))
    except apsw.ConstraintError as error:
        raise LedgerError(f"turn {turn} is {kind.name.lower()} already: {error}") from error
    except (ValueError, OverflowError, TypeError) as error:
        raise RecordError(f"turn {turn}: its record cannot be written: {error}") from error
    return Tail(sequence, link), leaf


def _after_heads(tail: Tail, heads: Heads) -> Tail:
    """Return the tail behind the signed records. Missing ones in between stay a gap that can be restored."""
    newest = heads.newest
    return Tail(newest.size, newest.link) if newest is not None and newest.size > tail.seq else tail


def _without_digest(entry: Entry) -> Entry:
    """Return the entry without a trace of the request."""
    return replace(entry, request_sha256=bytes(HASH_BYTES)) if isinstance(entry, OpenTurn) else entry


def _was_opened(connection: apsw.Connection, turn: str) -> bool:
    found = fetch(connection, "SELECT 1 FROM record WHERE turn = ? AND kind = ?", (turn, int(Kind.OPENED)))
    return bool(found)


def _read_tail(connection: apsw.Connection) -> tuple[Tail, int]:
    """The newest record's number and link, and the newest epoch."""
    sequence = last_sequence(connection)
    if sequence == 0:
        return Tail(), 0
    return Tail(sequence, _true_link(connection, sequence)), _newest_epoch(connection)


def _true_link(connection: apsw.Connection, sequence: int) -> bytes:
    """The newest link as it was written: no later record vouches for it, so its parts are weighed."""
    row = row_at(connection, sequence)
    if row is None or not isinstance(row.link, bytes):
        raise LedgerUnavailableError(
            f"record {sequence}, the newest, has no link: restore the newest checkpoint"
        )
    of_body = leaf_hash(row.body) if isinstance(row.body, bytes) else None
    leaves = [leaf for leaf in (row.leaf, of_body) if isinstance(leaf, bytes)]
    computed = [
        link_hash(link, sequence, leaf) for link in links_before(connection, sequence) for leaf in leaves
    ]
    if row.link not in computed and computed and row.leaf == of_body:
        return computed[0]
    return row.link


def _newest_epoch(connection: apsw.Connection) -> int:
    for sequence, body in connection.execute("SELECT seq, CAST(body AS BLOB) FROM record ORDER BY seq DESC"):
        with contextlib.suppress(RecordError):
            if isinstance(body, bytes) and isinstance(sequence, int):
                return decode(sequence, body).epoch
    return 0
