"""A model server that keeps dying under its clients: one root, two victims."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from installed import QUICK, Installation

# A client that works as long as its model answers and crashes at the first turn that fails, as many scripts do.
BRITTLE = """
import json, os, random, time, urllib.request
def ask():
    topic = " ".join(random.choices("tide moon kelp reef gull sand wind salt".split(), k=6))
    turn = {"model": "embedded-markov-chat", "max_tokens": 8, "messages": [{"role": "user", "content": topic}]}
    urllib.request.urlopen(urllib.request.Request(
        os.environ["EPAD_GATEWAY_URL"] + "/v1/chat/completions", json.dumps(turn).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["EPAD_GATEWAY_KEY"]},
    )).read()
while True:
    ask()
    time.sleep(0.2)
"""

# On a machine under load three kills and starts take longer than a minute; what is tried here is a burst.
CONFIG = """
[probes.cascade]
burst_seconds = 600.0
[hysteresis.cascade]
clear_after_seconds = 3.0
[upstreams.mine]
url = "unix:{directory}/model.sock"
dialects = ["openai"]
models = ["embedded-*"]
embedded = true
served_by = "model"

[subsystems.model]
command = ["{python}", "-m", "runners.model", "--listen", "unix:{directory}/model.sock"]
essential = true
gateway = false
notifies = true

[subsystems.agent]
command = ["{python}", "{directory}/brittle.py"]
depends_on = ["model"]

[subsystems.writer]
command = [
  "sh", "-c", "while ! test -S {directory}/model.sock; do sleep 0.1; done; exec {python} {directory}/brittle.py"
]

[subsystems.notebook]
kind = "client"

[subsystems.editor]
kind = "client"
"""

VICTIMS = ("agent", "writer")
"""One by configuration; the other by the turns that it was seen to make."""


def write_configuration(house: Installation, quick: str = QUICK) -> None:
    """Configure the five: a model server, two clients that die with it, two that only have a key."""
    (house.directory / "brittle.py").write_text(BRITTLE)
    house.config.write_text(quick + CONFIG.format(directory=house.directory, python=sys.executable))


def working(house: Installation, *, since: dict[str, int] | None = None) -> bool:
    """Whether both clients run, and have been answered since."""
    rows = {name: house.subsystem(name) for name in VICTIMS}
    before = since or dict.fromkeys(VICTIMS, 0)
    return all(row["state"] == "running" and row["tokens"]["turns"] > before[n] for n, row in rows.items())


def kill_model_until_reported(house: Installation) -> None:
    """Kill the model server whenever it is back, until epad has had enough of it."""

    def had_enough() -> bool:
        if (pid := house.subsystem("model")["pid"]) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(house.events("anomaly.raised"))

    house.wait(had_enough, "the anomaly")
