"""Repair damaged records from copies of the ledger, as far as the chain covers the copies.

Nothing is chained anew and nothing is deleted: a replaced row goes to `quarantine` first, an unrestorable one keeps its
leaf and link so that the chain behind it still verifies, and the repair is itself a record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import msgspec

from epad.ledger.append import Appender
from epad.ledger.catalogue import mend_catalogue
from epad.ledger.chain import BESIDE, Fault, FaultKind, walker_at
from epad.ledger.entry import Stamp
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.record import Repaired, columns_of, decode, spans_of
from epad.ledger.record_repair import Copy, Mended, Mender
from epad.ledger.rows import DAMAGE, INDEXES, RECORD_TABLE, Row, Unreadable, open_reader, read_rows
from epad.ledger.segment import DatabaseCopy, SegmentsCopy
from epad.ledger.verify import Report

_REPLACE = "INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_QUARANTINE = "INSERT INTO quarantine(seq, cause, raw, wall_ns) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class RepairOutcome:
    """The records that are whole again, and those whose bodies are gone."""

    restored: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Survey:
    """The rows as they are: those that matter, and whether the table itself can still be written."""

    rows: dict[int, Row]
    rebuild: bool


def repair(
    appender: Appender, report: Report, sources: Sequence[Path], segments: Path | None = None
) -> RepairOutcome:
    """Repair the faults in `report`; on the writer's thread. Raises LedgerUnavailableError, changing nothing.

    A fault that remains is one that this cannot mend: two histories that disagree are not made one here.
    """
    if any(fault.kind is FaultKind.INDEX for fault in report.faults):
        appender.write(_reindex)
    if any(fault.kind is FaultKind.CATALOGUE for fault in report.faults):
        appender.write(lambda db: mend_catalogue(db, segments))
    damaged = sorted({seq for fault in report.faults for seq in _records(fault, appender.tail.seq)})
    if not damaged:
        return RepairOutcome()
    survey = _survey(appender.path, damaged)
    with contextlib.ExitStack() as stack:
        copies: list[Copy] = [SegmentsCopy(segments)] if segments is not None else []
        copies += [copy for path in sources for copy in _open_copy(path, stack)]
        mended = Mender(survey.rows, damaged, appender.tail, copies).mend()
    if not mended.changes and not mended.absent:
        return RepairOutcome()
    cause = ", ".join(sorted({fault.kind for fault in report.faults}))
    _Writing(appender, survey, mended, cause).run()
    return RepairOutcome(tuple(mended.restored), tuple(mended.lost))


def _records(fault: Fault, last: int) -> range:
    """Return the records that a fault is about. An end of the ledger is a gap once there is a record behind it."""
    if fault.kind in BESIDE:
        return range(0)
    return range(fault.seq, min(fault.last_seq, last) + 1)


def _reindex(connection: apsw.Connection) -> None:
    for name in INDEXES:
        connection.execute(f"DROP INDEX IF EXISTS {name}")
    _make_indexes(connection)


def _survey(path: Path, damaged: Sequence[int]) -> _Survey:
    """Read from before the first damaged record to the end; from the disk, not from the writer's page cache."""
    connection = open_reader(path)
    try:
        return _read_survey(connection, damaged)
    except apsw.Error as error:
        raise LedgerUnavailableError(
            f"{path} cannot be repaired in place: {error}; restore the newest checkpoint"
        ) from error
    finally:
        connection.close()


def _read_survey(connection: apsw.Connection, damaged: Sequence[int]) -> _Survey:
    wanted = {near for seq in damaged for near in (seq - 1, seq, seq + 1)}
    rows: dict[int, Row] = {}
    rebuild = False
    first = max(1, damaged[0] - 1)
    walker = walker_at(connection, first)
    for item in read_rows(connection, first):
        sequence = walker.step(item)
        rebuild = rebuild or isinstance(item, Unreadable) or item.seq != sequence
        if isinstance(item, Row) and sequence in wanted:
            rows[sequence] = item
    return _Survey(rows, rebuild)


def _open_copy(path: Path, stack: contextlib.ExitStack) -> Iterator[Copy]:
    """Open a copy, if it can be, without writing anything beside it: it may belong to a signed bundle."""
    immutable = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        connection = apsw.Connection(f"{path.absolute().as_uri()}?mode=ro{immutable}", flags=flags)
    except apsw.Error:
        return
    stack.callback(connection.close)
    yield DatabaseCopy(str(path), connection)


