"""The words of steps: they stand in every journal ever written, so they may not change."""

from __future__ import annotations

import json

from epad.control_loop.step import Lane, Operation, OperationEnded, Step, StepName, StepRecord, StepState


def test_the_words_of_the_journal_do_not_change() -> None:
    """A former version's journal must load: a word may be added, none renamed."""
    assert {name.value for name in StepName} >= {"hold", "checkpoint", "restart", "repair_ledger", "lifeboat"}
    assert {lane.value for lane in Lane} >= {"containment", "phase", "maintenance"}
    assert {state.value for state in StepState} >= {"pending", "done", "failed", "aborted"}


def test_a_step_is_json_and_equal_by_value() -> None:
    """What is read back from the journal is the step that was written."""
    step = Step(StepName.HOLD, "chat", {"rung": "freeze", "reason": "it loops", "paused": False})
    again = json.loads(json.dumps([step.name, step.target, dict(step.arguments)]))
    assert Step(StepName(again[0]), again[1], again[2]) == step


def test_an_end_knows_its_operation() -> None:
    """The controller reads the lane and the steps off it."""
    record = StepRecord(1, Step(StepName.RESTART, "chat"), StepState.PENDING)
    ended = OperationEnded(Operation(1, "key", Lane.PHASE, "why", (record,)), StepState.DONE)
    assert ended.operation.lane is Lane.PHASE
    assert ended.failures == ()
