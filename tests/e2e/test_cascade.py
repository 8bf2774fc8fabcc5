"""A model server that keeps dying, and what depends on it: one incident, its victims paused, all well after."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from installed import QUICK, Installation, installation, stands_still

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

CONFIG = """
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


@pytest.fixture
def house() -> Iterator[Installation]:
    with installation() as one:
        (one.directory / "brittle.py").write_text(BRITTLE)
        one.config.write_text(QUICK + CONFIG.format(directory=one.directory, python=sys.executable))
        yield one


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

    house.wait(had_enough, "the anomaly", 60)


def test_dying_model_server_is_the_root_and_its_clients_wait_for_it(house: Installation) -> None:
    """One anomaly, about the model alone; its clients wait until it is well, and `kill -9` of epad changes nothing."""
    house.start()
    house.wait(lambda: working(house), "both clients at work")
    kill_model_until_reported(house)
    house.wait(lambda: incident(house).get("victims") == list(VICTIMS), "both to be shown as victims")
    assert incident(house)["root"] == "model"
    house.wait(lambda: states(house) == {"paused"}, "both to wait")
    text = house.ctl("status").stdout
    for words in ("root model for", "victim agent", "victim writer", "it waits for model"):
        assert words in text
    for name in VICTIMS:  # neither started again nor, where it was just starting, left to run
        house.wait(lambda name=name: is_held(house, name), f"{name} not to run")
    assert "whose victim it is" in house.ctl("explain", "agent").stdout
    house.kill()
    house.start()
    turns = {name: house.subsystem(name)["tokens"]["turns"] for name in VICTIMS}
    house.wait(lambda: working(house, since=turns), "both to work again by themselves", 60)
    house.wait_phase("NORMAL")
    assert house.status()["incidents"] == []
    raised = [(event["subsystem"], event["fields"]["probe"]) for event in house.events("anomaly.raised")]
    assert raised == [("model", "cascade")]
    restarted = [e for e in house.events("step.ended") if e["fields"]["step"] == "restart"]
    assert restarted == []


def is_held(house: Installation, name: str) -> bool:
    pid = house.subsystem(name)["pid"]
    return pid is None or stands_still(pid)


def incident(house: Installation) -> dict[str, object]:
    """The one incident there is; empty if there is none."""
    (*incidents,) = house.status()["incidents"]
    assert len(incidents) <= 1
    return dict(incidents[0]) if incidents else {}


def states(house: Installation) -> set[str]:
    return {house.subsystem(name)["state"] for name in VICTIMS}
