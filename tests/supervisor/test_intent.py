"""Every pair of what is wanted and what is."""

from __future__ import annotations

from itertools import product

import pytest

from epad.supervisor.intent import Held, Intent, Step, held_state, next_step
from epad.supervisor.stage import HAS_PROCESS, Event, Stage, after
from probes.subsystems import SubsystemState
from statemachine.containment import Rung

EVENT = {Step.FREEZE: Event.FREEZE, Step.THAW: Event.THAW}


def done(step: Step, stage: Stage) -> Stage:
    """Return the stage after a step that succeeds; each of its events must be in the table of stages."""
    match step:
        case Step.NOTHING:
            return stage
        case Step.SPAWN:
            return after(after(stage, Event.SPAWN), Event.SPAWNED)
        case Step.STOP:
            return after(after(after(stage, Event.STOP), Event.EXIT), Event.REST)
        case _:
            return after(stage, EVENT[step])


@pytest.mark.parametrize("intent", list(Intent))
@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("may_spawn", [True, False])
def test_every_situation_comes_to_rest_where_it_should(intent: Intent, stage: Stage, may_spawn: bool) -> None:
    """From anywhere at most two steps lead to the intent, or to where it cannot be had, and none is refused."""
    begun = stage
    for _ in range(3):
        step = next_step(intent, stage, may_spawn=may_spawn)
        stage = done(step, stage)
    assert step is Step.NOTHING
    match intent:
        case Intent.RUN:
            assert stage is Stage.RUNNING or (
                stage not in HAS_PROCESS and not (stage is Stage.WAITING and may_spawn)
            )
        case Intent.FREEZE:
            assert stage is Stage.FROZEN or stage not in HAS_PROCESS
        case Intent.DOWN:
            assert stage not in HAS_PROCESS
        case Intent.LEAVE:
            assert stage is begun


def test_no_process_is_started_or_ended_without_need() -> None:
    """A frozen one is not ended to be thawed, and a stop that was cut short is ended under any intent but to leave."""
    for stage, may_spawn in product(HAS_PROCESS, [True, False]):
        for intent in (Intent.RUN, Intent.FREEZE):
            step = next_step(intent, stage, may_spawn=may_spawn)
            assert step is not Step.SPAWN
            assert (step is Step.STOP) == (stage is Stage.STOPPING)


def test_leaving_touches_nothing() -> None:
    """A daemon that goes neither stops nor starts anything."""
    for stage, may_spawn in product(Stage, [True, False]):
        assert next_step(Intent.LEAVE, stage, may_spawn=may_spawn) is Step.NOTHING


@pytest.mark.parametrize(
    ("held", "own", "shown"),
    [
        (Held(), SubsystemState.RUNNING, SubsystemState.RUNNING),
        (Held(Rung.THROTTLE), SubsystemState.RUNNING, SubsystemState.THROTTLED),
        (Held(Rung.THROTTLE), SubsystemState.STARTING, SubsystemState.STARTING),
        (Held(Rung.BLOCK), SubsystemState.RUNNING, SubsystemState.QUARANTINED),
        (Held(Rung.FREEZE), SubsystemState.RUNNING, SubsystemState.QUARANTINED),
        (Held(Rung.FREEZE, paused=True), SubsystemState.RUNNING, SubsystemState.PAUSED),
        (Held(Rung.STOP), SubsystemState.RUNNING, SubsystemState.STOPPED),
    ],
)
def test_a_hold_names_the_state(held: Held, own: SubsystemState, shown: SubsystemState) -> None:
    """What people are shown is the hold, where there is one."""
    assert held_state(held, own) is shown
