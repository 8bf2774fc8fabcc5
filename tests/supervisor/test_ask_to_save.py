"""The checkpoint signal: a process writes out what it holds before it is copied."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from supervisor_world import READY, SLEEP, World, program, snapshot, until

from epad.configuration.schema import StateConfig
from epad.supervisor.supervisor import Supervisor
from probes.subsystems import SubsystemState
from statemachine.containment import Rung

OBEDIENT = (
    READY
    + """
import pathlib, signal, time
def save(*_):
    pathlib.Path("saved").write_text("all of it")
    tell("X_EPAD_SAVED=1")
signal.signal(signal.SIGUSR1, save)
tell("READY=1")
while True: time.sleep(60)
"""
)
DEAF = (
    READY
    + """
import signal, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
tell("READY=1")
while True: time.sleep(60)
"""
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _is_running(supervisor: Supervisor, name: str) -> bool:
    return snapshot(supervisor, name).state is SubsystemState.RUNNING


async def test_who_answers_has_saved_and_who_does_not_is_named(world: World) -> None:
    """One writes its file, one is deaf, one declares nothing, one is frozen and is not asked."""
    await world.database.open()
    supervisor = world.supervisor(
        {
            "it": program(OBEDIENT, notifies=True, state=StateConfig(checkpoint_signal="SIGUSR1")),
            "deaf": program(
                DEAF, notifies=True, state=StateConfig(checkpoint_signal="SIGUSR1", deadline_seconds=0.2)
            ),
            "plain": program(SLEEP),
            "frozen": program(DEAF, notifies=True, state=StateConfig(checkpoint_signal="SIGUSR1")),
        }
    )
    await supervisor.start()
    try:
        for name in ("it", "deaf", "frozen"):
            await until(partial(_is_running, supervisor, name))
        await supervisor.hold("frozen", Rung.FREEZE, "a test")
        assert await supervisor.ask_to_save() == ["deaf did not say X_EPAD_SAVED=1 within 0.2 s"]
        assert (world.directories.work("it") / "saved").read_text() == "all of it"
    finally:
        await supervisor.stop_all()
        await world.database.close()
