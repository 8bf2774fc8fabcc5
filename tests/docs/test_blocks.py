"""Every code block of README and docs is executed, or says why it is not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from document_blocks import ROOT, Block, blocks
from installed import BIN, QUICK, Installation, installation
from patience import PATIENCE_SECONDS

from epad.configuration.load import load
from epad.configuration.schema import Config
from statemachine.table import TABLE

LANGUAGES = {"console", "toml", "python", "sh", "mermaid"}
# A daemon that stays, on ports that are everyone's, is checked instead of run; so is what takes minutes.
# The daemon of these tests has an epad.toml already, and `epactl init` replaces none.
INSTEAD = {
    "epad run": "epad check",
    "make ": "make -n ",
    "events -f": "events",
    "init epad.toml": "init first.toml",
    "explain TURN": "explain",  # a turn's name is only known once it is there
    'undo TURN --reason "wrong"': "tools",
}


def test_every_block_is_run_or_says_why_not() -> None:
    """A language that nobody runs needs a line above it: `<!-- not run: the reason -->`."""
    for block in blocks():
        assert block.excuse or block.language in LANGUAGES, f"{block}: ```{block.language}"


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_configuration(block: Block, tmp_path: Path) -> None:
    """Each is read as a file of its own; of a part of a subsystem, the rest is a program that is there."""
    text = re.sub(r"/home/me/agent", str(tmp_path), block.text)
    for name in sorted(set(re.findall(r"^\[subsystems\.([a-z]+)\.", text, re.MULTILINE))):
        if f"[subsystems.{name}]" not in text:
            text += f'\n[subsystems.{name}]\ncommand = ["true"]\n'
    file = tmp_path / "epad.toml"
    file.write_text(text)
    assert isinstance(load(file), Config)


@pytest.mark.parametrize("block", blocks("mermaid"), ids=str)
def test_diagrams(block: Block) -> None:
    """Each arrow is one that the machine can take."""
    arrows = re.findall(r"^ *([A-Z]+) --> ([A-Z]+)", block.text, re.MULTILINE)
    assert arrows
    assert set(arrows) <= {(row.source.value, row.destination.value) for row in TABLE}


@pytest.fixture(scope="module")
def home() -> Iterator[Installation]:
    """A person's home, with epad running in it as a newcomer has it."""
    with installation(QUICK + "[hysteresis.token_burn]\nclear_after_seconds = 20.0\n") as house:
        house.state = house.directory / ".local/state/epad"
        house.start()
        house.wait(lambda: len(house.children()) >= 3, "the three subsystems")
        yield house
        house.stop()


def test_consoles(home: Installation) -> None:
    """Each command is typed in order; after a loop was begun, in the quarantine that follows."""
    for block in blocks("console"):
        for command in block.commands:
            if "--config epad.toml" in command:
                _write_configuration(block, home.directory)
            _type(command, home, block)
            if command.startswith("touch") and "loop" in command:
                home.wait_phase("QUARANTINE")


def _write_configuration(block: Block, directory: Path) -> None:
    """The file that the same document shows."""
    shown = next(b for b in blocks("toml") if b.document == block.document)
    (directory / "epad.toml").write_text(shown.text.replace("/home/me/agent", str(directory)))


def _type(command: str, home: Installation, block: Block) -> None:
    for written, instead in INSTEAD.items():
        command = command.replace(written, instead)
    command = command.replace(".venv/bin/", "").replace("NAME", "chat")
    environment = {
        "HOME": str(home.directory),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "EPAD_SOCKET": str(home.state / "run/control.sock"),
    }
    place = ROOT if command.startswith("make") else home.directory
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (str(block), command, done.stdout, done.stderr)


def _with_models(house: Installation, name: str, command: list[str]) -> str:
    """The embedded model server, and a program that asks it."""
    socket = house.directory / "model.sock"
    server = [sys.executable, "-m", "runners.model", "--listen", f"unix:{socket}"]
    return QUICK + (
        f'[upstreams.embedded]\nurl = "unix:{socket}"\ndialects = ["openai"]\nembedded = true\n'
        f'[subsystems.model]\ncommand = {server}\ngateway = false\nnotifies = true\nworking_directory = "{ROOT}"\n'
        f'[subsystems.{name}]\ncommand = {command}\nnotifies = true\ndepends_on = ["model"]\n'
        f'environment = {{ PYTHONPATH = "{ROOT}" }}\nbudget = {{ tokens_per_minute = 1000000 }}\n'
    )


@pytest.mark.parametrize(
    "block",
    [b for b in [*blocks("python"), *blocks("sh")] if "PROGRESS" in b.text or "contract" in b.text],
    ids=str,
)
def test_runners(block: Block) -> None:
    """A child of a real daemon asks the embedded models ten times, and its progress is seen."""
    tools = [] if block.language == "python" else ["systemd-notify", "curl"]
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"no {' and no '.join(missing)} here")
    with installation() as house:
        program = house.directory / "runner"
        program.write_text(
            block.text + "import time\ntime.sleep(600)\n" if not tools else block.text + "sleep 600\n"
        )
        command = [sys.executable if not tools else "sh", str(program)]
        house.config.write_text(_with_models(house, "counter", command))
        house.start()
        house.wait(lambda: (house.subsystem("counter")["progress"] or {}).get("done") == 10, "ten of ten")


@pytest.mark.parametrize("block", [b for b in blocks("python") if "contract" not in b.text], ids=str)
def test_clients(block: Block, tmp_path: Path) -> None:
    """As far as it goes without a model: the key is read where it is said to be."""
    key = tmp_path / ".local/state/epad/keys/notebook.key"
    key.parent.mkdir(parents=True)
    key.write_text("epad-key\n")
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
