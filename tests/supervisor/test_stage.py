"""Every pair of a stage and an event: it leads where it should, or is refused in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import pytest

from epad.supervisor.stage import HAS_PROCESS, TABLE, Event, Stage, StageError, after

WAITING, BACKING_OFF, SPAWNING, RUNNING, FROZEN, STOPPING, ENDED, FINISHED, FAILED = Stage
EXPECTED: dict[Event, dict[Stage, Stage]] = {
    Event.SPAWN: {WAITING: SPAWNING},
    Event.SPAWNED: {SPAWNING: RUNNING},
    Event.ADOPT: {
        WAITING: RUNNING,
        SPAWNING: RUNNING,
        RUNNING: RUNNING,
        FROZEN: FROZEN,
        STOPPING: STOPPING,
    },
    Event.FREEZE: {RUNNING: FROZEN, FROZEN: FROZEN},
    Event.THAW: {FROZEN: RUNNING},
    Event.STOP: dict.fromkeys((RUNNING, FROZEN, STOPPING), STOPPING),
    Event.VANISH: dict.fromkeys((SPAWNING, STOPPING), WAITING),
    Event.EXIT: dict.fromkeys((SPAWNING, RUNNING, FROZEN, STOPPING), ENDED),
    Event.REST: {ENDED: WAITING},
    Event.RESTART: {ENDED: BACKING_OFF},
    Event.BACKED_OFF: {BACKING_OFF: WAITING},
    Event.FINISH: {ENDED: FINISHED},
    Event.FAIL: dict.fromkeys(Stage, FAILED),
    Event.RENEW: dict.fromkeys((WAITING, BACKING_OFF, SPAWNING, ENDED, FINISHED, FAILED), WAITING),
}
"""The table once more, by event: a row that is changed by accident shows."""

Table = Mapping[Stage, Mapping[Event, Stage]]


def faults(table: Table) -> Iterator[str]:
    """Say what must never be in such a table, whatever else is."""
    for stage, event in product(Stage, Event):
        found = table[stage].get(event)
        if found is not EXPECTED[event].get(stage):
            yield f"{stage}, {event.name}: leads to {found}"
        if stage in HAS_PROCESS and found is SPAWNING:
            yield f"{stage}, {event.name}: a second process"
        if found in HAS_PROCESS and stage not in HAS_PROCESS and event not in {Event.SPAWNED, Event.ADOPT}:
            yield f"{stage}, {event.name}: a process from nowhere"
    for stage in Stage:
        if not reaches_waiting(table, stage):
            yield f"{stage}: no way back"


def reaches_waiting(table: Table, stage: Stage) -> bool:
    """Tell if a process can be started again from a stage."""
    reached, fresh = {stage}, {stage}
    while fresh:
        fresh = {target for one in fresh for target in table[one].values()} - reached
        reached |= fresh
    return WAITING in reached


def test_the_table_is_as_it_should_be() -> None:
    """All pairs, and what holds for all of them."""
    assert list(faults(TABLE)) == []


@pytest.mark.parametrize(("stage", "event"), list(product(Stage, Event)))
def test_every_pair_leads_somewhere_or_is_refused_in_words(stage: Stage, event: Event) -> None:
    """The refusal names the stage and what cannot be done in it."""
    expected = EXPECTED[event].get(stage)
    if expected is not None:
        assert after(stage, event) is expected
        return
    with pytest.raises(StageError) as refused:
        after(stage, event)
    assert str(refused.value) == f"a process that is {stage.value} cannot {event.value}"


@pytest.mark.parametrize(
    ("stage", "event", "target", "fault"),
    [
        (RUNNING, Event.SPAWN, SPAWNING, "running, SPAWN: a second process"),
        (FINISHED, Event.THAW, RUNNING, "finished, THAW: a process from nowhere"),
        (FROZEN, Event.THAW, STOPPING, "frozen, THAW: leads to stopping"),
    ],
)
def test_a_planted_row_is_found(stage: Stage, event: Event, target: Stage, fault: str) -> None:
    """One more, or one that leads elsewhere."""
    assert fault in list(faults({**TABLE, stage: {**TABLE[stage], event: target}}))


def test_a_planted_dead_end_is_found() -> None:
    """A stage without a way out is one that no person can mend."""
    assert "failed: no way back" in list(faults({**TABLE, FAILED: {}}))
