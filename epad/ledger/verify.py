"""Reading the ledger back: all of it on demand, its tail and a rolling slice of it on every tick.

Each check opens the file anew, since the page cache of a connection that stays open hides damage on the disk;
and only through SQLite, since open() and close() of the file would drop the writer's locks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import apsw

from epad.configuration.schema import LedgerConfig
from epad.ledger.anchor import LOG_TAIL_BYTES, Heads
from epad.ledger.catalogue import catalogue_faults
from epad.ledger.chain import BESIDE, MAX_FAULTS, Fault, FaultKind, Walker, walker_at
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.head_check import HeadTree, heads_at, index_faults, judge
from epad.ledger.payload import payload_faults
from epad.ledger.rows import (
    CHUNK_ROWS,
    DAMAGE,
    Row,
    Unreadable,
    Values,
    known_last,
    open_reader,
    read_chunks,
)
from statemachine.clock import Clock

__all__ = ["Fault", "FaultKind", "Report", "Scrubber", "Verdict", "report_lines", "verify"]

PAUSE_SECONDS = 0.000_5  # between 250 records of a slice: another thread has the GIL meanwhile
MAX_SLICE_SECONDS = 10.0  # a scrub that slept, with the machine or with the daemon, does not catch up at once

Progress = Callable[[int, int], None]
"""Called now and then with how many records were checked, and of how many."""


class Verdict(StrEnum):
    """Names the result of a check. All but the first two stay until they are repaired."""

    OK = "ok"
    UNANCHORED_TAIL = "unanchored_tail"
    TRUNCATED = "truncated"
    FORKED = "forked"
    CORRUPT = "corrupt"

    @property
    def is_sound(self) -> bool:
        """Tell if no written record is known to be wrong."""
        return self in {Verdict.OK, Verdict.UNANCHORED_TAIL}


@dataclass(frozen=True, slots=True)
class Report:
    """Holds the findings of a check among records `first_seq` to `last_seq`.

    `tombstones` are records that a repair gave up as lost, `trimmed` those whose bodies are no longer kept;
    `unlisted` are faults beyond those named; `unanchored` are records after the newest head, for whose number nothing
    vouches yet.
    """

    verdict: Verdict
    checked: int
    first_seq: int
    last_seq: int
    faults: tuple[Fault, ...] = ()
    tombstones: int = 0
    trimmed: int = 0
    unlisted: int = 0
    unanchored: int = 0

    def words(self) -> str:
        """The verdict with its numbers, as people and tests read it: `TRUNCATED(3)`, `CORRUPT(17, body)`."""
        return verdict_words(self.verdict, self.faults, self.unanchored)


def verdict_of(faults: Iterable[Fault], unanchored: int) -> Verdict:
    """Return the gravest thing that is known."""
    kinds = {fault.kind for fault in faults}
    if FaultKind.FORKED in kinds:
        return Verdict.FORKED
    if FaultKind.TRUNCATED in kinds:
        return Verdict.TRUNCATED
    if kinds:
        return Verdict.CORRUPT
    return Verdict.UNANCHORED_TAIL if unanchored else Verdict.OK


def verdict_words(verdict: Verdict, faults: Sequence[Fault], unanchored: int) -> str:
    """Return a verdict with the number or record that it is about."""
    fault = next((one for one in sorted(faults) if str(one.kind) == str(verdict)), min(faults, default=None))
    match verdict:
        case Verdict.UNANCHORED_TAIL:
            return f"UNANCHORED_TAIL({unanchored})"
        case Verdict.TRUNCATED if fault is not None:
            return f"TRUNCATED({fault.last_seq - fault.seq + 1})"
        case Verdict.FORKED if fault is not None:
            return f"FORKED({fault.seq})"
        case Verdict.CORRUPT if fault is not None:
            return f"CORRUPT({fault.seq}, {fault.kind})"
        case _:
            return verdict.upper()


def verify(
    path: Path,
    *,
    first: int = 1,
    last: int | None = None,
    progress: Progress | None = None,
    anchor: Path | None = None,
    full: bool = False,
) -> Report:
    """Check records `first` to `last`, or to the newest, against themselves and against signed heads.

    `full` also derives the tree's roots anew, compares every head ever logged, and checks indexes and kept
    payloads to the last byte. Raises LedgerUnavailableError.
    """
    heads = heads_at(anchor, None if full else LOG_TAIL_BYTES)  # before the rows: a head never runs ahead
    connection = open_reader(path)
    try:
        tree = HeadTree(heads) if full and first == 1 and last is None else None
        walker = _walk(connection, first, last, progress, tree)
        beside: list[Fault] = []
        unanchored = 0
        if last is None:
            judged = judge(connection, heads, walker.expected - 1)
            unanchored = judged.unanchored
            beside = list(judged.faults)
        if last is None and first == 1 and not walker.faults:
            beside += catalogue_faults(connection, full=full)
            beside += index_faults(connection, checked=walker.checked, last=walker.expected - 1, full=full)
        if tree is not None and not walker.faults:
            beside += tree.faults(connection)
        if full:
            beside += payload_faults(connection)
        return _report(walker, first, beside, unanchored)
    except DAMAGE as error:
        return Report(Verdict.CORRUPT, 0, first, last or 0, (_unreadable_file(first, error),))
    except apsw.Error as error:
        raise LedgerUnavailableError(f"{path}: {error}") from error
    finally:
        connection.close()


def report_lines(report: Report) -> list[str]:
    """Format a report for people, with the next step."""
    span = f"records {report.first_seq} to {report.last_seq}" if report.checked else "no records"
    lines = [f"{report.words()}: {report.checked} checked, {span}"]
    if report.unanchored:
        lines.append(f"  {report.unanchored} at the end are after the newest signed head")
    if report.trimmed:
        lines.append(f"  {report.trimmed} no longer kept beyond their hashes, as [ledger] keep_records says")
    if report.tombstones:
        lines.append(f"  {report.tombstones} lost to former damage, as repair records say")
    for fault in report.faults:
        where = f"{fault.seq}" if fault.last_seq == fault.seq else f"{fault.seq} to {fault.last_seq}"
        lines.append(f"  record {where}: {fault.kind}: {fault.detail}")
    if report.unlisted:
        lines.append(f"  and {report.unlisted} more")
    if report.faults:
        lines.append("  Nothing was changed. The daemon repairs from segments and checkpoints in RECOVERY;")
        lines.append(
            "  keep the file and its copies until it has. A fork is for a person: see docs/ledger.md."
        )
    return lines


class Scrubber:
    """Checks the tail and the next slice of the rest at each call; a fault stays until it is forgotten.

    For one thread. Raises LedgerUnavailableError when it could not read at all, which is not a fault.
    """

    def __init__(self, path: Path, config: LedgerConfig, clock: Clock, anchor: Path | None = None) -> None:
        self._path = path
        self._anchor = anchor
        self._config = config
        self._clock = clock
        self._checked_at: float | None = None
        self._position = 1
        self._is_round = False
        self._rounds = 0
        self._tail_first = 1
        self._newest = 0
        self._faults: dict[tuple[int, FaultKind], Fault] = {}
        self._suspects: tuple[Fault, ...] = ()

    @property
    def unchecked(self) -> int:
        """Return how many records have not been read since this began; the newest are read at each look."""
        return 0 if self._rounds else max(0, self._tail_first - self._position)

    def check(self) -> Report:
        """Look once; the faults are those of this and all former calls."""
        heads = heads_at(self._anchor, 0)
        if heads.newest is None:
            heads = heads_at(self._anchor, LOG_TAIL_BYTES)
        connection = open_reader(self._path)
        try:
            report = self._check(connection, heads)
        except DAMAGE as error:
            self._remember((_unreadable_file(1, error),))
            report = Report(Verdict.CORRUPT, 0, 1, self._newest)
        except apsw.Error as error:
            raise LedgerUnavailableError(f"{self._path}: {error}") from error
        finally:
            connection.close()
        faults = tuple(sorted(self._faults.values()))
        return replace(report, verdict=verdict_of(faults, report.unanchored), faults=faults)

    def remember(self, faults: Iterable[Fault]) -> None:
        """Take over another check's findings; they stay like this one's own."""
        self._remember(faults)

    def forget(self) -> None:
        """Drop the findings, after a repair. The next check looks there first."""
        self._suspects = tuple(self._faults.values())
        self._faults.clear()

    def _check(self, connection: apsw.Connection, heads: Heads) -> Report:
        walks = [
            _walk(connection, fault.seq, fault.last_seq)
            for fault in self._suspects
            if fault.kind not in BESIDE and fault.seq
        ]
        self._suspects = ()
        known = known_last(connection)
        first = max(1, (self._newest if known is None else known) - self._config.tail_check_records + 1)
        self._tail_first = first
        tail = _walk(connection, first, None)
        newest = tail.expected - 1
        if newest < self._newest and not tail.faults:
            detail = f"acknowledged records are gone; {self._newest} had been seen"
            self._remember((Fault(newest + 1, FaultKind.GAP, detail, self._newest),))
        self._newest = max(newest, self._newest)
        walks += [tail, self._slice(connection, newest)]
        for walk in walks:
            self._remember(walk.faults)
        judged = judge(connection, heads, newest)
        self._remember(judged.faults)
        self._remember(catalogue_faults(connection))
        if self._is_round and not self._faults:
            self._remember(index_faults(connection))
        checked = sum(walk.checked for walk in walks)
        return Report(Verdict.OK, checked, first, newest, unanchored=judged.unanchored)

    def _slice(self, connection: apsw.Connection, newest: int) -> Walker:
        """Return the rolling part: as many records as the time since the last call allows."""
        now = self._clock.monotonic()
        elapsed = 0.0 if self._checked_at is None else min(now - self._checked_at, MAX_SLICE_SECONDS)
        self._checked_at = now
        first = self._position if self._position <= newest else 1
        config = self._config
        rate = config.scrub_records_per_second if self._rounds else config.first_scrub_records_per_second
        last = min(newest, first + int(elapsed * rate) - 1)
        self._is_round = last >= newest > self._position - 1
        self._rounds += self._is_round
        self._position = last + 1
        return _walk(connection, first, last, pause=lambda: time.sleep(PAUSE_SECONDS))

    def _remember(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            if len(self._faults) < MAX_FAULTS:
                self._faults.setdefault((fault.seq, fault.kind), fault)


def _walk(
    connection: apsw.Connection,
    first: int,
    last: int | None,
    progress: Progress | None = None,
    tree: HeadTree | None = None,
    pause: Callable[[], None] = lambda: None,
) -> Walker:
    """Check records `first` to `last`, or to where the rows end.

    The end is not asked beforehand: the newest row's own number may be damaged.
    """
    total = last or (known_last(connection) or first if progress is not None else first)
    walker = walker_at(connection, first)
    if last is not None and first > last:
        return walker
    chunk_rows = CHUNK_ROWS if last is None else min(CHUNK_ROWS, last - first + 1)
    for item in read_chunks(connection, first, chunk_rows):
        for row in _not_yet_checked(walker, item, last, tree):
            if tree is not None:
                tree.row(row, walker.expected)
            walker.step(row)
            if last is not None and walker.expected > last:
                break
        if progress is not None:
            progress(walker.checked, max(walker.checked, total - first + 1))
        pause()
        if last is not None and walker.expected > last:
            break
    walker.finish(last or 0)
    if progress is not None:
        progress(walker.checked, walker.checked)
    return walker


def _not_yet_checked(
    walker: Walker, item: list[Values] | Row | Unreadable, last: int | None, tree: HeadTree | None
) -> list[Row | Unreadable]:
    """Return the items that must be looked at one by one: none of a list whose rows are all sound."""
    if not isinstance(item, list):
        return [item]
    if last is not None and item[-1][0] > last:
        item = [values for values in item if values[0] <= last] or item
    if not walker.step_all(item):
        return [Row(*values) for values in item]
    if tree is not None:
        tree.leaves(values[6] for values in item)
    return []


def _report(walker: Walker, first: int, beside: Sequence[Fault], unanchored: int) -> Report:
    faults = (*walker.faults, *beside)
    return Report(
        verdict_of(faults, unanchored),
        walker.checked,
        first,
        walker.expected - 1,
        faults,
        walker.tombstones,
        walker.trimmed,
        walker.unlisted,
        unanchored,
    )


def _unreadable_file(first: int, error: Exception) -> Fault:
    return Fault(first, FaultKind.UNREADABLE, f"SQLite cannot read the file: {error}")
