"""The step that restores a store, and how its writer is kept away from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from epad.checkpoint.errors import CheckpointError
from epad.response.datastore import DatastoreRestore, restores_begun
from epad.response.step import Lane, Operation, Step, StepFailedError, StepName, StepRecord, StepState
from epad.supervisor.errors import SupervisorError
from epad.supervisor.supervisor import Supervisor
from statemachine.containment import Hold, Rung

STEP = Step(StepName.RESTORE_DATASTORE, "memory", {"writer": "chat"})
OPERATION = Operation(7, "20260101T000000Z-000007", Lane.PHASE, "a test", ())


class Bench:
    """A supervisor and stores that remember what they were asked, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.writer = "chat"
        self.failing = ""
        self.stuck = ""
        hold = Hold(Rung.STOP, "it is restored")
        self.step = DatastoreRestore(cast("Supervisor", self), lambda _: hold, self, Path("/c")).restore

    async def hold(self, name: str, rung: Rung, reason: str, *, paused: bool) -> str:
        self.asked.append(("hold", name, rung, reason))
        if self.stuck:
            raise SupervisorError(self.stuck)
        return ""

    def hold_writer(self, name: str) -> str:
        self.asked.append(("hold writer of", name))
        return self.writer

    async def restore(self, name: str, key: str, checkpoints: Path) -> str:
        self.asked.append(("restore", name, key, checkpoints))
        if self.failing:
            raise CheckpointError(self.failing)
        return "restored 5 rows"


async def test_the_writer_is_stopped_before_its_store_is_touched() -> None:
    """By the hold that everybody asks for, so that no other step can start it; the key is the operation's."""
    bench = Bench()
    assert await bench.step(STEP, OPERATION) == "chat stopped; restored 5 rows"
    assert bench.asked == [
        ("hold writer of", "memory"),
        ("hold", "chat", Rung.STOP, "it is restored"),
        ("restore", "memory", OPERATION.key, Path("/c")),
    ]


async def test_a_store_is_not_touched_under_a_writer_that_cannot_be_stopped() -> None:
    """The message is the supervisor's own."""
    bench = Bench()
    bench.stuck = "SIGKILL does not end pid 8"
    with pytest.raises(StepFailedError, match="SIGKILL does not end pid 8"):
        await bench.step(STEP, OPERATION)
    assert bench.asked[-1][0] == "hold"


async def test_a_restore_that_fails_is_a_failed_step_and_a_store_without_a_writer_needs_no_stop() -> None:
    """What the keeper says goes into the journal."""
    bench = Bench()
    bench.writer, bench.failing = "", "datastore memory: there is no good copy"
    with pytest.raises(StepFailedError, match="there is no good copy"):
        await bench.step(STEP, OPERATION)
    assert [asked[0] for asked in bench.asked] == ["hold writer of", "restore"]


def test_what_a_former_life_has_begun_is_known_before_anything_is_started() -> None:
    """Only what is still to be done, of restores."""
    steps = [
        StepRecord(1, STEP, StepState.PENDING, attempts=1),
        StepRecord(2, Step(StepName.RESTORE_DATASTORE, "notes"), StepState.DONE),
        StepRecord(3, Step(StepName.RESTART, "chat"), StepState.PENDING),
    ]
    operation = Operation(7, "k", Lane.PHASE, "a test", tuple(steps))
    assert list(restores_begun([operation])) == ["memory"]
