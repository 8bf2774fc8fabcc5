"""Reading the ledger back: all of it on demand, its tail and a rolling slice of it on every tick.

Each check opens the file anew, since the page cache of a connection that stays open hides damage on the disk;
and only through SQLite, since open() and close() of the file would drop the writer's locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import apsw

from epad.config import LedgerConfig
from epad.ledger.chain import MAX_FAULTS, Fault, FaultKind, Walker, walker_at
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.rows import CHUNK_ROWS, DAMAGE, known_last, open_reader, read_rows
from statemachine.clock import Clock

__all__ = ["Fault", "FaultKind", "Report", "Scrubber", "Verdict", "report_lines", "verify"]

MAX_SLICE_SECONDS = 10.0  # a scrub that slept, with the machine or with the daemon, does not catch up at once

Progress = Callable[[int, int], None]
"""Called now and then with how many records were checked, and of how many."""


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found among records `first_seq` to `last_seq`.

    `tombstones` are records that a repair gave up as lost; `unlisted` are faults beyond those named.
    """

    verdict: Verdict
    checked: int
    first_seq: int
    last_seq: int
    faults: tuple[Fault, ...] = ()
    tombstones: int = 0
    unlisted: int = 0


def verify(
    path: Path, *, first: int = 1, last: int | None = None, progress: Progress | None = None
) -> Report:
    """Check records `first` to `last`, or to the newest. Raises LedgerUnavailableError."""
    connection = open_reader(path)
    try:
        return _report(_walk(connection, first, last, progress), first)
    except DAMAGE as error:
        return Report(Verdict.CORRUPT, 0, first, last or 0, (_unreadable_file(first, error),))
    except apsw.Error as error:
        raise LedgerUnavailableError(f"{path}: {error}") from error
    finally:
        connection.close()


def report_lines(report: Report) -> list[str]:
    """A report for people, with what to do next."""
    span = f"records {report.first_seq} to {report.last_seq}" if report.checked else "no records"
    lines = [f"{report.verdict.upper()}: {report.checked} checked, {span}"]
    if report.tombstones:
        lines.append(f"  {report.tombstones} lost to former damage, as repair records say")
    for fault in report.faults:
        where = f"{fault.seq}" if fault.last_seq == fault.seq else f"{fault.seq} to {fault.last_seq}"
        lines.append(f"  record {where}: {fault.kind}: {fault.detail}")
    if report.unlisted:
        lines.append(f"  and {report.unlisted} more")
    if report.faults:
        lines.append("  Nothing was changed. The daemon repairs from verified checkpoints in PRESERVATION;")
        lines.append("  keep the file and its checkpoints until it has.")
    return lines


class Scrubber:
    """Checks the tail and the next slice of the rest at each call; a fault stays until it is forgotten.

    For one thread. Raises LedgerUnavailableError when it could not read at all, which is not a fault.
    """

    def __init__(self, path: Path, config: LedgerConfig, clock: Clock) -> None:
        self._path = path
        self._config = config
        self._clock = clock
        self._checked_at: float | None = None
        self._position = 1
        self._newest = 0
        self._faults: dict[tuple[int, FaultKind], Fault] = {}
        self._suspects: tuple[Fault, ...] = ()

    def check(self) -> Report:
        """Look once; the faults are those of this and all former calls."""
        connection = open_reader(self._path)
        try:
            report = self._check(connection)
        except DAMAGE as error:
            self._remember((_unreadable_file(1, error),))
            report = Report(Verdict.CORRUPT, 0, 1, self._newest)
        except apsw.Error as error:
            raise LedgerUnavailableError(f"{self._path}: {error}") from error
        finally:
            connection.close()
        faults = tuple(sorted(self._faults.values()))
        return replace(report, verdict=Verdict.CORRUPT if faults else Verdict.OK, faults=faults)

    def forget(self) -> None:
        """Drop what was found, after a repair. The next check looks there first."""
        self._suspects = tuple(self._faults.values())
        self._faults.clear()

    def _check(self, connection: apsw.Connection) -> Report:
        walks = [_walk(connection, fault.seq, fault.last_seq) for fault in self._suspects]
        self._suspects = ()
        known = known_last(connection)
        first = max(1, (self._newest if known is None else known) - self._config.tail_check_records + 1)
        tail = _walk(connection, first, None)
        newest = tail.expected - 1
        if newest < self._newest and not tail.faults:
            detail = f"acknowledged records are gone; {self._newest} had been seen"
            self._remember((Fault(newest + 1, FaultKind.GAP, detail, self._newest),))
        self._newest = max(newest, self._newest)
        walks += [tail, self._slice(connection, newest)]
        for walk in walks:
            self._remember(walk.faults)
        return Report(Verdict.OK, sum(walk.checked for walk in walks), first, newest)

    def _slice(self, connection: apsw.Connection, newest: int) -> Walker:
        """The rolling part: as many records as the time since the last call allows."""
        now = self._clock.monotonic()
        elapsed = 0.0 if self._checked_at is None else min(now - self._checked_at, MAX_SLICE_SECONDS)
        self._checked_at = now
        first = self._position if self._position <= newest else 1
        last = min(newest, first + int(elapsed * self._config.scrub_records_per_second) - 1)
        self._position = last + 1
        return _walk(connection, first, last)

    def _remember(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            if len(self._faults) < MAX_FAULTS:
                self._faults.setdefault((fault.seq, fault.kind), fault)


def _walk(
    connection: apsw.Connection, first: int, last: int | None, progress: Progress | None = None
) -> Walker:
    """Check records `first` to `last`, or to where the rows end.

    Where they end is not asked beforehand: the newest row's own number may be what is damaged.
    """
    total = last or (known_last(connection) or first if progress is not None else first)
    walker = walker_at(connection, first)
    if last is not None and first > last:
        return walker
    chunk_rows = CHUNK_ROWS if last is None else min(CHUNK_ROWS, last - first + 1)
    for item in read_rows(connection, first, chunk_rows):
        walker.step(item)
        if progress is not None and walker.checked % CHUNK_ROWS == 0:
            progress(walker.checked, max(walker.checked, total - first + 1))
        if last is not None and walker.expected > last:
            break
    walker.finish(last or 0)
    if progress is not None:
        progress(walker.checked, walker.checked)
    return walker


def _report(walker: Walker, first: int) -> Report:
    return Report(
        Verdict.CORRUPT if walker.faults else Verdict.OK,
        walker.checked,
        first,
        walker.expected - 1,
        tuple(walker.faults),
        walker.tombstones,
        walker.unlisted,
    )


def _unreadable_file(first: int, error: Exception) -> Fault:
    return Fault(first, FaultKind.UNREADABLE, f"SQLite cannot read the file: {error}")
