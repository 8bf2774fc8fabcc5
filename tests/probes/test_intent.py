"""The probe on intents: a share that rises is told, once, as a warning that holds nobody; a usual one is not."""

from __future__ import annotations

import random

import pytest
from shipped_settings import PROBES

from probes.intent import Intent, TurnScreened
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung

SETTINGS = PROBES.intent


class World:
    """A probe, and what it has stated."""

    def __init__(self) -> None:
        self.pushed: list[Finding] = []
        self.emitted: list[Finding] = []
        self.turns = 0
        self.probe = Intent(SETTINGS, push=self.pushed.append, emit=self.emitted.append)

    def turn(self, label: str, who: str = "agent") -> None:
        self.turns += 1
        self.probe.screened(
            TurnScreened(who, float(self.turns), f"{self.turns:032x}", label, "injection", 0.9)
        )

    def turns_of(self, share: float, count: int, seed: int, who: str = "agent") -> None:
        chance = random.Random(seed)
        for _ in range(count):
            self.turn("attack" if chance.random() < share else chance.choice(("benign", "unsure")), who)


@pytest.fixture
def world() -> World:
    return World()


def test_a_burst_is_told_once(world: World) -> None:
    """From the first turn on, with what it rests on; and nobody is held by it."""
    for _ in range(12):
        world.turn("attack")
    [found] = world.pushed
    assert world.emitted == [found]
    assert (found.probe, found.subsystem) == ("intent", "agent")
    assert (found.severity, found.rung) == (Severity.WARNING, Rung.OPEN)
    assert not found.bad
    assert found.evidence["attacks"] == found.evidence["turns"]
    assert "look like attacks" in found.reason


def test_a_single_label_is_no_finding(world: World) -> None:
    """The classifier is often wrong."""
    for _ in range(50):
        world.turn("attack")
        for _ in range(19):
            world.turn("benign")
    assert world.pushed == []


@pytest.mark.parametrize("share", [0.0, 0.03, 0.06])
def test_the_classifiers_own_false_alarms_are_no_rise(share: float) -> None:
    """40 subsystems of 2,000 turns each: at most three are told, and none below the usual share."""
    told = 0
    for seed in range(40):
        world = World()
        world.turns_of(share, 2_000, seed)
        told += bool(world.pushed)
    assert told <= (3 if share == SETTINGS.usual_share else 0)


def test_what_is_usual_for_a_subsystem_becomes_so(world: World) -> None:
    """One that works on attacks is told at its beginning, and then no more; a rise above its own is told again."""
    world.turns_of(0.35, 1_500, 1)
    early = len(world.pushed)
    assert 1 <= early <= 4
    world.turns_of(0.35, 1_500, 2)
    assert len(world.pushed) == early
    for _ in range(40):
        world.turn("attack")
    assert len(world.pushed) > early


def test_subsystems_have_histories_of_their_own(world: World) -> None:
    """What one does says nothing of another, and a released one starts afresh."""
    world.turns_of(0.0, 500, 3, "calm")
    for _ in range(12):
        world.turn("attack", "wild")
    assert [one.subsystem for one in world.pushed] == ["wild"]
    world.probe.forget("wild")
    for _ in range(12):
        world.turn("attack", "wild")
    assert [one.subsystem for one in world.pushed] == ["wild", "wild"]


async def test_a_sample_states_nothing(world: World) -> None:
    """A rise is told as it happens, so nothing stands that would have to be cleared."""
    world.turns_of(1.0, 30, 4)
    assert list(await world.probe.sample()) == []
    assert world.pushed[0].severity < Severity.ANOMALY
