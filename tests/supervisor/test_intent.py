"""Every pair of what is wanted and what is."""

from __future__ import annotations

from itertools import product

import pytest

from epad.supervisor.intent import Held, Intent, Step, held_state, next_step
from probes.subsystems import SubsystemState
from statemachine.containment import Rung


def after(step: Step, facts: tuple[bool, bool, bool]) -> tuple[bool, bool, bool]:
    """What a step that succeeds makes of the facts (has a process, is frozen, may start)."""
    has_process, _, may_start = facts
    return {
        Step.NOTHING: facts,
        Step.SPAWN: (True, False, False),
        Step.FREEZE: (has_process, True, may_start),
        Step.THAW: (has_process, False, may_start),
        Step.STOP: (False, False, True),
    }[step]


@pytest.mark.parametrize("intent", list(Intent))
@pytest.mark.parametrize("facts", list(product([True, False], repeat=3)))
def test_every_situation_comes_to_rest_where_it_should(
    intent: Intent, facts: tuple[bool, bool, bool]
) -> None:
    """From anywhere at most two steps lead to the intent, or to where it cannot be had."""
    for _ in range(3):
        has_process, is_frozen, may_start = facts
        step = next_step(intent, has_process=has_process, is_frozen=is_frozen, may_start=may_start)
        facts = after(step, facts)
    assert step is Step.NOTHING
    has_process, is_frozen, may_start = facts
    match intent:
        case Intent.RUN:
            assert (has_process and not is_frozen) or not (has_process or may_start)
        case Intent.FREEZE:
            assert is_frozen or not has_process
        case Intent.DOWN:
            assert not has_process


def test_leaving_touches_nothing() -> None:
    """A daemon that goes neither stops nor starts anything."""
    for has_process, is_frozen, may_start in product([True, False], repeat=3):
        step = next_step(Intent.LEAVE, has_process=has_process, is_frozen=is_frozen, may_start=may_start)
        assert step is Step.NOTHING


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
