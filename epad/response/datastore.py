"""The step that puts the last sound copy of a damaged store in its place, with who writes it stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from epad.control_loop.step import Operation, Step, StepFailedError, StepName, StepState
from epad.copying.errors import CheckpointError
from epad.datastore.datastores import Datastores, RestoreOrder
from epad.response.quarantine import HoldOf
from epad.supervisor.errors import SupervisorError
from epad.supervisor.supervisor import Supervisor


class DatastoreRestore:
    """Does `restore_datastore` steps. Who writes the store is started again by the `restart` step that follows."""

    def __init__(
        self, supervisor: Supervisor, hold_of: HoldOf, stores: Datastores, checkpoints: Path
    ) -> None:
        self._supervisor = supervisor
        self._hold_of = hold_of
        self._stores = stores
        self._checkpoints = checkpoints

    async def restore(self, step: Step, operation: Operation) -> str:
        """Do the step. Its operation's key makes a second time of it, after a kill, the same one."""
        was_begun = any(record.step == step and record.attempts for record in operation.steps)
        order = RestoreOrder(operation.key, self._checkpoints, self._stop, was_begun)
        try:
            return await self._stores.restore(step.target, order)
        except (SupervisorError, CheckpointError) as error:
            raise StepFailedError(str(error)) from error

    async def _stop(self, writer: str) -> None:
        """Bring it under the hold that everybody asks for while its store is restored: no other step opens to it."""
        held = self._hold_of(writer)
        await self._supervisor.hold(writer, held.rung, held.reason, paused=held.paused)


def restores_begun(operations: Iterable[Operation]) -> Iterator[str]:
    """The stores whose restore a former life has left undone: who writes them must not start before it is done."""
    for operation in operations:
        for record in operation.steps:
            if record.step.name is StepName.RESTORE_DATASTORE and record.state is StepState.PENDING:
                yield record.step.target
