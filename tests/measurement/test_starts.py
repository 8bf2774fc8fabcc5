"""Compare starts with those before: told beside the start, or held until a person has accepted the change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from epad.configuration.schema import SubsystemConfig
from epad.measurement.starts import Starts
from epad.storage.event_log import EventKind
from epad.supervisor.engine import Launch
from epad.supervisor.errors import SpawnError


@dataclass
class Bench:
    """A subsystem's script, and what was told of its starts."""

    folder: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    def emit(self, kind: EventKind, subsystem: str = "", **fields: Any) -> None:
        assert kind is EventKind.SUBSYSTEM_CHANGED
        self.events.append({"subsystem": subsystem, **fields})

    @asynccontextmanager
    async def starts(self) -> AsyncIterator[Starts]:
        """Those of one run of the daemon."""
        starts = Starts(self.folder / "kept", self, lambda: 5.0, structlog.get_logger())
        yield starts
        await starts.close()

    def write(self, text: str) -> None:
        (self.folder / "agent.sh").write_text(text)

    @property
    def launch(self) -> Launch:
        return Launch(("/bin/sh", "agent.sh"), {"PATH": "/usr/bin:/bin"}, self.folder, Path("/dev/null"), {})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.write("true")
    return bench


TELL, HOLD = SubsystemConfig(), SubsystemConfig(on_change="hold")


async def until_measured(starts: Starts, bench: Bench) -> None:
    """Start it, and wait until its measurement is kept."""
    await starts.check("chat", TELL, bench.launch)
    while starts._tasks._running:
        await asyncio.gather(*starts._tasks._running)


async def test_a_change_is_told_once_and_then_is_what_it_is(bench: Bench) -> None:
    async with bench.starts() as starts:
        await until_measured(starts, bench)
        await until_measured(starts, bench)
        assert bench.events == []
        bench.write("false")
        await until_measured(starts, bench)
        await until_measured(starts, bench)

    (event,) = bench.events
    assert event["subsystem"] == "chat"
    assert not event["held"]
    assert event["changes"] == [{"path": str(bench.folder / "agent.sh"), "how": "changed", "role": "script"}]


async def test_a_later_daemon_compares_with_the_starts_of_the_one_before(bench: Bench) -> None:
    async with bench.starts() as starts:
        await until_measured(starts, bench)
    bench.write("false")
    async with bench.starts() as starts:
        await until_measured(starts, bench)
        assert [seen.measured.changed for seen in starts.seen()] == [1]

    assert len(bench.events) == 1


async def test_a_changed_start_is_held_until_it_is_accepted(bench: Bench) -> None:
    """Also by a later daemon; it is told once by each, and one that is as it was before starts again."""
    async with bench.starts() as starts:
        await starts.check("chat", HOLD, bench.launch)
        bench.write("false")
        for _ in range(2):
            with pytest.raises(
                SpawnError, match=r"script .*agent\.sh is changed; `epactl changes accept chat`"
            ) as held:
                await starts.check("chat", HOLD, bench.launch)
            assert held.value.permanent
        assert len(bench.events) == 1
    async with bench.starts() as starts:
        assert not starts.waits("chat")
        with pytest.raises(SpawnError):
            await starts.check("chat", HOLD, bench.launch)
        assert starts.waits("chat")
        assert starts.accept("chat").startswith("accepted: chat is not what it was")
        assert not starts.waits("chat")
        await starts.check("chat", HOLD, bench.launch)

        bench.write("true")
        with pytest.raises(SpawnError):
            await starts.check("chat", HOLD, bench.launch)
        bench.write("false")
        await starts.check("chat", HOLD, bench.launch)
        assert not starts.waits("chat")


async def test_a_start_that_cannot_be_measured_is_held_and_tried_again(bench: Bench) -> None:
    (bench.folder / "kept").write_text("a file where the directory should be")
    async with bench.starts() as starts:
        with pytest.raises(SpawnError, match="could not be measured") as failed:
            await starts.check("chat", HOLD, bench.launch)
        assert not failed.value.permanent
        await until_measured(starts, bench)
        assert starts.seen() == []
