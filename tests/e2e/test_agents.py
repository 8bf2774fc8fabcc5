"""Agents that agents spawn, under the installed daemon: real processes, a model, budgets, consent, and kill -9."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from installed import Installation
from tool_agent import Agent, scene

PROGRAM = Path(__file__).parents[1] / "support/spawned_agent.py"
TABLES = """
budget = {{ tokens_in_all = 10_000, tokens_per_minute = 9_000 }}
tier = "analyst"
[agents.helper]
command = ["{python}", "{program}", "{{deeper}}", "{{stays}}"]
parents = ["agent", "helper"]
tier = "operator"
budget = {{ tokens = 5_000 }}
[agents.helper.parameters]
deeper = {{ least = 0, most = 5 }}
stays = {{ least = 0, most = 600 }}
[upstreams.here]
url = "unix:{socket}"
dialects = ["openai"]
embedded = true
[subsystems.model]
command = ["{python}", "-m", "runners.model", "--listen", "unix:{socket}", "--latency-ms", "0"]
gateway = false
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Installation, Agent]]:
    (tmp_path / "work").mkdir()
    socket = tmp_path / "m.sock"
    tables = TABLES.format(python=sys.executable, program=PROGRAM, socket=socket)
    with scene(tmp_path / "work", tables) as (house, agent):
        house.wait(socket.exists, "the model server")
        yield house, agent


def ask(agent: Agent, method: str, path: str, body: object = None) -> Any:
    return json.loads(agent.ask(method, path, body))


def wish(
    *, tokens: int = 2_000, deeper: int = 0, stays: int = 0, tier: str = "reader", **rest: Any
) -> dict[str, Any]:
    parameters = {"deeper": deeper, "stays": stays}
    budget = {"tokens": tokens}
    return {
        "template": "helper",
        "reason": "a test",
        "tier": tier,
        "budget": budget,
        "parameters": parameters,
        **rest,
    }


def used(house: Installation, scope: str, limit: str = "tokens_in_all") -> int:
    rows = house.client().get("/v1/budgets")["budgets"]
    return int(next(row["used"] for row in rows if row["scope"] == scope and row["name"] == limit))


def test_a_spawned_agent_asks_a_model_within_the_amount_that_it_was_given(
    place: tuple[Installation, Agent],
) -> None:
    """It spawns one of its own, too; what neither spent is their parent's again, to the token."""
    house, agent = place
    made = ask(agent, "POST", "/v1/agents", wish(deeper=1, input="the words"))
    assert made["tier"] == "reader", made
    name = made["name"]
    house.wait(lambda: ask(agent, "GET", f"/v1/agents/{name}")["state"] == "ended", "its end")
    ended = ask(agent, "GET", f"/v1/agents/{name}")
    told = json.loads(ended["answer"]["text"])
    below = told["below"]
    assert ended["answer"]["tier"] == "reader"
    assert told["input"] == "the words"
    assert told["turns"] == below["turns"] == [200, 200]
    assert told["spawned"][0] == 201
    assert used(house, "agent") == told["tokens"] + below["tokens"] > 0
    assert [one["name"] for one in ask(agent, "GET", "/v1/agents")["agents"]] == [
        name,
        told["spawned"][1]["name"],
    ]


