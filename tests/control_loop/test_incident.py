"""What is remembered of an incident, and how long."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.control_loop.incident import HOUR_SECONDS, Incident
from statemachine.phase import Phase
from statemachine.situation import Order, Persist
from statemachine.table import TABLE, Row, Trigger

NAMES = st.sampled_from(("chat", "game", "model"))
INCIDENTS = st.builds(
    Incident,
    persist=st.sampled_from(Persist),
    order=st.sampled_from(Order),
    attempts=st.integers(0, 9),
    attempt_running=st.booleans(),
    attempt_ended_at=st.floats(0, 1e6),
    tried=st.dictionaries(NAMES, st.integers(1, 3)),
    parked=st.dictionaries(NAMES, st.text(max_size=9)),
    recoveries=st.lists(st.floats(0, 1e6), max_size=4).map(tuple),
)


def row(guard: str, source: Phase | None = None) -> Row:
    return next(r for r in TABLE if r.guard == guard and source in {None, r.source})


@given(INCIDENTS)
def test_what_is_noted_is_what_is_taken_back(incident: Incident) -> None:
    """Through JSON, within one boot."""
    assert Incident.from_json(json.loads(json.dumps(incident.as_json("boot"))), "boot") == incident


@given(INCIDENTS)
def test_another_boot_drops_the_times_and_keeps_the_rest(incident: Incident) -> None:
    """A monotonic time of a former boot would be the future of this one."""
    again = Incident.from_json(incident.as_json("boot"), "another")
    assert (again.recoveries, again.attempt_ended_at) == ((), 0.0)
    assert (again.attempts, again.parked, again.persist) == (
        incident.attempts,
        incident.parked,
        incident.persist,
    )


@pytest.mark.parametrize("source", [Phase.NORMAL, Phase.QUARANTINE])
def test_each_preservation_has_a_persist_step_of_its_own(source: Phase) -> None:
    """What an earlier one in the same incident came to says nothing of the state now."""
    taken = next(r for r in TABLE if r.source is source and r.destination is Phase.PRESERVATION)
    assert Incident(persist=Persist.DONE).after(taken, 0.0).persist is Persist.RUNNING


def test_an_attempt_counts_when_it_begins() -> None:
    """A retry is an attempt of the same recovery; only the first counts towards the hour's."""
    first = Incident(persist=Persist.DONE).after(row("degraded"), 100.0)
    second = first.after(row("unhealed"), 200.0)
    assert (first.attempts, first.attempt_running, first.recoveries) == (1, True, (100.0,))
    assert (second.attempts, second.recoveries) == (2, (100.0,))


def test_recoveries_are_forgotten_after_an_hour_and_with_them_who_was_restarted() -> None:
    """At exactly an hour they are gone."""
    incident = Incident(recoveries=(0.0,), tried={"chat": 2})
    assert incident.recent_recoveries(HOUR_SECONDS - 1) == 1
    assert incident.recent_recoveries(HOUR_SECONDS) == 0
    assert incident.after(row("degraded"), HOUR_SECONDS - 1).tried == {"chat": 2}
    late = incident.after(row("degraded"), HOUR_SECONDS)
    assert (late.tried, late.recoveries) == ({}, (HOUR_SECONDS,))


def test_normal_forgets_the_incident_but_not_the_crash_loop() -> None:
    """A recovery that "succeeds" every few minutes is one trouble."""
    incident = Incident(
        Persist.DONE, Order.LIFEBOAT, "drill", 3, True, 9.0, {"chat": 1}, {"game": "parked"}, (1.0,)
    )
    after = incident.after(row("verified"), 10.0)
    assert after == Incident(tried={"chat": 1}, parked={"game": "parked"}, recoveries=(1.0,))


def test_a_relaunch_forgets_everything() -> None:
    """A person says that it starts clean."""
    incident = Incident(
        Persist.FAILED, Order.RELAUNCH, "again", 3, False, 9.0, {"chat": 1}, {"game": "parked"}, (1.0,)
    )
    assert incident.after(row("relaunched"), 10.0) == Incident()


def test_the_lifeboat_carries_out_its_order() -> None:
    """An order that is done is not carried out again after the relaunch."""
    incident = Incident(Persist.DONE, Order.LIFEBOAT, attempt_running=True)
    after = incident.after(row("ordered_out"), 10.0)
    assert (after.order, after.attempt_running) == (Order.NONE, False)


def test_a_step_down_keeps_the_incident() -> None:
    """It is not over: QUARANTINE is part of it. But what was recovered has its attempts again."""
    incident = Incident(Persist.DONE, tried={"chat": 1})
    assert incident.after(row("eased"), 10.0) == incident
    assert replace(incident, attempts=3).after(row("verified_held"), 10.0) == incident
    assert {r.trigger for r in TABLE if r.destination is Phase.QUARANTINE} == {
        Trigger.ISOLATE,
        Trigger.STEP_DOWN,
    }


def test_a_person_gives_a_subsystem_a_clean_slate() -> None:
    """One subsystem, not the others."""
    incident = Incident().with_tried("chat").with_tried("chat").with_tried("game").with_parked("chat", "why")
    assert incident.tried == {"chat": 2, "game": 1}
    assert incident.without("chat") == Incident(tried={"game": 1})
