"""The tools of docker under the installed daemon: off until a socket is named; a run takes consent."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_engine import fake_engine
from tool_agent import scene


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def test_containers_are_seen_once_a_socket_is_named(workspace: Path) -> None:
    """Running one takes a person's consent; stopping one of somebody else is not asked of the engine."""
    with fake_engine(workspace.parent / "engine.sock") as engine:
        table = f'tier = "operator"\n[tools.docker]\nsocket = "{engine.socket}"\n'
        with scene(workspace, table) as (_, agent):
            listed = agent.call("docker_ps")
            run = agent.call("docker_run", image="epad-test", argv=["/hello"])
        assert {name for each in listed["content"]["containers"] for name in each["names"]} == {"web", "ours"}
        assert run["is_error"]
        assert "/containers/create" not in {path for _, path, _, _ in engine.asked}
    with scene(workspace, 'tier = "analyst"\n') as (_, agent):
        assert "[tools.docker] socket" in str(agent.call("docker_ps")["content"])
        assert agent.call("docker_run", image="a", argv=["b"])["reason_code"] == "tier_too_low"
