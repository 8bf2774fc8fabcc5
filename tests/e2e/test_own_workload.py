"""A user's own configuration: a model server of theirs, a client with a key file, the runners from the docs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from installed import QUICK, Installation, installation

ROOT = Path(__file__).parents[2]

CONFIG = """
[upstreams.mine]
url = "unix:{directory}/model.sock"
dialects = ["openai", "ollama"]
models = ["embedded-*"]
embedded = true

[subsystems.model]
command = ["{python}", "-m", "runners.model", "--listen", "unix:{directory}/model.sock"]
essential = true
gateway = false
notifies = true

[subsystems.notebook]
kind = "client"
budget = {{ tokens_per_hour = 4000 }}

[subsystems.counting]
command = {command}
depends_on = ["model"]
restart = {{ policy = "never" }}
"""


def documented(language: str) -> str:
    """The block of that language in the runner contract."""
    text = (ROOT / "docs/runner-contract.md").read_text()
    return text.split(f"```{language}\n")[1].split("```")[0]


@pytest.fixture
def mine() -> Iterator[Installation]:
    with installation() as one:
        script = one.directory / "counting.py"
        script.write_text(documented("python"))
        config = CONFIG.format(
            directory=one.directory, python=sys.executable, command=f'["{sys.executable}", "{script}"]'
        )
        one.config.write_text(QUICK + config)
        yield one


def test_client_with_its_key_file_and_the_real_openai_library(mine: Installation) -> None:
    """Plain and streamed answers, tokens counted; the budget's end is an error the library does not retry."""
    mine.start()
    key = (mine.state / "keys/notebook.key").read_text().strip()
    url = mine.status()["gateway"]["url"] + "/v1"
    with openai.OpenAI(base_url=url, api_key=key) as client:
        ask: dict[str, Any] = {
            "model": "embedded-markov-chat",
            "messages": [{"role": "user", "content": "hello"}],
        }
        answer = client.chat.completions.create(**ask, max_tokens=20)
        assert answer.choices[0].message.content
        with client.chat.completions.create(**ask, max_tokens=20, stream=True) as stream:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert answer.usage is not None
        # A turn's end is written after its answer.
        mine.wait(lambda: mine.subsystem("notebook")["tokens"]["turns"] == 2, "both turns to be written")
        assert mine.subsystem("notebook")["tokens"]["output"] >= answer.usage.completion_tokens
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**{**ask, "messages": [{"role": "user", "content": "x" * 90_000}]})
        assert refused.value.code == "request_exceeds_budget"
    stranger = openai.OpenAI(base_url=url, api_key="epad-notebook-guessed", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_python_runner_from_the_docs_reports_its_progress(mine: Installation) -> None:
    """What the contract's page shows is what works."""
    mine.start()
    mine.wait(lambda: mine.subsystem("counting")["progress"] == {"done": 10, "total": 10}, "ten of ten")
    mine.wait(lambda: mine.subsystem("counting")["state"] == "stopped", "the finished runner to end")
    mine.wait(lambda: mine.subsystem("counting")["tokens"]["turns"] == 10, "its turns to be written")
    assert mine.status()["phase"] == "NORMAL"


def test_shell_runner_from_the_docs_reports_its_progress(mine: Installation) -> None:
    """The same contract, without a line of Python."""
    if not (shutil.which("systemd-notify") and shutil.which("curl")):
        pytest.skip("no systemd-notify or no curl here")
    script = mine.directory / "counting.py"
    script.write_text(documented("sh"))
    mine.config.write_text(
        mine.config.read_text().replace(f'"{sys.executable}", "{script}"', f'"sh", "{script}"')
    )
    checked = subprocess.run(
        [Path(sys.executable).parent / "epad", "check", "--config", mine.config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    mine.start()
    mine.wait(lambda: mine.subsystem("counting")["tokens"]["turns"] == 10, "ten turns")
    mine.wait(lambda: mine.subsystem("counting")["progress"] == {"done": 10, "total": 10}, "ten of ten")
