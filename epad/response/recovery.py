"""Carry out the steps of a recovery: restart failed subsystems, rebuild damaged data."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from epad.checkpoint.retention import list_bundles
from epad.control_loop.step import Lane, Operation, Step, StepFailedError
from epad.copying.errors import CheckpointError
from epad.gateway.access import Access
from epad.ledger.errors import LedgerError
from epad.ledger.repair import RepairOutcome
from epad.response.quarantine import CellStarts, HoldOf, NoCellDoors, open_door, process_in_words
from epad.supervisor.errors import SupervisorError
from epad.supervisor.supervisor import Supervisor
from statemachine.containment import Rung

RepairLedger = Callable[[list[Path]], Awaitable[RepairOutcome]]
"""Repairs the ledger from these copies of it, and lets its probe look afresh. Raises LedgerError."""


class Recovery:
    """Does the recovery steps. The probes, not these steps, decide whether it worked."""

    def __init__(
        self,
        access: Access,
        supervisor: Supervisor,
        hold_of: HoldOf,
        repair_ledger: RepairLedger,
        checkpoints: Path,
        cells: CellStarts | None = None,
    ) -> None:
        self._access = access
        self._supervisor = supervisor
        self._hold_of = hold_of
        self._repair_ledger = repair_ledger
        self._checkpoints = checkpoints
        self._cells = cells or NoCellDoors()

    async def restart(self, step: Step, operation: Operation) -> str:
        """Do a `restart` step: stop the tree, start it fresh, open the gateway to it.

        A person's order forgives every failure before it, and starts what is confined as it is configured. A recovery's
        restart is a trial, under the policy of the last good run.

        A subsystem that has come under a hold since this step was decided is left alone: the hold is newer.
        """
        name = step.target
        if (held := self._hold_of(name)).rung is not Rung.OPEN:
            return f"not restarted: {held.reason}"
        is_trial = operation.lane is Lane.PHASE
        if is_trial:
            suspect = self._cells.fall_back(name)
        else:
            suspect = ""
            self._cells.take_back(name)
        try:
            if any(s.pid for s in self._supervisor.snapshots() if s.name == name):
                await self._supervisor.hold(name, Rung.OPEN, "")  # what is stopped would be started twice
            await self._supervisor.restart(name, trial=is_trial)
            held = self._hold_of(name)
            await self._supervisor.hold(name, held.rung, held.reason, paused=held.paused)
        except SupervisorError as error:
            raise StepFailedError(str(error)) from error
        door = await open_door(self._access, name, self._hold_of(name), self._cells)
        said = ("restarted", suspect, process_in_words(self._supervisor, name), door)
        return "; ".join(filter(None, said))

    async def repair_ledger(self, _: Step, __: Operation) -> str:
        """Do a `repair_ledger` step: damaged rows from copies the chain vouches for, verified ones first."""
        try:
            bundles = (await asyncio.to_thread(list_bundles, self._checkpoints)).bundles
            copies = [b.path / "ledger.db" for b in sorted(bundles, key=lambda b: not b.verified)]
            outcome = await self._repair_ledger([copy for copy in copies if copy.exists()])
        except (LedgerError, CheckpointError) as error:
            raise StepFailedError(str(error)) from error
        return f"restored records {_numbers(outcome.restored)}; lost for good {_numbers(outcome.lost)}"


def _numbers(sequence_numbers: tuple[int, ...]) -> str:
    return ", ".join(str(number) for number in sequence_numbers) or "none"
