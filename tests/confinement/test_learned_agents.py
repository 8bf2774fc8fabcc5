"""Three real agents are recorded, and the policy that is proposed runs each of them again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cell_world
import pytest
from learned_agents import AGENTS, Agent, can_record, record
from msgspec import structs

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.directories import Directories
from epad.configuration.load import load
from epad.configuration.schema import SubsystemConfig
from epad.confinement.learning import propose, refused
from epad.confinement.machine import examine
from epad.confinement.plan import Program, plan_of
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy

pytestmark = pytest.mark.skipif(not can_record(), reason="strace is missing, or may not look at its children")


@dataclass(frozen=True)
class Learned:
    """What was proposed for an agent, and what its policy would refuse of a second recording."""

    agent: Agent
    confine: ConfineConfig
    policy: Policy
    left_out: tuple[str, ...]
    refused: tuple[str, ...]


@pytest.fixture(name="learned", params=AGENTS)
def learn(request: pytest.FixtureRequest) -> Iterator[Learned]:
    """Record an agent twice; the first recording makes the policy, the second tries it."""
    with cell_world.workspace() as place:
        home = place / "home"
        home.mkdir()
        agent = AGENTS[request.param](home)
        spec = SubsystemConfig(
            command=agent.command, working_directory=str(agent.directory), environment={"HOME": str(home)}
        )
        policies = Policies(Directories(place / "state", place / "run"), {"PATH": "/usr/bin:/bin"})

        def policy_of(confine: ConfineConfig) -> Policy:
            subsystems = {"agent": structs.replace(spec, confine=confine)}
            return policies.of("agent", structs.replace(load(), subsystems=subsystems))

        first, second = record(agent, place / "first"), record(agent, place / "second")
        found = propose(first, policy_of, str(home))
        policy = policy_of(found.confine)
        yield Learned(agent, found.confine, policy, found.left_out, refused(second, policy))


def test_the_proposed_policy_allows_a_second_run(learned: Learned) -> None:
    """All of it; and it gives no more than the agent's own places: no home, and nothing of the machine's whole."""
    assert learned.refused == ()
    assert learned.left_out == ()
    confine, home = learned.confine, learned.agent.home
    assert confine.profile == "workspace"
    assert confine.hosts == ()
    given = {confine.workspace, *confine.read}
    assert not given & {str(parent) for parent in (home, *home.parents)}


def test_each_agent_gets_what_it_works_on(learned: Learned) -> None:
    """The project, the documents behind their link, the packages and the wheels."""
    names = {path.rpartition("/")[2] for path in (learned.confine.workspace, *learned.confine.read)}
    expected = [{"project", ".gitconfig"}, {"documents", "library", "settings.json"}, {"packages", "wheels"}]
    assert any(wanted <= names for wanted in expected)


async def test_the_agent_runs_again_in_a_cell_of_that_policy(learned: Learned) -> None:
    """To its end, within every wall that this machine has."""
    cell_world.need("user namespace")
    environment = {"HOME": str(learned.agent.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    async with cell_world.zygote() as zygote:
        plan = plan_of(learned.policy, Program(learned.agent.command, environment), await examine(zygote))
        ended = await cell_world.run(zygote, plan)
    assert ended.status == 0, ended.output
    assert Path(learned.policy.workspace).is_dir()
