"""What is done to a unit that systemd has already, decided from what systemd says of it."""

from __future__ import annotations

import itertools

import pytest

from epad.supervisor.unit import UnitFacts, UnitStep, unit_step
from statemachine.containment import Rung

STATES = ("active", "reloading", "activating", "deactivating", "inactive", "failed")
EVERYTHING = [
    (rung, UnitFacts(active, frozen=frozen, watchdog=watchdog, pid=1), to_start, freezable)
    for rung, active, frozen, watchdog, to_start, freezable in itertools.product(
        Rung, STATES, (False, True), (False, True), (False, True), (False, True)
    )
]


def after(facts: UnitFacts, step: UnitStep) -> tuple[UnitFacts, bool]:
    """What a step makes of a unit, and whether it is still to be started."""
    match step:
        case UnitStep.START:
            return UnitFacts("active", facts.frozen, facts.watchdog, 1), False
        case UnitStep.STOP:
            return UnitFacts("inactive", facts.frozen, facts.watchdog, None), True
        case _:
            return UnitFacts(facts.active, step is UnitStep.FREEZE, facts.watchdog, facts.pid), True


@pytest.mark.parametrize(("rung", "facts", "to_start", "freezable"), EVERYTHING)
def test_every_unit_comes_to_rest_as_it_is_held(
    rung: Rung, facts: UnitFacts, to_start: bool, freezable: bool
) -> None:
    """In at most two steps; never stopped while frozen, never frozen where a watchdog would undo it."""
    for _ in range(3):
        step = unit_step(rung, facts, to_start=to_start, freezable=freezable)
        if step is UnitStep.NOTHING:
            break
        assert not (step is UnitStep.STOP and facts.frozen)
        assert not (step is UnitStep.FREEZE and facts.watchdog and not freezable)
        facts, starting = after(facts, step)
        to_start = to_start and starting
    else:
        raise AssertionError("it does not come to rest")
    down = facts.active in {"inactive", "failed"}
    if rung is Rung.STOP:
        assert down
    elif rung is Rung.FREEZE:
        assert down or facts.frozen
    else:
        assert not facts.frozen
        assert not (down and to_start)


@pytest.mark.parametrize(("usec", "watchdog"), [(0, False), (2**64 - 1, False), (3_000_000, True)])
def test_a_watchdog_is_read_as_systemd_writes_it(usec: int, watchdog: bool) -> None:
    """Infinity is none."""
    found = {"ActiveState": "active", "FreezerState": "running", "WatchdogUSec": usec, "MainPID": 7}
    assert UnitFacts.read(found) == UnitFacts("active", frozen=False, watchdog=watchdog, pid=7)
