"""Probes are asked on their own schedules, and none of them harms another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog
from epad_story import memory_database
from patience import PATIENCE_SECONDS

from epad.metrics.registry import Metrics
from epad.probing import loops as module
from epad.probing.loops import ProbeLoops
from epad.storage.event_log import EventLog
from probes.probe import ProbeError
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity


class ToyProbe:
    """A probe that finds what it is told to, or fails as it is told to."""

    def __init__(self, name: str, fault: BaseException | None = None, *, hangs: bool = False) -> None:
        self.name = name
        self.interval_seconds = 0.001
        self.fault = fault
        self.hangs = hangs
        self.looks = 0
        self.notice = ""

    async def sample(self) -> Sequence[Finding]:
        self.looks += 1
        if self.hangs:
            await asyncio.sleep(3_600)
        if self.fault is not None:
            raise self.fault
        return [Finding(self.name, "chat", Severity.OK, 0.0)]


class Bench:
    def __init__(self, *probes: ToyProbe) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.metrics = Metrics()
        self.events = EventLog(memory_database(), self.clock)
        self.loops = ProbeLoops(probes, self.pushed.append, self.clock, self.events, self.metrics)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(loop, name=name) for name, loop in self.loops.loops()]
        yield
        for task in tasks:
            assert not task.done()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def series(self, name: str, probe: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"probe": probe})

    async def kinds(self) -> list[tuple[str, str]]:
        await self.events.flush()
        return [(e["kind"], e["fields"]["probe"]) for e in await self.events.since(0, 100)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(module, "MIN_TIMEOUT_SECONDS", 0.005)
    with structlog.testing.capture_logs() as logs:
        yield logs


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("bad", "note"),
    [
        (ToyProbe("bad", ProbeError("no driver")), "no driver"),
        (ToyProbe("bad", hangs=True), "no answer within 0 s"),
        (ToyProbe("bad", ZeroDivisionError("a bug")), "ZeroDivisionError: a bug"),
    ],
    ids=["cannot see", "hangs", "crashes"],
)
async def test_a_probe_that_fails_is_blind_and_harms_no_other(bad: ToyProbe, note: str) -> None:
    """It is asked again all the same; the other one goes on seeing."""
    good = ToyProbe("good")
    bench = Bench(bad, good)
    async with bench.running():
        await until(lambda: bad.looks >= 3 and good.looks >= 10)
    assert bench.loops.blind() == {"bad"}
    rows = {row["name"]: row for row in bench.loops.snapshot()}
    assert (rows["bad"]["success"], rows["bad"]["age_seconds"], rows["bad"]["note"]) == (False, None, note)
    assert rows["good"]["success"] is True
    assert {finding.probe for finding in bench.pushed} == {"good"}
    assert bench.series("epad_probe_success", "bad") == 0
    assert bench.series("epad_probe_success", "good") == 1
    assert bench.series("epad_probe_last_success_timestamp_seconds", "bad") is None


async def test_becoming_blind_and_seeing_again_are_told_once_each() -> None:
    """Not at every look."""
    probe = ToyProbe("it")
    bench = Bench(probe)
    async with bench.running():
        await until(lambda: probe.looks >= 3)
        probe.fault = ProbeError("no driver")
        await until(bench.loops.blind)
        again = probe.looks
        await until(lambda: probe.looks >= again + 3)
        probe.fault = None
        await until(lambda: not bench.loops.blind())
    assert await bench.kinds() == [("probe.sees", "it"), ("probe.blind", "it"), ("probe.sees", "it")]


async def test_a_probe_that_has_not_looked_yet_is_not_blind() -> None:
    """Nothing is known of it, and that is shown."""
    bench = Bench(ToyProbe("it"))
    assert bench.loops.blind() == frozenset()
    for _, loop in bench.loops.loops():
        loop.close()
    assert bench.loops.snapshot() == [{"name": "it", "success": False, "age_seconds": None, "note": ""}]


async def test_a_probe_that_sees_may_have_something_to_say() -> None:
    """No GPU is one line, not an error."""
    probe = ToyProbe("vram")
    probe.notice = "no NVIDIA driver: not watched"
    bench = Bench(probe)
    async with bench.running():
        await until(lambda: probe.looks >= 2)
    (row,) = bench.loops.snapshot()
    assert (row["success"], row["note"]) == (True, "no NVIDIA driver: not watched")
    bench.clock.advance(7)
    assert bench.loops.snapshot()[0]["age_seconds"] == 7


async def test_the_age_is_shown_while_blind() -> None:
    """How old what is known is, is what one wants to know then."""
    probe = ToyProbe("it")
    bench = Bench(probe)
    async with bench.running():
        await until(lambda: probe.looks >= 2)
        probe.fault = ProbeError("no driver")
        await until(bench.loops.blind)
        bench.clock.advance(30)
    assert bench.loops.snapshot()[0]["age_seconds"] == 30


async def test_a_wall_clock_set_back_stops_no_probe() -> None:
    """The loops run on the monotonic clock."""
    probe = ToyProbe("it")
    bench = Bench(probe)
    async with bench.running():
        await until(lambda: probe.looks >= 2)
        bench.clock.jump_wall_clock(-3_600)
        again = probe.looks
        await until(lambda: probe.looks >= again + 3)
