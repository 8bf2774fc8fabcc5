"""A model server that keeps dying, and what depends on it: one incident, its victims paused, all well after."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from failing_model import VICTIMS, kill_model_until_reported, working, write_configuration
from installed import Installation, installation, stands_still


@pytest.fixture
def house() -> Iterator[Installation]:
    with installation() as one:
        write_configuration(one)
        yield one


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
        house.wait(partial(is_held, house, name), f"{name} not to run")
    assert "whose victim it is" in house.ctl("explain", "agent").stdout
    house.kill()
    house.start()
    turns = {name: house.subsystem(name)["tokens"]["turns"] for name in VICTIMS}
    house.wait(lambda: working(house, since=turns), "both to work again by themselves")
    house.wait_phase("NORMAL")
    # A machine under load may show the writer as not ready again yet: it must pass by itself, and raise nothing.
    house.wait(lambda: house.status()["incidents"] == [], "no incident")
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
