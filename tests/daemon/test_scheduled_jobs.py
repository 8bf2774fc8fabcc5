"""The jobs of the wall clock, and which of them wait while something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from epad_story import Story, in_lifeboat, in_preservation, in_recovery

from epad.daemon import scheduled_jobs as module
from epad.daemon.scheduled_jobs import Chores
from epad.storage.event_log import EventKind
from statemachine.finding import HOST, Severity


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    with structlog.testing.capture_logs():
        yield


class Bench:
    """Jobs that note that they were done."""

    def __init__(self) -> None:
        self.story = Story()
        self.done: list[str] = []
        here = cast("Any", self)
        self.chores = Chores(
            here, here, here, here, self.drill, lambda: self.story.decider.has_room_for_chores
        )

    async def drill(self) -> None:
        self.done.append("drill")

    async def verify_all(self) -> SimpleNamespace:
        self.done.append("verify")
        return SimpleNamespace(verdict="ok", checked=1, faults=[])

    async def prune(self) -> None:
        self.done.append("prune events")

    async def prune_payloads(self) -> int:
        self.done.append("prune payloads")
        return 0

    def emit(self, kind: EventKind, **fields: object) -> None:
        if kind is EventKind.NOTICE:
            self.done.append(str(fields["text"]))


def short_of_disk(story: Story) -> None:
    story.find(HOST, "host")


def critical(story: Story) -> None:
    story.find("chat", "vram", Severity.CRITICAL)


async def test_where_nothing_is_wrong_everything_is_done() -> None:
    """In QUARANTINE too: one subsystem's trouble is not epad's."""
    bench = Bench()
    await bench.chores.restore_drill()
    bench.story.find("chat")
    await bench.chores.nightly()
    assert bench.done == ["drill", "prune events", "prune payloads", "verify"]


@pytest.mark.parametrize("begin", [in_preservation, in_recovery, in_lifeboat, short_of_disk, critical])
async def test_what_can_be_spared_waits_and_room_is_made_all_the_same(begin: Any) -> None:
    """Once it is over, it is done; it was said that it waits."""
    bench = Bench()
    begin(bench.story)
    jobs = [asyncio.create_task(job()) for job in (bench.chores.restore_drill, bench.chores.nightly)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert bench.done == [
        "the restore drill waits until the trouble is over",
        "prune events",
        "prune payloads",
        "the nightly verification waits until the trouble is over",
    ]
    bench.story = Story()
    await asyncio.gather(*jobs)
    assert set(bench.done[4:]) == {"drill", "verify"}
