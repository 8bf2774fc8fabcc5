"""The step that restores a store, and how its writer is kept away from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from epad.control_loop.step import Lane, Operation, Step, StepFailedError, StepName, StepRecord, StepState
from epad.copying.errors import CheckpointError
from epad.datastore.datastores import Datastores, RestoreOrder
from epad.response.datastore import DatastoreRestore, restores_begun
from epad.supervisor.errors import SupervisorError
from epad.supervisor.supervisor import Supervisor
from statemachine.containment import Hold, Rung

STEP = Step(StepName.RESTORE_DATASTORE, "memory", {"writer": "chat"})
OPERATION = Operation(7, "20260101T000000Z-000007", Lane.PHASE, "a test", ())


class Bench:
    """A supervisor and stores that remember what they were asked, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failing = ""
        self.stuck = ""
        stores, hold = cast("Datastores", self), Hold(Rung.STOP, "it is restored")
        self.step = DatastoreRestore(cast("Supervisor", self), lambda _: hold, stores, Path("/c")).restore

    async def hold(self, name: str, rung: Rung, reason: str, *, paused: bool) -> str:
        self.asked.append(("hold", name, rung, reason))
        if self.stuck:
            raise SupervisorError(self.stuck)
        return ""

    async def restore(self, name: str, order: RestoreOrder) -> str:
        await order.stop("chat")
        self.asked.append(("restore", name, order.key, order.checkpoints, order.was_begun))
        if self.failing:
            raise CheckpointError(self.failing)
        return "restored 5 rows"


@pytest.mark.parametrize("attempts", [0, 1])
async def test_the_writer_is_stopped_before_its_store_is_touched(attempts: int) -> None:
    """By the hold that everybody asks for; the key is the operation's, and what a former life has begun is told."""
    bench = Bench()
    operation = replace(OPERATION, steps=(StepRecord(1, STEP, StepState.PENDING, attempts=attempts),))
    assert await bench.step(STEP, operation) == "restored 5 rows"
    assert bench.asked == [
        ("hold", "chat", Rung.STOP, "it is restored"),
        ("restore", "memory", OPERATION.key, Path("/c"), attempts > 0),
    ]


async def test_a_store_is_not_touched_under_a_writer_that_cannot_be_stopped() -> None:
    """The message is the supervisor's own."""
    bench = Bench()
    bench.stuck = "SIGKILL does not end pid 8"
    with pytest.raises(StepFailedError, match="SIGKILL does not end pid 8"):
        await bench.step(STEP, OPERATION)
    assert bench.asked[-1][0] == "hold"


async def test_a_restore_that_fails_is_a_failed_step() -> None:
    """What the keeper says goes into the journal."""
    bench = Bench()
    bench.failing = "datastore memory: there is no good copy"
    with pytest.raises(StepFailedError, match="there is no good copy"):
        await bench.step(STEP, OPERATION)


def test_what_a_former_life_has_begun_is_known_before_anything_is_started() -> None:
    """Only what is still to be done, of restores."""
    steps = [
        StepRecord(1, STEP, StepState.PENDING, attempts=1),
        StepRecord(2, Step(StepName.RESTORE_DATASTORE, "notes"), StepState.DONE),
        StepRecord(3, Step(StepName.RESTART, "chat"), StepState.PENDING),
    ]
    operation = Operation(7, "k", Lane.PHASE, "a test", tuple(steps))
    assert list(restores_begun([operation])) == ["memory"]
