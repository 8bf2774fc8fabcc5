"""A newcomer's first minutes with the installed programs: `epactl init`, `epad check`, `epad run`, `epactl status`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import EPACTL, EPAD, QUICK, Installation, installation
from listed_servers import AN_OLLAMA, Listed, listed_server
from patience import PATIENCE_SECONDS

AGENT = """
import json, os, time, urllib.request
body = json.dumps({"model": "llama3.2:latest", "messages": [{"role": "user", "content": "hello"}]})
ask = urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions", body.encode(), {"Content-Type": "application/json",
    "Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]})
with open("answer", "wb") as file:
    file.write(urllib.request.urlopen(ask).read())
time.sleep(3600)
"""


@pytest.fixture
def ollama() -> Iterator[Listed]:
    with listed_server(AN_OLLAMA) as one:
        yield one


@pytest.fixture
def house() -> Iterator[Installation]:
    """An empty directory; short times and free ports stand in a drop-in beside the file that is not there yet."""
    with installation("") as one:
        one.config.unlink()
        drop_ins = one.directory / "epad.toml.d"
        drop_ins.mkdir()
        (drop_ins / "quick.toml").write_text(QUICK)
        yield one


def typed(house: Installation, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the directory of the installation."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(house.directory / "no-daemon")}
    return subprocess.run(
        words,
        cwd=house.directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_from_nothing_to_an_own_agent_that_is_confined(house: Installation, ollama: Listed) -> None:
    """No daemon runs at first; the agent's first turn is answered by the server that was found."""
    workspace = house.directory / "agent"
    workspace.mkdir()
    (workspace / "agent.py").write_text(AGENT)
    made = typed(
        house,
        *(EPACTL, "init", house.config, "--server", ollama.url),
        *("--agent", f"{sys.executable} agent.py", "--workspace", "agent"),
    )
    assert made.returncode == 0, made.stderr
    assert f"found: ollama at {ollama.url}, 1 model: llama3.2:latest\n" in made.stdout
    assert 'require = "best" starts it with the walls that this machine has' in made.stdout
    checked = typed(house, EPAD, "check", "--config", house.config)
    assert checked.returncode == 0, checked.stderr
    assert "not confined" not in checked.stdout
    house.start()
    house.wait((workspace / "answer").exists, "the agent to be answered")
    house.wait(lambda: house.subsystem("agent")["tokens"]["turns"] == 1, "its turn to be written")
    assert "confined: workspace" in house.ctl("status", "agent").stdout
    assert "POST /v1/chat/completions" in ollama.asked


def test_the_example_asks_a_model_that_was_found(house: Installation, ollama: Listed) -> None:
    """One question, through epad; then it ends, and stays ended."""
    made = typed(house, EPACTL, "init", house.config, "--server", ollama.url)
    assert made.returncode == 0, made.stderr
    checked = typed(house, EPAD, "check", "--config", house.config)
    assert checked.returncode == 0, checked.stderr
    house.start()
    house.wait(lambda: house.subsystem("agent")["tokens"]["turns"] == 1, "the turn of the example")
    house.wait(lambda: house.subsystem("agent")["state"] == "stopped", "the example to end")
    assert "confined: workspace" in house.ctl("status", "agent").stdout
    assert house.status()["phase"] == "NORMAL"
