"""The first file of a machine: valid whatever the servers and the agent are called, and every model is reached."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.configuration.confining import unconfined
from epad.configuration.first_file import Agent, FoundServer, first_configuration, names_of, quoted
from epad.configuration.load import load
from epad.configuration.schema import Config

OLLAMA = FoundServer("http://127.0.0.1:11434", "ollama", ("llama3.2:latest",))
VLLM = FoundServer("http://127.0.0.1:8000", "vllm", ("org/base", "odd[1]*"))
LLAMA_CPP = FoundServer("http://127.0.0.1:8080", "llama.cpp", ("smol",))
PROXY = FoundServer("http://127.0.0.1:4000", "generic", ("gpt",))
UNTOLD = FoundServer("http://127.0.0.1:9000", "", ("m",))
CLOSED = FoundServer("http://127.0.0.1:8001", "", wants_key=True)
AGENT = Agent(("python3", "agent.py"), "/home/me/agent")


def loaded(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "epad.toml"
    file.write_text(text)
    return load(file)


@pytest.mark.parametrize("agent", [None, AGENT])
@pytest.mark.parametrize(
    "servers", [[], [OLLAMA], [VLLM, OLLAMA, LLAMA_CPP], [PROXY, UNTOLD], [CLOSED], [CLOSED, VLLM]]
)
def test_it_is_a_configuration_in_which_nothing_is_open(
    tmp_path: Path, servers: list[FoundServer], agent: Agent | None
) -> None:
    """With each set of servers, with an agent and without."""
    config = loaded(tmp_path, first_configuration(servers, agent))
    assert config.confine.default == "workspace"
    assert list(unconfined(config)) == []
    open_ones = [server for server in servers if not server.wants_key]
    assert sorted(upstream.url for upstream in config.upstreams.values()) == sorted(s.url for s in open_ones)
    assert list(config.subsystems) == (["agent"] if agent else [])


def test_the_agent_is_confined_with_the_walls_there_are(tmp_path: Path) -> None:
    agent = loaded(tmp_path, first_configuration([OLLAMA], AGENT)).subsystems["agent"]
    assert agent.command == AGENT.command
    assert agent.working_directory == AGENT.workspace
    assert agent.budget.tokens_per_minute > 0
    assert agent.confine is not None
    assert (agent.confine.profile, agent.confine.workspace) == ("workspace", AGENT.workspace)
    assert agent.confine.require == "best"


def test_the_commented_example_is_a_configuration_too(tmp_path: Path) -> None:
    """Without its marks: a person takes them away."""
    text = first_configuration([OLLAMA], None)
    example = text[text.index("# [subsystems.agent]") :]
    whole = text + "\n".join(line.removeprefix("#").removeprefix(" ") for line in example.splitlines()[:-1])
    assert loaded(tmp_path, whole).subsystems["agent"].confine is not None


def test_of_several_servers_ollama_gets_the_models_that_no_other_names(tmp_path: Path) -> None:
    """Ollama loads others at any time; the others are named as they list them, with no pattern in their names."""
    upstreams = loaded(tmp_path, first_configuration([VLLM, OLLAMA], None)).upstreams
    assert upstreams["ollama"].models == ("*",)
    assert upstreams["vllm"].models == ("org/base", "odd[[]1][*]")
    assert loaded(tmp_path, first_configuration([VLLM], None)).upstreams["vllm"].models == ("*",)


def test_only_what_runs_here_alone_is_free(tmp_path: Path) -> None:
    """A proxy, and a server that does not tell its kind, may ask one that costs money."""
    upstreams = loaded(tmp_path, first_configuration([VLLM, OLLAMA, PROXY, UNTOLD], None)).upstreams
    assert {name: upstream.free for name, upstream in upstreams.items()} == {
        "vllm": True, "ollama": True, "port-4000": False, "port-9000": False,
    }  # fmt: skip
    assert upstreams["ollama"].dialects == ("openai", "ollama")
    assert upstreams["vllm"].dialects == ("openai",)


def test_two_of_a_kind_have_two_names() -> None:
    assert names_of([VLLM, LLAMA_CPP, VLLM, VLLM]) == ["vllm", "llama-cpp", "vllm-2", "vllm-3"]


def test_a_server_that_wants_a_key_says_where_it_goes() -> None:
    """As a comment, since a turn without the key would only be refused."""
    text = first_configuration([CLOSED], AGENT)
    assert '# api_key_file = "/home/me/port-8001.key"' in text.splitlines()
    assert "# [upstreams.port-8001]" in text.splitlines()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_quoted(text: str) -> None:
    """Read back as it was, whatever it holds: quotes, line ends, DEL."""
    assert tomllib.loads(f"key = {quoted(text)}") == {"key": text}
    assert "\n" not in quoted(text)


def test_a_long_list_takes_a_line_for_each(tmp_path: Path) -> None:
    models = tuple(f"organisation/model-of-size-{number}b" for number in range(30))
    text = first_configuration([OLLAMA, FoundServer("http://127.0.0.1:1234", "lmstudio", models)], None)
    assert loaded(tmp_path, text).upstreams["lmstudio"].models == models
    assert max(map(len, text.splitlines())) < 170
