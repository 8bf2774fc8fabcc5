"""Three real agents are recorded, and the policy that is proposed runs each of them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from learned_agents import AGENTS, can_record, record
from msgspec import structs

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.directories import Directories
from epad.configuration.load import load
from epad.configuration.schema import SubsystemConfig
from epad.confinement.learning import propose, refused
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy

pytestmark = pytest.mark.skipif(not can_record(), reason="strace is missing, or may not look at its children")


@dataclass(frozen=True)
class Learned:
    """What was proposed for an agent, and what its policy would refuse of a second recording."""

    home: Path
    confine: ConfineConfig
    left_out: tuple[str, ...]
    refused: tuple[str, ...]


@pytest.fixture(name="learned", params=AGENTS)
def learn(request: pytest.FixtureRequest, tmp_path: Path) -> Learned:
    """Record an agent twice; the first recording makes the policy, the second tries it."""
    home = tmp_path / "home"
    home.mkdir()
    agent = AGENTS[request.param](home)
    spec = SubsystemConfig(
        command=agent.command, working_directory=str(agent.directory), environment={"HOME": str(home)}
    )
    policies = Policies(Directories(tmp_path / "state", tmp_path / "run"), {"PATH": "/usr/bin:/bin"})

    def policy_of(confine: ConfineConfig) -> Policy:
        subsystems = {"agent": structs.replace(spec, confine=confine)}
        return policies.of("agent", structs.replace(load(), subsystems=subsystems))

    first, second = record(agent, tmp_path / "first"), record(agent, tmp_path / "second")
    found = propose(first, policy_of, str(home))
    return Learned(home, found.confine, found.left_out, refused(second, policy_of(found.confine)))


def test_the_proposed_policy_allows_a_second_run(learned: Learned) -> None:
    """All of it; and it gives no more than the agent's own places: no home, and nothing of the machine's whole."""
    assert learned.refused == ()
    assert learned.left_out == ()
    confine = learned.confine
    assert confine.profile == "workspace"
    assert confine.hosts == ()
    given = {confine.workspace, *confine.read}
    assert not given & {str(parent) for parent in (learned.home, *learned.home.parents)}


def test_each_agent_gets_what_it_works_on(learned: Learned) -> None:
    """The project, the documents behind their link, the packages and the wheels."""
    names = {path.rpartition("/")[2] for path in (learned.confine.workspace, *learned.confine.read)}
    expected = [{"project", ".gitconfig"}, {"documents", "library", "settings.json"}, {"packages", "wheels"}]
    assert any(wanted <= names for wanted in expected)