@dataclass(frozen=True, slots=True)
class _Writing:
    """The one transaction of a repair: quarantine, change, record."""

    appender: Appender
    survey: _Survey
    mended: Mended
    cause: str

    def run(self) -> None:
        """Change rows in place, or write the table anew where a malformed page takes no more rows."""
        if not self.survey.rebuild:
            try:
                self.appender.append_own(self._record, self._in_place)
            except LedgerUnavailableError as error:
                if not isinstance(error.__cause__, DAMAGE):
                    raise
            else:
                return
        self.appender.append_own(self._record, self._anew)

    def _record(self, stamp: Stamp) -> Repaired:
        return Repaired(
            restored=spans_of(self.mended.restored),
            lost=spans_of(self.mended.lost),
            cause=self.cause,
            source=", ".join(sorted(self.mended.sources)),
            wall_ns=stamp.wall_ns,
            boot_id=stamp.boot_id,
            monotonic_ns=stamp.monotonic_ns,
            epoch=stamp.epoch,
        )

    def _in_place(self, connection: apsw.Connection) -> None:
        self._prepare(connection)
        self._replace_all(connection, "record")
        _make_indexes(connection)

    def _anew(self, connection: apsw.Connection) -> None:
        """Copy the readable rows, and keep the damaged table beside them.

        Reading is another connection's: a statement that meets a malformed page spoils its own transaction.
        """
        self._prepare(connection)
        connection.execute(RECORD_TABLE.format(table="record_rebuilt"))
        with contextlib.closing(open_reader(self.appender.path)) as reader:
            walker = walker_at(reader, 1)
            for item in read_rows(reader, 1):
                sequence = walker.step(item)
                if sequence is not None and sequence not in self.mended.changes and isinstance(item, Row):
                    _insert_as(connection, "record_rebuilt", sequence, item)
        self._replace_all(connection, "record_rebuilt")
        connection.execute(f"ALTER TABLE record RENAME TO record_damaged_{self.appender.tail.seq}")
        connection.execute("ALTER TABLE record_rebuilt RENAME TO record")
        _make_indexes(connection)

    def _prepare(self, connection: apsw.Connection) -> None:
        """Keep the rows to be replaced, and drop the indexes: SQLite changes no row that they do not match."""
        wall_ns = self.appender.stamp().wall_ns
        for sequence in self.mended.changes:
            row = self.survey.rows.get(sequence)
            if row is not None:
                raw = msgspec.msgpack.encode(tuple(row))
                connection.execute(_QUARANTINE, (sequence, self.cause, raw, wall_ns))
        for name in INDEXES:
            connection.execute(f"DROP INDEX IF EXISTS {name}")

    def _replace_all(self, connection: apsw.Connection, table: str) -> None:
        for sequence in self.mended.changes:
            _replace(connection, table, sequence, self.survey.rows.get(sequence), self.mended)


def _make_indexes(connection: apsw.Connection) -> None:
    for statement in INDEXES.values():
        connection.execute(statement)


def _replace(
    connection: apsw.Connection, table: str, sequence: int, before: Row | None, mended: Mended
) -> None:
    """Write a mended record; its copied columns come from its body, or stay where that is lost."""
    body, leaf, link = mended.changes[sequence]
    if body is None:
        row = Row(sequence, None, 0, None, 0, None, leaf, link)
        if before is not None:
            row = before._replace(body=None, leaf=leaf, link=link)
        _insert_as(connection, table, sequence, row)
        return
    turn, kind, subsystem, wall_ns = columns_of(decode(sequence, body))
    values = (sequence, turn, int(kind), subsystem, wall_ns, body, leaf, link)
    connection.execute(_REPLACE.format(table=table), values)


def _insert_as(connection: apsw.Connection, table: str, sequence: int, row: Row) -> None:
    values = (
        sequence,
        _text(row.turn),
        row.kind if isinstance(row.kind, int) else 0,
        _text(row.subsystem),
        row.wall_ns if isinstance(row.wall_ns, int) else 0,
        row.body if isinstance(row.body, bytes) else None,
        row.leaf if isinstance(row.leaf, bytes) else b"",
        row.link if isinstance(row.link, bytes) else b"",
    )
    connection.execute(_REPLACE.format(table=table), values)


def _text(value: object) -> str | None:
    return (
        value.decode(errors="replace")
        if isinstance(value, bytes)
        else value
        if isinstance(value, str)
        else None
    )
