"""A subsystem is recorded for a time: begun by a change of no file, and ended by another."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from epad_house import configured
from epad_story import memory_database
from msgspec import structs

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.schema import Config, SubsystemConfig
from epad.confinement.kept_policies import KeptPolicies
from epad.confinement.policy import Policy
from epad.confinement.recording import STRACE
from epad.operations.learning import RECORDING, Learning, LearningError
from epad.operations.reload import Changes, Reloader
from epad.storage.event_log import EventLog
from epad.supervisor.errors import SupervisorError
from statemachine.clock import ManualClock

AGENT = SubsystemConfig(command=("agent", "--all"), confine=ConfineConfig(hosts=("x.org",)))


class Bench:
    """A reloader whose parts do nothing, and recordings of its subsystems."""

    def __init__(self, work: Path) -> None:
        self.file = configured(agent=AGENT, guest=SubsystemConfig(kind="client"))
        self.applied: list[Changes] = []
        self.failure: Exception | None = None
        events = EventLog(memory_database(), ManualClock())
        self.reloader = Reloader(
            self.file,
            lambda: self.file,
            self.apply,
            events,
            self.policies,
            KeptPolicies(work / "policies.json"),
        )
        self.learning = Learning(self.reloader, lambda name: work / name)

    @property
    def agent(self) -> SubsystemConfig:
        return self.reloader.config.subsystems["agent"]

    def policies(self, config: Config) -> Mapping[str, Policy]:
        del config
        return {}

    async def apply(self, changes: Changes) -> None:
        if self.failure is not None:
            raise self.failure
        self.applied.append(changes)


@pytest.fixture(name="bench")
def made_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    (tmp_path / "agent").mkdir()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return Bench(tmp_path)


async def test_it_runs_under_the_recorder_and_without_walls(bench: Bench, tmp_path: Path) -> None:
    """Its program is the recorder's, and it is started again; a former recording is gone."""
    (tmp_path / "agent" / RECORDING).write_text("of yesterday")
    file = await bench.learning.begin("agent", 3_600.0, "why")
    assert not file.exists()
    assert bench.agent.command == (*STRACE, "-o", str(file), "--", "agent", "--all")
    assert bench.agent.confine == ConfineConfig(profile="open")
    assert bench.applied[-1].restarted == ("agent",)
    await bench.learning.end("agent")
    assert bench.agent == AGENT
    assert len(bench.applied) == 2


async def test_a_recording_ends_by_itself(bench: Bench) -> None:
    """And the subsystem is as it was."""
    await bench.learning.begin("agent", 0.0, "why")
    while len(bench.applied) < 2:
        await asyncio.sleep(0)
    assert bench.agent == AGENT


async def test_a_reload_meanwhile_has_the_last_word(bench: Bench) -> None:
    """What the file says stays; the end of the recording changes nothing more."""
    await bench.learning.begin("agent", 3_600.0, "why")
    bench.file = configured(
        agent=structs.replace(AGENT, command=("other",)), guest=SubsystemConfig(kind="client")
    )
    await bench.reloader.reload("a new program")
    await bench.learning.end("agent")
    assert bench.agent.command == ("other",)
    assert len(bench.applied) == 2


async def test_who_cannot_be_recorded_is_told_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process, a recording that runs, none that does, no recorder."""
    with pytest.raises(LearningError, match="is a client"):
        await bench.learning.begin("guest", 60.0, "why")
    with pytest.raises(LearningError, match="not recorded"):
        await bench.learning.end("agent")
    await bench.learning.begin("agent", 3_600.0, "why")
    with pytest.raises(LearningError, match="already"):
        await bench.learning.begin("agent", 60.0, "why")
    await bench.learning.end("agent")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(LearningError, match="apt install strace"):
        await bench.learning.begin("agent", 60.0, "why")


async def test_a_start_that_fails_is_no_recording(bench: Bench) -> None:
    """It can be tried again."""
    bench.failure = SupervisorError("no process could be started")
    with pytest.raises(SupervisorError):
        await bench.learning.begin("agent", 60.0, "why")
    bench.failure = None
    await bench.learning.begin("agent", 3_600.0, "why")
    await bench.learning.end("agent")


async def test_another_user_is_not_recorded_as_root(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder would write as that user into a directory that is closed to it; root's own is recorded."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    await bench.learning.begin("agent", 60.0, "why")
    await bench.learning.end("agent")
    before = len(bench.applied)
    bench.reloader._config = configured(agent=structs.replace(AGENT, user="nobody"))
    with pytest.raises(LearningError, match="agent is run as nobody, to whom epad"):
        await bench.learning.begin("agent", 60.0, "why")
    assert len(bench.applied) == before
