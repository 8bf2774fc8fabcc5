"""Which policy a subsystem is started under: the configured one, or in a recovery that of its last good run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cell_doubles import CellWorld, policy

from epad.confinement.in_force import GOOD_SECONDS, PoliciesInForce
from epad.confinement.policy import Policy
from runners.egress.rules import parse

GOOD = policy("agent")
WIDER = replace(GOOD, hosts=(parse("evil.example"),))


class House:
    """One subsystem's configured policy, which may change."""

    def __init__(self, directory: Path) -> None:
        self.configured = GOOD
        self.directory = directory
        self.policies = self.another()

    def another(self) -> PoliciesInForce:
        """What the next daemon knows."""
        return PoliciesInForce(self.current, self.directory)

    def current(self, name: str) -> Policy:
        assert name == "agent"
        return self.configured


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "cells")


def test_a_recovery_starts_again_under_the_policy_of_the_last_good_run(house: House) -> None:
    """And says what is suspect; a later daemon knows the good one too."""
    house.policies.lasted(GOOD, GOOD_SECONDS)
    house.configured = WIDER
    assert house.policies("agent") == WIDER
    house.policies.lasted(WIDER, GOOD_SECONDS - 1)
    told = house.policies.fall_back("agent")
    assert told.startswith("under the policy of its last good run; what was changed since is suspect: ")
    assert "evil.example" in told
    assert house.policies("agent") == GOOD
    assert "evil.example" in house.another().fall_back("agent")


def test_it_holds_until_a_person_orders_a_start_or_changes_the_configuration(house: House) -> None:
    """Whatever is configured then is what is wanted."""
    house.policies.lasted(GOOD, GOOD_SECONDS)
    house.configured = WIDER
    house.policies.fall_back("agent")
    house.policies.take_back("agent")
    assert house.policies("agent") == WIDER
    house.policies.fall_back("agent")
    house.configured = other = replace(WIDER, ask=True)
    assert house.policies("agent") == other
    house.configured = WIDER
    assert house.policies("agent") == WIDER


def test_without_a_good_run_or_with_no_change_nothing_is_suspect(house: House) -> None:
    """A policy that has lasted is the good one, also if it was changed before."""
    assert house.policies.fall_back("agent") == ""
    house.policies.lasted(GOOD, GOOD_SECONDS)
    assert house.policies.fall_back("agent") == ""
    house.configured = WIDER
    house.policies.lasted(WIDER, GOOD_SECONDS)
    assert house.policies.fall_back("agent") == ""


def test_a_file_that_cannot_be_read_is_no_good_policy(house: House) -> None:
    house.directory.mkdir()
    (house.directory / "agent.good.json").write_text('{"subsystem": 1}')
    assert house.policies.fall_back("agent") == ""


@pytest.mark.parametrize(("seconds", "told"), [(GOOD_SECONDS + 1, True), (60.0, False)])
async def test_a_cell_that_has_lived_an_hour_makes_its_policy_good(
    tmp_path: Path, seconds: float, told: bool
) -> None:
    """As it was when it was made; the daemon may be another by then."""
    world = CellWorld(tmp_path)
    try:
        pid = await world.start()
        world.cells = world.another()
        await world.cells.adopt("agent", pid)
        world.clock.advance(seconds)
        await world.cells.ended("agent")
        world.profiles["agent"] = "open"
        assert bool(world.cells.fall_back("agent")) is told
    finally:
        world.end()
