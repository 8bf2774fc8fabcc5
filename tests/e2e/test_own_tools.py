"""The tools that the daemon answers itself, under the installed daemon: by their examples, and where they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from installed import EPACTL, Installation
from tool_agent import Agent, records, scene

from epad.ledger.record import ToolClosed
from runners.tools import catalogue
from runners.tools.catalogue import Tool
from runners.tools.signature import is_by_daemon

OWN = {"epa", "monitor", "ollama"}
MODEL = "embedded-markov-chat"
TABLES = """
budget = {{ tokens_per_minute = 50_000 }}
tier = "author"
[subsystems.shy]
command = ["sh", "-c", "echo a line; printf 'hidden \\\\033[8m text\\\\n'; exec sleep 600"]
[upstreams.here]
url = "unix:{socket}"
dialects = ["openai"]
embedded = true
[subsystems.model]
command = ["{python}", "-m", "runners.model", "--listen", "unix:{socket}", "--latency-ms", "0"]
gateway = false
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Agent]]:
    """A daemon with a model, an agent, and a subsystem that prints; the agent may read the host."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "work").mkdir()
    socket = folder / "m.sock"
    with scene(folder / "work", TABLES.format(python=sys.executable, socket=socket)) as (house, agent):
        house.wait(socket.exists, "the model server")
        yield house, agent


def examples() -> Iterator[tuple[Tool, dict[str, Any]]]:
    for tool in catalogue.load(sorted(OWN)).values():
        if is_by_daemon(tool.call):
            yield from ((tool, dict(example)) for example in tool.meta.examples)


@pytest.mark.parametrize(
    ("tool", "example"), list(examples()), ids=lambda value: getattr(getattr(value, "meta", None), "name", "")
)
def test_a_tool_works_as_its_example_says(
    place: tuple[Installation, Agent], tool: Tool, example: dict[str, Any]
) -> None:
    """Its result is of the type that its metadata shows; a model's name is that of this machine's."""
    if "model" in example:
        example["model"] = MODEL
    answer = place[1].call(tool.meta.name, **example)
    assert not answer["is_error"], answer
    assert msgspec.to_builtins(msgspec.convert(answer["content"], tool.meta.result)) == answer["content"]


def test_a_message_is_signed_by_a_key_of_the_vault(place: tuple[Installation, Agent]) -> None:
    """It is bound to the agent, and the answer and the records have nothing of it. Another's key is refused."""
    house, agent = place
    socket = house.state / "run/control.sock"
    for name, whose in (("webhook", "agent"), ("other", "shy")):
        kept = subprocess.run(
            [EPACTL, "--socket", socket, "secret", "set", name, "--for", whose],
            input=b"Jefe",
            capture_output=True,
            check=False,
        )
        if kept.returncode and os.geteuid():
            pytest.skip("only root may seal by the host key")
        assert kept.returncode == 0, kept.stderr

    asked = {"message": "what do ya want for nothing?", "key_reference": "{{secret:webhook}}"}
    signed = agent.call("hmac_sign", **asked)
    assert signed["content"] == {"hex": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"}
    asked["key_reference"] = "{{secret:other}}"
    assert "not bound to agent" in agent.call("hmac_sign", **asked)["content"]["error"]
    house.wait(
        lambda: any(e["fields"]["secret"] == "webhook" for e in house.events("secret.used")), "its use"
    )


def test_a_model_is_asked_on_the_callers_budget(place: tuple[Installation, Agent]) -> None:
    """The tool's turn names the model's turn, which is in the ledger like any other, and counts."""
    house, agent = place
    before = house.subsystem("agent")["tokens"]
    said = agent.call("ollama_generate", model=MODEL, prompt="Say hello.", max_tokens=16)["content"]
    after = house.subsystem("agent")["tokens"]

    assert MODEL in agent.call("ollama_models")["content"]["models"]
    assert after["turns"] == before["turns"] + 1
    assert after["output"] - before["output"] == said["output_tokens"] > 0
    assert said["turn"] in house.ctl("ledger", "show", "--state", str(house.state)).stdout
    left = {one["name"]: one for one in agent.call("epa_budget")["content"]["limits"]}
    assert left["tokens_per_minute"]["used"] > 0


def test_what_the_gateway_refuses_is_said_with_its_reason(place: tuple[Installation, Agent]) -> None:
    """A model that there is none of, and one call over the budget."""
    unknown = place[1].call("ollama_generate", model="nope", prompt="x", max_tokens=1)
    over = place[1].call("ollama_generate", model=MODEL, prompt="x " * 30_000, max_tokens=8_000)

    assert "404" in unknown["content"]["error"]
    assert unknown["content"]["hint"]
    assert over["is_error"]
    assert "tokens" in over["content"]["error"]


def test_the_output_of_a_subsystem_has_nothing_that_a_terminal_obeys(
    place: tuple[Installation, Agent],
) -> None:
    """And a subsystem that there is none of is told with those that there are."""
    house, agent = place
    house.wait(lambda: "a line" in str(agent.call("logs_tail", subsystem="shy")), "the output")

    lines = agent.call("logs_tail", subsystem="shy")["content"]["lines"]
    assert lines == ["a line", "hidden ?[8m text"]
    wrong = agent.call("service_status", name="nobody")["content"]
    assert wrong["error"] == "there is no subsystem 'nobody'"
    assert "shy" in wrong["hint"]


def test_a_report_is_an_event_and_holds_nobody(place: tuple[Installation, Agent]) -> None:
    """Of a warning too; hidden characters are shown."""
    house, agent = place
    for severity in ("info", "warning"):
        assert agent.call("epa_report", severity=severity, text="look\x1b[2J here")["content"] == {
            "noted": True
        }
    house.wait(lambda: len(house.events("agent.reported")) >= 3, "the events")

    told = [one["fields"] for one in house.events("agent.reported")][-2:]
    assert {one["severity"] for one in told} == {"info", "warning"}
    assert {one["text"] for one in told} == {"look?[2J here"}
    assert house.status()["phase"] == "NORMAL"
    too_grave = agent.call("epa_report", severity="critical", text="x")
    assert "severity" in too_grave["content"]["error"]


def test_an_agent_learns_why_it_was_held_and_nothing_of_others(place: tuple[Installation, Agent]) -> None:
    """After its release: the chain is about itself, and one link can be asked for by its id."""
    house, agent = place
    assert house.ctl("quarantine", "shy", "--reason", "a secret of shy's").returncode == 0
    assert house.ctl("quarantine", "agent", "--reason", "a look at the agent").returncode == 0
    assert house.ctl("release", "agent", "--reason", "done").returncode == 0
    house.wait(lambda: not agent.call("epa_status")["is_error"], "the release")

    told = agent.call("epa_explain")["content"]
    texts = [one["text"] for one in told["chain"]]
    assert any("a look at the agent" in text for text in texts)
    assert not any("a secret of shy's" in text for text in texts)
    [link, *_] = told["chain"]
    assert {one["id"] for one in agent.call("epa_explain", id=link["id"])["content"]["chain"]} == {link["id"]}
    assert agent.call("epa_status")["content"]["hold"] == "open"
    assert house.ctl("release", "shy", "--reason", "done").returncode == 0


def test_each_call_has_its_end_on_the_ledger(place: tuple[Installation, Agent]) -> None:
    """As a worker's has."""
    house, agent = place
    turn = agent.call("epa_status")["turn"]
    house.wait(
        lambda: any(isinstance(one, ToolClosed) and one.turn == turn for one in records(house)), "its end"
    )
