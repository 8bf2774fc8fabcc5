"""An agent's walls are held against its parent's, and its answer is read as data of somebody."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec import structs

from epad.agents.agent import Agent, AgentState
from epad.agents.answer import ANSWER, MOST_ANSWER_BYTES, read_answer
from epad.agents.book import AgentBook
from epad.agents.template import spec_of
from epad.configuration.agent_schema import AgentConfig
from epad.configuration.directories import Directories
from epad.configuration.load import load
from epad.configuration.schema import SubsystemConfig
from epad.daemon.agents import AgentHouse, TemplateStarts, once
from epad.daemon.joints import Joints
from epad.gate.tiers import Tier
from epad.gateway.carves import Carved
from epad.supervisor.engine import Launch
from epad.supervisor.errors import SpawnError

CONFIG = """
[tools]
enabled = true
[subsystems.parent]
command = ["true"]
tools = ["files.*"]
{parent}
[agents.child]
command = ["true"]
parents = ["parent"]
{child}
[secrets.token]
file = "{secret}"
hosts = ["api.example"]
"""
WALLS = '[subsystems.parent.confine]\nworkspace = "{work}/ws"\nhosts = ["api.example", "*.b.example"]\n'


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    (tmp_path / "ws/inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "token").write_text("x")
    made = Directories(tmp_path / "state", tmp_path / "run")
    made.create()
    return made


def wider(directories: Directories, parent: str, child: str) -> str:
    """What an agent of this template would reach beyond its parent."""
    work = directories.state.parent
    text = CONFIG.format(parent=parent, child=child, secret=work / "token").replace("{work}", str(work))
    (work / "epad.toml").write_text(text)
    config = load(work / "epad.toml")
    joints = cast("Joints", SimpleNamespace(config=config))
    house = AgentHouse(joints, cast("AgentBook", None), directories)
    template: AgentConfig = config.agents["child"]
    spec = spec_of(template, template.command, Tier.READER, Carved("parent", 9), config.subsystems["parent"])
    return house.wider("parent", "child-1", spec)


@pytest.mark.parametrize(
    "child",
    [
        "",
        'confine = { profile = "workspace", workspace = "{work}/ws/inner" }',
        'confine = { profile = "workspace", workspace = "{work}/ws", hosts = ["x.b.example"] }',
        'confine = { profile = "sealed", workspace = "{work}/ws" }',
        'confine = { profile = "workspace" }',
    ],
    ids=["its parent's", "a part of the workspace", "a host of a wildcard", "sealed", "its own directory"],
)
def test_no_more_than_its_parents_cell_is_given(directories: Directories, child: str) -> None:
    assert wider(directories, WALLS, child) == ""


@pytest.mark.parametrize(
    ("child", "what"),
    [
        ('confine = { profile = "open" }', "no walls"),
        ('confine = { profile = "gateway-only" }', "write /"),
        ('confine = { workspace = "{work}/other" }', "other"),
        ('confine = { workspace = "{work}" }', "write"),
        ('confine = { workspace = "{work}/ws", read = ["{work}/other"] }', "read"),
        ('confine = { workspace = "{work}/ws", hosts = ["c.example"] }', "connect c.example"),
        ('confine = { workspace = "{work}/ws", hosts = ["*.api.example"] }', "connect *.api.example"),
        ('confine = { workspace = "{work}/ws", hosts = ["api.example:22"] }', "api.example:22"),
        ('confine = { workspace = "{work}/ws", secrets = ["token"] }', "secret token"),
        ('confine = { workspace = "{work}/ws", gpu = true }', "GPUs"),
        ('confine = { workspace = "{work}/ws", ask = true }', "ask a person"),
        ('confine = { workspace = "{work}/ws", require = "best" }', "wall"),
    ],
)
def test_what_is_more_is_named(directories: Directories, child: str, what: str) -> None:
    assert what in wider(directories, WALLS, child)


def test_whoever_is_not_confined_may_have_confined_agents(directories: Directories) -> None:
    assert wider(directories, "", 'confine = { workspace = "{work}/other" }') == ""


def test_an_answer_is_a_regular_file_of_its_own_and_no_more_than_is_kept(directories: Directories) -> None:
    """A link to somebody else's file is none, and a pipe keeps nobody waiting; then what was printed counts."""
    work = directories.work("child-1")
    work.mkdir(parents=True)
    assert read_answer(directories, "child-1").text == ""
    directories.log("child-1").write_text("printed")
    (work / ANSWER).symlink_to(directories.state.parent / "token")
    assert read_answer(directories, "child-1").text == "printed"
    (work / ANSWER).unlink()
    os.mkfifo(work / ANSWER)
    assert read_answer(directories, "child-1").text == "printed"
    (work / ANSWER).unlink()
    (work / ANSWER).write_bytes(b"\xff" + b"x" * MOST_ANSWER_BYTES)
    left = read_answer(directories, "child-1")
    assert (left.is_cut, left.text[:2], len(left.text)) == (True, "\ufffdx", MOST_ANSWER_BYTES)


async def test_an_agent_is_started_once() -> None:
    """Neither a recovery nor an order starts it again: it would be another process with the same session."""
    preparing = Agent("x-1", "x", "chat", "p", "s", 1, 1, "why", 9, 0, SubsystemConfig(), 1.0, 0.0, "")
    book = SimpleNamespace(living={"x-1": preparing})

    async def environment(name: str) -> dict[str, str]:
        return {"NAME": name}

    of = once(cast("AgentBook", book), environment)
    assert await of("x-1") == {"NAME": "x-1"}
    assert await of("chat") == {"NAME": "chat"}
    book.living["x-1"] = structs.replace(preparing, state=AgentState.RUNNING)
    with pytest.raises(SpawnError, match="never started again"):
        await of("x-1")


async def test_an_agent_is_measured_as_its_template() -> None:
    """Under one name, without its parameters: so the next agent of a changed template is told as changed."""
    agent = Agent("x-1", "x", "chat", "p", "s", 1, 1, "why", 9, 0, SubsystemConfig(), 1.0, 0.0, "")
    seen: list[tuple[str, tuple[str, ...]]] = []

    class Starts:
        async def check(self, subsystem: str, spec: SubsystemConfig, launch: Launch) -> None:
            del spec
            seen.append((subsystem, launch.command))

    joints = SimpleNamespace(config=SimpleNamespace(agents={"x": AgentConfig(("prog", "{p}"), ("chat",))}))
    book = SimpleNamespace(living={"x-1": agent})
    starts = TemplateStarts(cast("AgentBook", book), cast("Joints", joints), Starts())
    for name, command in (("x-1", ("prog", "given")), ("chat", ("chat",))):
        launch = Launch(command, {}, Path("/"), Path("/log"), {})
        await starts.check(name, SubsystemConfig(), launch)
    assert seen == [("x", ("prog", "{p}")), ("chat", ("chat",))]
