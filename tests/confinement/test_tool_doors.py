"""The doors of tools' workers: whose they are, and the one list of hosts behind them."""

from __future__ import annotations

from pathlib import Path

from epad.configuration.load import load
from epad.configuration.schema import Config
from epad.confinement.changes import policy_changes
from epad.confinement.tool_doors import (
    is_tool_door,
    policies_with_tools,
    subsystem_of,
    tool_door,
    tool_policy,
)


def config(directory: Path, text: str) -> Config:
    (directory / "epad.toml").write_text(f'[subsystems.agent]\ncommand = ["true"]\n{text}')
    return load(directory / "epad.toml")


def test_a_tools_door_is_told_from_a_subsystems() -> None:
    """By a character that no name of a subsystem has."""
    door = tool_door("agent", "http")
    assert is_tool_door(door)
    assert subsystem_of(door) == "agent"
    assert not is_tool_door("agent")
    assert subsystem_of("agent") == "agent"


def test_nothing_is_reached_without_a_list(tmp_path: Path) -> None:
    """The shipped list is empty, and a subsystem's own does not count."""
    own = '[tools]\nenabled = true\n[subsystems.agent.confine]\nhosts = ["a.example"]\nask = true\n'
    policy = tool_policy(tool_door("agent", "http"), config(tmp_path, own))
    assert (policy.hosts, policy.ask, policy.secrets, policy.intercept) == (
        (),
        False,
        frozenset(),
        frozenset(),
    )


def test_the_list_is_the_operators_and_for_subsystems_that_there_are(tmp_path: Path) -> None:
    """One that a reload has removed reaches nothing any more."""
    listed = config(tmp_path, '[tools]\nenabled = true\n[tools.web]\nhosts = ["b.example:80", "a.example"]\n')
    assert list(map(str, tool_policy(tool_door("agent", "api"), listed).hosts)) == [
        "a.example:443",
        "b.example:80",
    ]
    assert tool_policy(tool_door("gone", "api"), listed).hosts == ()


def test_what_widens_the_list_is_a_change_of_a_policy(tmp_path: Path) -> None:
    """As that of a subsystem is, and told by the list's name."""
    before, after = config(tmp_path, ""), config(tmp_path, '[tools.web]\nhosts = ["a.example"]\n')
    (change,) = policy_changes(policies_with_tools({}, before), policies_with_tools({}, after))
    assert change.lines() == ("tools.web: + connect a.example:443; at once",)
