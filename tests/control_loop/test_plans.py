"""Which steps follow from which transition, and in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from epad_story import NAMES, SUBSYSTEMS
from hypothesis import given
from hypothesis import strategies as st

from epad.control_loop.plans import LEDGER, Target, containment_steps, plan_for, recovery_targets
from epad.control_loop.step import WAVE, Lane, Step, StepName
from statemachine.assessor import Anomaly
from statemachine.containment import Containable, Hold, Rung
from statemachine.finding import HOST, OPERATOR, Finding, Severity
from statemachine.phase import Phase
from statemachine.table import TABLE, Row, Trigger

OPEN = dict.fromkeys(NAMES, Hold(Rung.OPEN))
HOLDS = st.fixed_dictionaries(
    {name: st.builds(Hold, st.sampled_from(Rung), st.sampled_from(("", "why"))) for name in NAMES}
)
HOLD = Step(StepName.HOLD, "chat", {"rung": "freeze", "reason": "why", "paused": False})


def anomaly(subsystem: str, probe: str = "token_burn") -> Anomaly:
    return Anomaly(Finding(probe, subsystem, Severity.ANOMALY, 0.0), 0.0, 0.0)


def rows_to(phase: Phase) -> list[Row]:
    return [row for row in TABLE if row.destination is phase]


@given(before=HOLDS, after=HOLDS)
def test_the_steps_lead_from_one_set_of_holds_to_the_other(
    before: dict[str, Hold], after: dict[str, Hold]
) -> None:
    """What changes has one step, what does not has none; users close before providers, and open after them."""
    steps = containment_steps(SUBSYSTEMS, before, after)
    assert {step.target for step in steps} == {name for name in NAMES if before[name] != after[name]}
    assert len({step.target for step in steps}) == len(steps)
    assert all(
        Hold(Rung[step.arguments["rung"].upper()], step.arguments["reason"], step.arguments["paused"])
        == after[step.target]
        for step in steps
    )
    looser = [after[step.target].rung < before[step.target].rung for step in steps]
    assert looser == sorted(looser)
    order = [NAMES.index(step.target) for step in steps]
    closing, opening = order[: looser.count(False)], order[looser.count(False) :]
    assert closing == sorted(closing, reverse=True)
    assert opening == sorted(opening)


def test_what_does_not_depend_on_each_other_is_held_in_one_wave() -> None:
    """A hundred frozen one after the other took 45 s; dependents still close first, and providers open first."""
    subsystems = [
        *(Containable(name, essential=False, has_process=True) for name in ("a", "b")),
        *(Containable(name, essential=False, has_process=True, layer=1) for name in ("c", "d")),
    ]
    open_, frozen = Hold(Rung.OPEN), Hold(Rung.FREEZE, "why")

    def waves(before: dict[str, Hold], after: dict[str, Hold]) -> list[tuple[str, int]]:
        return [(s.target, s.arguments[WAVE]) for s in containment_steps(subsystems, before, after)]

    every, none = dict.fromkeys("abcd", frozen), dict.fromkeys("abcd", open_)
    assert waves(none, every) == [("d", 0), ("c", 0), ("b", 1), ("a", 1)]
    assert waves(every, none) == [("a", 0), ("b", 0), ("c", 1), ("d", 1)]
    assert waves({**none, "a": frozen}, {**none, "b": frozen}) == [("b", 0), ("a", 1)]


def test_what_is_restarted_in_the_same_decision_is_not_opened_before() -> None:
    """A loop that is thawed first would run on until its restart."""
    held = {**OPEN, "chat": Hold(Rung.FREEZE, "it loops"), "game": Hold(Rung.FREEZE, "paused")}
    steps = containment_steps(SUBSYSTEMS, held, OPEN, skip=(Target.subsystem("chat"), LEDGER))
    assert [step.target for step in steps] == ["game"]


def test_a_subsystem_is_not_mistaken_for_a_part_of_epad() -> None:
    """A subsystem may be called ledger."""
    containables = [replace(SUBSYSTEMS[0], name="ledger")]
    held = {"ledger": Hold(Rung.STOP, "why")}
    steps = containment_steps(containables, held, {"ledger": Hold(Rung.OPEN)}, skip=(LEDGER,))
    assert [step.target for step in steps] == ["ledger"]
    (plan,) = plan_for(rows_to(Phase.RECOVERY)[0], [], [Target.subsystem("ledger")])
    assert [step.name for step in plan.steps] == [StepName.RESTART, StepName.REPLAY]


def test_a_recovery_works_on_what_is_broken_or_in_trouble_but_not_on_what_a_person_holds() -> None:
    """Nor on the host, which cannot be restarted."""
    anomalies = [anomaly("chat"), anomaly(HOST), anomaly("guest"), anomaly("guest", OPERATOR)]
    targets = recovery_targets({LEDGER, Target.subsystem("model")}, anomalies)
    assert targets == (LEDGER, Target.subsystem("chat"), Target.subsystem("model"))


@pytest.mark.parametrize("row", rows_to(Phase.LIFEBOAT), ids=lambda row: f"{row.source}-{row.guard}")
def test_the_lifeboat_is_one_operation_and_its_bundle_comes_last(row: Row) -> None:
    """It is written once the stops before it are done; what is irreplaceable is saved before them."""
    (plan,) = plan_for(row, [HOLD], [])
    assert plan.lane is Lane.PHASE
    assert [step.name for step in plan.steps] == [StepName.FIRST_TIER, StepName.HOLD, StepName.LIFEBOAT]
    assert plan.steps[-1].arguments["sentence"] == row.sentence


@pytest.mark.parametrize("row", rows_to(Phase.PRESERVATION), ids=lambda row: f"{row.source}-{row.guard}")
def test_preservation_contains_and_saves_beside_each_other(row: Row) -> None:
    """A containment does not wait behind a checkpoint."""
    containment, save = plan_for(row, [HOLD], [])
    assert (containment.lane, containment.steps) == (Lane.CONTAINMENT, [HOLD])
    assert (save.lane, [step.name for step in save.steps]) == (Lane.PHASE, [StepName.CHECKPOINT])


def test_a_recovery_has_a_step_for_each_target_and_an_operation_even_for_none() -> None:
    """Its end is what ends the attempt."""
    row = rows_to(Phase.RECOVERY)[0]
    (plan,) = plan_for(row, [], [LEDGER, Target.subsystem("chat")])
    assert [(step.name, step.target) for step in plan.steps] == [
        (StepName.REPAIR_LEDGER, "ledger"),
        (StepName.RESTART, "chat"),
        (StepName.REPLAY, HOST),
    ]
    (empty,) = plan_for(row, [], [])
    assert (empty.lane, [step.name for step in empty.steps]) == (Lane.PHASE, [StepName.REPLAY])


def test_a_recovery_takes_its_own_state_first_and_then_providers_before_their_users() -> None:
    """A subsystem that nobody has ordered comes first among them: nothing is known to need it."""
    broken = {Target.subsystem("agent"), Target.subsystem("model"), LEDGER}
    assert [t.name for t in recovery_targets(broken, [], order=["model", "agent"])] == [
        "ledger",
        "model",
        "agent",
    ]


def test_a_damaged_store_is_restored_before_who_writes_it_is_started_again() -> None:
    """Its writer is stopped for it, and so is restarted even if nothing else is wrong with it."""
    store = Target.datastore("memory", "chat")
    targets = recovery_targets({store, LEDGER}, [])
    (plan,) = plan_for(rows_to(Phase.RECOVERY)[0], [], targets)
    assert [(step.name, step.target) for step in plan.steps] == [
        (StepName.RESTORE_DATASTORE, "memory"),
        (StepName.REPAIR_LEDGER, "ledger"),
        (StepName.RESTART, "chat"),
        (StepName.REPLAY, HOST),
    ]
    assert recovery_targets({store}, [], victims=("chat",)) == (store,)


@pytest.mark.parametrize("trigger", [Trigger.ISOLATE, Trigger.STEP_DOWN, Trigger.RESUME, Trigger.RELAUNCH])
def test_other_transitions_do_nothing_but_hold_and_release(trigger: Trigger) -> None:
    """And nothing at all if no hold changes."""
    row = next(row for row in TABLE if row.trigger is trigger)
    assert [plan.lane for plan in plan_for(row, [HOLD], [])] == [Lane.CONTAINMENT]
    assert plan_for(row, [], []) == []
