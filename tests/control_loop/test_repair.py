"""What needs repair, and what waits for a person: of each kind one that does and one that does not."""

from __future__ import annotations

import pytest
from epad_story import ToyWorld, finding

from epad.control_loop.plans import LEDGER, Target
from epad.control_loop.repair import held_by_a_person, needing_repair, waits_for_a_person
from statemachine.assessor import Anomaly
from statemachine.clock import ManualClock
from statemachine.finding import OPERATOR, AnomalyKey

STORE = Target.datastore("graph", "chat")


def anomaly(subsystem: str, probe: str = "token_burn") -> Anomaly:
    return Anomaly(finding(ManualClock(), subsystem, probe), 0.0, 0.0)


@pytest.fixture
def world() -> ToyWorld:
    return ToyWorld()


def needs(world: ToyWorld, *outlasting: Anomaly, **exempt: set[str]) -> frozenset[Target]:
    given = {"held": set[str](), "parked": set[str](), "paused": set[str](), **exempt}
    return needing_repair(world, outlasting, given["held"], given["parked"], given["paused"])


def test_the_failed_and_the_long_troubled_need_it(world: ToyWorld) -> None:
    """A subsystem that is not configured does not, and neither does one whose trouble is a person's hold."""
    world.broken = {"chat", "nobody"}
    found = needs(world, anomaly("game"), anomaly("model", OPERATOR))
    assert found == {Target.subsystem("chat"), Target.subsystem("game")}


@pytest.mark.parametrize("why", ["held", "parked", "paused"])
def test_who_is_left_alone_needs_none(world: ToyWorld, why: str) -> None:
    """Each alone is enough; and a victim comes back with its root."""
    world.broken = {"chat"}
    assert needs(world, **{why: {"chat"}}) == frozenset()
    world.suffering = {"chat": "model"}
    assert needs(world) == frozenset()


def test_damage_is_repaired_unless_its_writer_is_in_a_persons_hands(world: ToyWorld) -> None:
    """A parked writer's data is repaired; that of a held or paused one is not touched, and the ledger always is."""
    world.damage = {STORE, LEDGER}
    assert needs(world, parked={"chat"}) == {STORE, LEDGER}
    assert needs(world, held={"chat"}) == needs(world, paused={"chat"}) == {LEDGER}


def test_a_persons_hold_and_a_parked_subsystem_wait_for_a_person() -> None:
    """Of a parked one only what no repair is coming for."""
    assert held_by_a_person([anomaly("chat", OPERATOR), anomaly("game")]) == {"chat"}
    assert waits_for_a_person(AnomalyKey(OPERATOR, "chat"), (), list)
    assert waits_for_a_person(AnomalyKey("token_burn", "chat"), {"chat"}, list)
    assert not waits_for_a_person(AnomalyKey("token_burn", "chat"), {"chat"}, lambda: [STORE])
    assert not waits_for_a_person(AnomalyKey("token_burn", "chat"), {"game"}, list)
