"""The step that puts the last sound copy of a damaged store in its place, with who writes it stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from epad.checkpoint.errors import CheckpointError
from epad.response.quarantine import HoldOf
from epad.response.step import Operation, Step, StepFailedError, StepName, StepState
from epad.supervisor.errors import SupervisorError
from epad.supervisor.supervisor import Supervisor


class Stores(Protocol):
    """What the step asks of the keeper of the stores."""

    def hold_writer(self, name: str) -> str:
        """Let who writes a store be stopped until it is sound, and return its name; empty if there is none."""
        ...

    async def restore(self, name: str, key: str, checkpoints: Path) -> str:
        """Put a sound copy in a store's place and say which. Raises CheckpointError."""
        ...


class DatastoreRestore:
    """Does `restore_datastore` steps. Its writer is started again by the `restart` step that follows."""

    def __init__(self, supervisor: Supervisor, hold_of: HoldOf, stores: Stores, checkpoints: Path) -> None:
        self._supervisor = supervisor
        self._hold_of = hold_of
        self._stores = stores
        self._checkpoints = checkpoints

    async def restore(self, step: Step, operation: Operation) -> str:
        """Do the step. Its own operation's key makes a second time of it, after a kill, the same one."""
        try:
            stopped = ""
            if writer := self._stores.hold_writer(step.target):
                held = self._hold_of(writer)
                await self._supervisor.hold(writer, held.rung, held.reason, paused=held.paused)
                stopped = f"{writer} stopped; "
            return stopped + await self._stores.restore(step.target, operation.key, self._checkpoints)
        except (SupervisorError, CheckpointError) as error:
            raise StepFailedError(str(error)) from error


def restores_begun(operations: Iterable[Operation]) -> Iterator[str]:
    """The stores whose restore a former life has left undone: who writes them must not start before it is done."""
    for operation in operations:
        for record in operation.steps:
            if record.step.name is StepName.RESTORE_DATASTORE and record.state is StepState.PENDING:
                yield record.step.target