def test_its_memory_is_its_own_and_both_are_on_record(place: tuple[Installation, Agent]) -> None:
    """Its parent does not find it, nor a later agent; a person hides it; and the trace is a tree."""
    house, agent = place
    made = ask(agent, "POST", "/v1/agents", wish(deeper=1, tier="analyst"))
    name = made["name"]
    house.wait(lambda: ask(agent, "GET", f"/v1/agents/{name}")["state"] == "ended", "its end")
    told = json.loads(ask(agent, "GET", f"/v1/agents/{name}")["answer"]["text"])
    assert told["stored"] is False
    assert told["below"]["stored"] is True  # a reader appends nothing
    assert agent.call("memory_search", query="harbour")["content"]["results"] == []
    listed = house.client().get("/v1/memory")
    assert [(one["scope"], one["author"]) for one in listed["entities"]] == [(made["session"], name)]
    assert (
        house.ctl("memory", "retract", "--session", made["session"], "--reason", "r", "--yes").returncode == 0
    )
    assert house.client().get("/v1/memory")["hidden_sessions"] == [made["session"]]

    shown = house.ctl("trace", "agent").stdout
    assert "asked for [agents.helper]: a test" in shown
    assert f"{name}, tier analyst, ended by itself" in shown
    assert f"{told['spawned'][1]['name']}, tier reader, ended by itself" in shown
    child = house.ask("trace", made["session"])
    assert (child["session"]["parent"], child["session"]["template"]) == (made["parent_session"], "helper")
    assert child["session"]["why"] == "a test"
    assert [one["session"] for one in child["spawned"]] == [told["spawned"][1]["session"]]
    kinds = [event["kind"] for event in house.client().lines("/v1/events", {"limit": "1000"})]
    assert kinds.count("agent.spawned") == kinds.count("agent.ended") == 2


def test_it_is_bounded(place: tuple[Installation, Agent]) -> None:
    """By the parent's budget and by a person's consent; and it does not outlive its parent."""
    house, agent = place
    over = ask(agent, "POST", "/v1/agents", wish(tokens=5_001))
    assert over["code"] == "spawn/budget"
    first = ask(agent, "POST", "/v1/agents", wish(tokens=5_000, stays=600))
    house.wait(lambda: used(house, first["name"]) > 0, "its turns")
    assert used(house, "agent") == 5_000
    second = ask(agent, "POST", "/v1/agents", wish(tokens=4_001))
    assert second["code"].startswith("spawn/budget/agent/tokens_per_minute"), second
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, agent, "POST", "/v1/agents", wish(tier="operator"))
        house.wait(lambda: house.client().get("/v1/approvals")["tool_questions"], "the question")
        number = str(house.client().get("/v1/approvals")["tool_questions"][0]["number"])
        assert house.ctl("deny", number).returncode == 0
        assert asking.result()["code"] == "spawn/consent"
    assert [one["name"] for one in house.ask("agents")["agents"]] == [first["name"]]
    assert house.ctl("quarantine", "agent", "--reason", "r").returncode == 0
    house.wait(lambda: house.subsystem(first["name"])["state"] == "quarantined", "the hold of its agent")
    assert ask(agent, "POST", "/v1/agents", wish())["code"] == "spawn/hold"
    assert house.ctl("release", "agent", "--reason", "r").returncode == 0
    house.wait(lambda: house.subsystem(first["name"])["state"] == "running", "its release")
    assert house.ctl("restart", "agent", "--reason", "r").returncode == 0
    house.wait(lambda: not house.ask("agents")["agents"], "the end of the agent")
    assert first["name"] not in house.children().values()
    assert ask(agent, "GET", "/v1/agents")["agents"] == []


def test_it_is_adopted_after_a_crash_of_the_daemon(place: tuple[Installation, Agent]) -> None:
    """With what is left of its amount; and given back once when it ends."""
    house, agent = place
    made = ask(agent, "POST", "/v1/agents", wish(tokens=3_000, stays=600))
    house.wait(lambda: used(house, made["name"]) > 0, "its turns")
    house.wait((house.state / f"subsystems/{made['name']}/answer").exists, "its answer")
    spent = used(house, made["name"])
    assert used(house, "agent") == 3_000
    house.kill()
    house.start()
    assert [one["name"] for one in house.ask("agents")["agents"]] == [made["name"]]
    assert (used(house, "agent"), used(house, made["name"])) == (3_000, spent)
    assert ask(agent, "DELETE", f"/v1/agents/{made['name']}")["state"] == "ended"
    assert used(house, "agent") == spent
    house.kill()
    house.start()
    assert used(house, "agent") == spent
