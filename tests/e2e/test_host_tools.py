"""The tools of `system` under the installed daemon: the host as the worker's cell shows it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from tool_agent import scene


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def test_an_analyst_reads_the_host_and_a_reader_does_not(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own processes, a port that listens, the interfaces; no secret of the daemon's environment."""
    monkeypatch.setenv("API_KEY", "hunter2")
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        scene(workspace, 'tier = "analyst"\n') as (_, agent),
    ):
        port = agent.call("port_check", port=listening.getsockname()[1])["content"]
        listed = agent.call("process_list", name="py", limit=1000)["content"]
        assert "processes" in listed, listed
        processes = listed["processes"]
        interfaces = agent.call("network_interfaces")["content"]["interfaces"]
        variables = agent.call("env_vars", names=["API_KEY", "PATH"])
        rest = [agent.call(tool) for tool in ("system_info", "disk_usage")]
    assert port["open"]
    assert os.getpid() in {each["pid"] for each in processes}
    assert {each["name"] for each in interfaces} == {path.name for path in Path("/sys/class/net").iterdir()}
    assert "hunter2" not in json.dumps(variables)
    assert not [each for each in (variables, *rest) if each["is_error"]]
    with scene(workspace, 'tier = "reader"\n') as (_, agent):
        assert agent.call("system_info")["reason_code"] == "tier_too_low"
