"""The ledger read back, in a thread of its own: what the integrity probe asks and what recovery repairs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from epad.config import LedgerConfig
from epad.ledger.errors import LedgerError
from epad.ledger.repair import RepairOutcome
from epad.ledger.store import Ledger
from epad.ledger.verify import Report, Scrubber, Verdict, verify
from epad.metrics import Metrics
from epad.status import Ledger as LedgerStatus
from probes.ledger_integrity import LedgerCheck
from probes.probe import ProbeError
from statemachine.clock import Clock

T = TypeVar("T")

# Rounds of verify and repair, each good for 100 faults; more damage than that is a case for a checkpoint.
MAX_REPAIRS = 100


class Integrity:
    """Runs the scrubber, remembers its verdict, and repairs what it found."""

    def __init__(
        self, path: Path, config: LedgerConfig, ledger: Ledger, clock: Clock, metrics: Metrics
    ) -> None:
        self._path = path
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._scrubber = Scrubber(path, config, clock)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scrub")
        self._last: Report | None = None

    @property
    def faults(self) -> int:
        """How many faults are known and not repaired."""
        return len(self._last.faults) if self._last else 0

    async def check(self) -> LedgerCheck:
        """Check the tail and the next slice. Raises ProbeError when the file could not be read."""
        try:
            report = await self._run(self._scrubber.check)
        except LedgerError as error:
            raise ProbeError(str(error)) from error
        self._note(report)
        faults = [(fault.seq, str(fault.kind), fault.detail) for fault in report.faults]
        return LedgerCheck(records=self._ledger.records, checked=report.checked, faults=faults)

    async def verify_all(self) -> Report:
        """Check every record; for the nightly job. Raises LedgerError."""
        return await self._run(lambda: verify(self._path))

    async def repair(self, copies: Sequence[Path]) -> RepairOutcome:
        """Repair what is damaged from these copies, and look afresh. Raises LedgerError.

        A report lists at most 100 faults, so it is done again until nothing more can be put right.
        """
        restored: list[int] = []
        lost: list[int] = []
        for _ in range(MAX_REPAIRS):
            report = await self.verify_all()
            if report.verdict is Verdict.OK:
                break
            outcome = await self._ledger.repair(report, copies)
            if not outcome.restored and not outcome.lost:
                break
            restored += outcome.restored
            lost += outcome.lost
        await self._run(self._scrubber.forget)
        self._note(await self._run(self._scrubber.check))
        return RepairOutcome(tuple(restored), tuple(lost))

    def status(self) -> LedgerStatus:
        """The verdict as of the last check."""
        if self._last is None:
            return LedgerStatus(self._ledger.records, "unknown", "not checked yet")
        detail = "; ".join(f"record {f.seq}: {f.kind}" for f in self._last.faults[:3])
        return LedgerStatus(self._ledger.records, self._last.verdict, detail)

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def _note(self, report: Report) -> None:
        self._last = report
        self._metrics.ledger_entries.set(self._ledger.records)
        self._metrics.ledger_intact.set(report.verdict is Verdict.OK)
        self._metrics.ledger_verified.set(self._clock.utc().timestamp())

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
