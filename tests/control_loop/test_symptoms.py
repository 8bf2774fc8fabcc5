"""Which findings count for nothing."""

from __future__ import annotations

import pytest
from epad_story import ToyWorld, finding

from epad.control_loop.symptoms import SYMPTOMS, is_excused, taken_back
from statemachine.assessor import Anomaly
from statemachine.clock import ManualClock
from statemachine.containment import Containable
from statemachine.finding import HOST, AnomalyKey


def anomaly(subsystem: str, probe: str) -> Anomaly:
    return Anomaly(finding(ManualClock(), subsystem, probe), 0.0, 0.0)


@pytest.mark.parametrize("probe", [*sorted(SYMPTOMS), "token_burn"])
def test_only_a_victims_symptoms_are_excused(probe: str) -> None:
    """A victim's own fault counts, and so does the symptom of one that is no victim."""
    world = ToyWorld()
    world.suffering = {"chat": "model"}
    assert is_excused(AnomalyKey(probe, "chat"), world) == (probe in SYMPTOMS)
    assert not is_excused(AnomalyKey(probe, "game"), world)


def test_those_who_are_gone_and_symptoms_are_taken_back() -> None:
    """The host is no subsystem and is never gone; each group has its reason."""
    world = ToyWorld()
    world.suffering = {"chat": "model"}
    gone, symptom = anomaly("nobody", "token_burn"), anomaly("chat", "progress")
    kept = [anomaly("chat", "token_burn"), anomaly(HOST, "host"), anomaly("game", "progress")]
    assert [*taken_back([gone, symptom, *kept], world)] == [
        ({gone.key}, "it is configured no more"),
        ({symptom.key}, "it is a victim of model"),
    ]


def test_nothing_is_asked_while_nothing_is_wrong() -> None:
    """A hundred findings a second come through here."""

    class Busy(ToyWorld):
        def containables(self) -> list[Containable]:
            raise AssertionError("asked")

    assert [*taken_back([], Busy())] == []
