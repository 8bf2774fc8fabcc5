"""Read the ledger back in a thread of its own, for the integrity probe, and repair it for a recovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from epad.configuration.schema import LedgerConfig
from epad.ledger.chain import Fault, FaultKind
from epad.ledger.errors import LedgerError
from epad.ledger.full_verification import verify_everything
from epad.ledger.metrics import ENTRIES, INTACT, VERIFIED
from epad.ledger.repair import RepairOutcome
from epad.ledger.store import Ledger
from epad.ledger.verify import Report, Scrubber, Verdict
from epad.metrics.registry import Metrics
from epad.storage.open_file import OpenFiles
from epad.storage.page_checksums import PageCheck
from probes.ledger_integrity import SMALL_TAIL_RECORDS, LedgerCheck
from probes.probe import ProbeError
from statemachine.clock import Clock

T = TypeVar("T")

# Rounds of verify and repair, each good for 100 faults; more damage than that is a case for a checkpoint.
MAX_REPAIRS = 100
PAGES_SECONDS = 60.0  # between two readings of all of state.db: 2 ms a megabyte
MENDED_BESIDE = frozenset(
    {FaultKind.INDEX, FaultKind.HEAD, FaultKind.SEGMENT, FaultKind.PAYLOAD, FaultKind.CATALOGUE}
)
"""What a repair puts right without touching a record, and without counting one."""


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """Holds the ledger's known health; `unchecked` records have not been read back since the start."""

    records: int
    verdict: str
    detail: str
    unchecked: int = 0


class Integrity:
    """Runs the scrubber, remembers its verdict, and repairs the faults it found.

    It is a fault, too, if the ledger's file, or one of those `beside` it, is no longer found by its name, or if a page
    of those has changed.
    """

    def __init__(
        self,
        path: Path,
        config: LedgerConfig,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        beside: Sequence[Path] = (),
    ) -> None:
        self._path = path
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._scrubber = Scrubber(path, config, clock, ledger.places.anchor if ledger.places else None)
        self._scrubber.remember(ledger.faults)
        self._files = OpenFiles.of_databases(path, *beside)
        self._pages = [PageCheck(each, PAGES_SECONDS) for each in beside]
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scrub")
        self._last: Report | None = None

    @property
    def faults(self) -> int:
        """Return how many faults are known and not repaired."""
        return len(self._last.faults) if self._last else 0

    async def check(self) -> LedgerCheck:
        """Check the tail and the next slice. Raises ProbeError when the file could not be read."""
        try:
            report = await self._run(self._scrubbed)
        except LedgerError as error:
            raise ProbeError(str(error)) from error
        self._note(report)
        faults = [(fault.seq, str(fault.kind), fault.detail) for fault in report.faults]
        return LedgerCheck(
            records=self._ledger.records,
            checked=report.checked,
            faults=faults,
            verdict=report.words(),
            unanchored=report.unanchored,
            trouble=self._ledger.trouble,
            shut=self._ledger.missing.sentence if self._ledger.missing else "",
        )

    async def verify_all(self, *, full: bool = False) -> Report:
        """Check every record and every segment; for the nightly job. Raises LedgerError.

        Its findings stay: the next tick does not know better.
        """

        def work() -> Report:
            lost = self._lost_files()
            if lost:  # what stands there now is not what is written to
                return self._unseen(lost)
            report = verify_everything(self._path, self._ledger.places, full=full)
            self._scrubber.remember(report.faults)
            return report

        return await self._run(work)

    async def repair(self, copies: Sequence[Path]) -> RepairOutcome:
        """Repair the damage from these copies, and check afresh. Raises LedgerError.

        A report lists at most 100 faults, so it is done again until nothing more can be put right.
        """
        restored: list[int] = []
        lost: list[int] = []
        tried: set[FaultKind] = set()
        for _ in range(MAX_REPAIRS):
            report = await self.verify_all()
            if report.verdict.is_sound:
                break
            outcome = await self._ledger.repair(report, copies)
            beside = {fault.kind for fault in report.faults} & MENDED_BESIDE
            if not outcome.restored and not outcome.lost and not beside - tried:
                break
            tried |= beside
            restored += outcome.restored
            lost += outcome.lost
        await self._run(self._scrubber.forget)
        if not report.verdict.is_sound:  # a look at the tail alone might not find it again
            await self.verify_all()
        self._note(await self._run(self._scrubbed))
        return RepairOutcome(tuple(restored), tuple(lost))

    def status(self) -> LedgerStatus:
        """Return the verdict as of the last check."""
        if self._last is None:
            return LedgerStatus(self._ledger.records, "unknown", "not checked yet")
        details = [f"record {f.seq}: {f.kind}" for f in self._last.faults[:3]]
        if self._ledger.missing:
            details.append(self._ledger.missing.sentence)
        if self._ledger.trouble:
            details.append(self._ledger.trouble)
        verdict = self._last.verdict
        if verdict.is_sound and self._last.unanchored <= SMALL_TAIL_RECORDS:
            verdict = Verdict.OK  # records of the last second: there always are some while turns come in
        unchecked = self._scrubber.unchecked
        if unchecked:
            details.append(f"{unchecked} not read back yet since the start")
        return LedgerStatus(self._ledger.records, verdict, "; ".join(details), unchecked)

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def _scrubbed(self) -> Report:
        lost = self._lost_files()
        return self._unseen(lost) if lost else self._scrubber.check()

    def _lost_files(self) -> tuple[Fault, ...]:
        losses = list(self._files.losses())
        if not losses:  # another file of this name must not be opened beside our log of it
            losses = [pages.damage(self._clock.monotonic()) for pages in self._pages]
        return tuple(Fault(0, FaultKind.FILE, loss) for loss in losses if loss)

    def _unseen(self, faults: tuple[Fault, ...]) -> Report:
        """Return a report of no record: there is nothing to read, or it is not ours."""
        return Report(Verdict.CORRUPT, 0, 1, self._ledger.records, faults)

    def _note(self, report: Report) -> None:
        self._last = report
        self._metrics.of(ENTRIES).set(self._ledger.records)
        self._metrics.of(INTACT).set(report.verdict.is_sound)
        self._metrics.of(VERIFIED).set(self._clock.utc().timestamp())

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
