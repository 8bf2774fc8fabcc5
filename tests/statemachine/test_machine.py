"""The table, enforced."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from shipped_settings import CONFIG

from statemachine.machine import IllegalTransitionError, Machine
from statemachine.phase import Phase
from statemachine.situation import Order, Persist, Situation
from statemachine.table import GUARDS, TABLE, Row, Trigger

LIMITS = CONFIG.policy


def permitting(row: Row) -> Situation:
    """A situation in which the row's own guard holds, found by trying."""
    for persist, order, count, seconds, attempts in itertools.product(
        Persist, Order, (0, 1, 2), (0.0, 1e6), (0, 3)
    ):
        for held, degraded in itertools.product((0, 1), (0, 1)):
            situation = Situation(
                row.source,
                in_phase_seconds=0.0 if row.guard == "unhealed" else seconds,
                anomalies=count,
                held=min(held, count),
                oldest_anomaly_seconds=0.0 if row.guard == "eased" else seconds,
                quiet_seconds=seconds,
                degraded=degraded,
                persist=persist,
                attempts=attempts,
                since_attempt_seconds=seconds,
                order=order,
            )
            if GUARDS[row.guard](situation, LIMITS):
                return situation
    raise AssertionError(row)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.source}-{row.guard}")
def test_a_row_moves_the_machine_to_its_destination(row: Row) -> None:
    """From its source, in a situation that permits it."""
    machine = Machine(row.source)
    assert machine.take(row, permitting(row), LIMITS) is row.destination
    assert machine.phase is row.destination


@pytest.mark.parametrize(
    ("phase", "row"),
    [(phase, row) for phase in Phase for row in TABLE if row.source is not phase],
    ids=lambda value: f"{value.source}-{value.guard}" if isinstance(value, Row) else value,
)
def test_a_row_of_another_phase_is_refused(phase: Phase, row: Row) -> None:
    """Whatever the situation claims, and the phase stays."""
    machine = Machine(phase)
    for claimed in (phase, row.source):
        situation = dataclasses.replace(permitting(row), phase=claimed)
        with pytest.raises(IllegalTransitionError):
            machine.take(row, situation, LIMITS)
        assert machine.phase is phase


def test_what_is_not_in_the_table_is_refused() -> None:
    """Every other combination of source, trigger, destination and guard, each in a situation that suits it."""
    listed = {(row.source, row.trigger, row.destination, row.guard) for row in TABLE}
    situations = {row.guard: permitting(row) for row in TABLE}
    refused = 0
    machines = {phase: Machine(phase) for phase in Phase}
    for combination in itertools.product(Phase, Trigger, Phase, GUARDS):
        if combination in listed:
            continue
        source, _, _, guard = combination
        forged = Row(*combination, sentence="forged")
        situation = dataclasses.replace(situations[guard], phase=source)
        with pytest.raises(IllegalTransitionError, match="not in the table"):
            machines[source].take(forged, situation, LIMITS)
        assert machines[source].phase is source
        refused += 1
    assert refused == 5 * len(Trigger) * 5 * len(GUARDS) - len(TABLE)


def test_a_guard_that_is_unknown_is_refused() -> None:
    """A forged guard is no way in."""
    forged = dataclasses.replace(TABLE[0], guard="because")
    with pytest.raises(IllegalTransitionError):
        Machine().take(forged, Situation(Phase.NORMAL), LIMITS)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.source}-{row.guard}")
def test_a_row_whose_guard_does_not_hold_is_refused(row: Row) -> None:
    """A decision that was overtaken by events is not carried out."""
    machine = Machine(row.source)
    calm = Situation(row.source)
    assert not GUARDS[row.guard](calm, LIMITS)
    with pytest.raises(IllegalTransitionError, match=row.guard):
        machine.take(row, calm, LIMITS)
    assert machine.phase is row.source


def test_nobody_can_jump() -> None:
    """The automatic to_PHASE triggers of the library are not there."""
    machine = Machine()
    assert not [name for name in dir(machine) if name.startswith("to_")]
    assert not [event for event in machine._table.events if event.startswith("to_")]


def test_it_starts_where_a_former_life_was() -> None:
    """NORMAL unless the journal says otherwise."""
    assert Machine().phase is Phase.NORMAL
    assert [Machine(phase).phase for phase in Phase] == list(Phase)
