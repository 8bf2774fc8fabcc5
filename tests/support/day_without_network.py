"""Use everything of the installed product once: the newcomer's daemon, every look, and every tool by its examples.

Run it where there is no network; it fails where anything needs one. `python day_without_network.py FOLDER`.
"""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

from installed import BIN, QUICK, Installation, installation
from tool_agent import Agent, scene
from tool_process import make_repository, make_workspace

from epad.operations.registry import Operation
from runners.tools import catalogue

TABLES = """
tier = "author"
[probes.tools]
identical_calls = 1000000
refusals = 1000000
failing_calls = 1000000
[subsystems.walled]
command = ["{python}", "-c", "import time; print('up', flush=True); time.sleep(600)"]
[subsystems.walled.confine]
require = "best"
[upstreams.here]
url = "unix:{socket}"
dialects = ["openai"]
embedded = true
[subsystems.model]
command = ["{python}", "-m", "runners.model", "--listen", "unix:{socket}", "--latency-ms", "0"]
gateway = false
"""
STREAMS = {Operation.EVENTS_READ, Operation.LOGS_READ}


def main() -> None:
    """Have a day; print how many tools were called."""
    folder = Path(sys.argv[1])
    with installation(QUICK) as house:
        newcomer(house)
    work = folder / "work"
    work.mkdir()
    make_repository(make_workspace(work))
    socket = folder / "model.sock"
    with scene(work, TABLES.format(python=sys.executable, socket=socket)) as (house, agent):
        house.wait(lambda: house.subsystem("model")["state"] == "running", "the model server")
        house.wait(lambda: house.subsystem("walled")["state"] == "running", "the confined agent")
        print("tools called:", call_all(agent))
        looks(house)


def newcomer(house: Installation) -> None:
    """Start what `make run` starts; look at it; save, rehearse a disaster, and begin again."""
    house.start()
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] > 0, "turns")
    for url in (house.status()["web"]["url"], house.status()["metrics"]["url"]):
        with urllib.request.urlopen(url, timeout=30) as page:
            assert page.read()
    for command in (
        ("checkpoint", "create", "--reason", "x"),
        ("ledger", "verify", "--full"),
        ("quarantine", "chat", "--reason", "x"),
        ("release", "chat", "--reason", "x"),
        ("reload",),
        ("simulate", "--since", "1h"),
        ("doctor",),
        ("init", str(house.directory / "first.toml")),
        ("lifeboat", "enter", "--yes", "--reason", "x"),
        ("lifeboat", "relaunch", "--reason", "x"),
    ):
        house.ctl(*command)
    looks(house)
    assert house.stop() == 0


def looks(house: Installation) -> None:
    """Ask whatever can be asked without a name."""
    for operation in Operation:
        if (
            not operation.is_order
            and operation.command
            and "{name}" not in operation.path
            and operation not in STREAMS
            and "document" not in operation.query
        ):
            done = house.ctl(*operation.command.split())
            assert done.returncode in {0, 1}, (operation, done.stderr)


def call_all(agent: Agent) -> int:
    """Call each tool by its examples; what leads to the network is refused, since no host is open.

    It comes first: a session that has read of all kinds is asked about each host, and nobody answers.
    """
    tools = catalogue.load(catalogue.CATEGORIES)
    for name, tool in sorted(tools.items(), key=lambda one: one[1].meta.risk != "N1"):
        for example in tool.meta.examples:
            answer = agent.call(name, **example)
            assert "is_error" in answer, (name, answer)
    return len(tools)


if __name__ == "__main__":
    assert BIN.exists()
    main()
