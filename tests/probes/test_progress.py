from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from shipped_settings import PROBES, refused

from probes.all_clear import OKS_SAID, AllClear
from probes.progress import Progress
from probes.subsystems import SubsystemSnapshot, SubsystemState
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity


class Bench:
    """One subsystem, `quantizer`, whose snapshot a test changes."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.snapshot = SubsystemSnapshot(
            "quantizer", "process", SubsystemState.RUNNING, essential=False, since=self.clock.monotonic()
        )
        self.lagged = False
        self.probe = Progress(
            PROBES.progress,
            snapshots=lambda: [self.snapshot],
            clock=self.clock,
            void=lambda since, until: self.lagged,
        )

    def progress(self, done: int | None, total: int | None = 1000) -> None:
        at = None if done is None else self.clock.monotonic()
        self.snapshot = replace(self.snapshot, progress_done=done, progress_total=total, progressed_at=at)

    def burn(self, tokens: int, subsystem: str = "quantizer") -> None:
        at = self.clock.monotonic()
        self.probe.finished(TurnFinished(subsystem, at, "t1", "done", tokens, 0, tokens))

    async def sample(self) -> Finding | None:
        findings = await self.probe.sample()
        return findings[0] if findings else None

    async def severity(self) -> Severity:
        self.probe._all_clear = AllClear()  # else that all is well is not said again
        finding = await self.sample()
        assert finding is not None
        return finding.severity


async def test_burn_without_progress_is_an_anomaly() -> None:
    """Tokens and time both past their limit, and the reason says how many, how long and where."""
    bench = Bench()
    bench.progress(4)
    await bench.sample()
    for _ in range(61):
        bench.clock.advance(10)
        bench.burn(100)
    finding = await bench.sample()
    assert finding is not None
    assert finding.severity is Severity.ANOMALY
    assert finding.reason == "6100 tokens in 600 s and still at 4/1000"
    assert (finding.value, finding.limit, finding.unit) == (6100, 2000, "tokens")


@pytest.mark.parametrize(("tokens", "seconds"), [(1999, 600), (2000, 599)])
async def test_both_limits_must_be_reached(tokens: int, seconds: float) -> None:
    """Few tokens are waiting, a short time is work."""
    bench = Bench()
    bench.progress(4)
    await bench.sample()
    bench.burn(1000)
    bench.clock.advance(seconds)
    bench.burn(tokens - 1000)
    assert await bench.severity() is Severity.OK


async def test_idle_time_before_the_work_is_no_stall() -> None:
    """An agent that waits ten minutes for its user and then works hard has only just begun."""
    bench = Bench()
    bench.progress(4)
    await bench.sample()
    bench.clock.advance(3600)
    bench.burn(50_000)
    assert await bench.severity() is Severity.OK


async def test_any_progress_starts_the_count_anew() -> None:
    """A step forward, and work begun anew, are progress."""
    for done in (5, 0):
        bench = Bench()
        bench.progress(4)
        await bench.sample()
        bench.clock.advance(590)
        bench.burn(5000)
        bench.progress(done)
        await bench.sample()
        bench.clock.advance(20)
        assert await bench.severity() is Severity.OK


async def test_a_restart_that_reports_the_same_again_is_no_progress() -> None:
    """A process that dies and resumes at 4 over and over has not moved, however often it says so."""
    bench = Bench()
    bench.progress(4)
    await bench.sample()
    for _ in range(7):
        bench.clock.advance(100)
        bench.burn(500)
        bench.progress(None)
        await bench.sample()
        bench.progress(4)
        await bench.sample()
    assert await bench.severity() is Severity.ANOMALY


async def test_idle_is_not_a_stall() -> None:
    """What burnt once and then waits for its user has stopped burning."""
    bench = Bench()
    bench.progress(4)
    await bench.sample()
    bench.burn(5000)
    bench.clock.advance(601)
    assert await bench.severity() is Severity.OK


async def test_finished_work_may_burn() -> None:
    """There is nothing left to progress to."""
    bench = Bench()
    bench.progress(1000)
    await bench.sample()
    bench.clock.advance(5000)
    bench.burn(1_000_000)
    assert await bench.severity() is Severity.OK


async def test_progress_without_a_total_is_shown_as_it_is() -> None:
    """Some work does not know its end."""
    bench = Bench()
    bench.progress(4, None)
    await bench.sample()
    bench.burn(1000)
    bench.clock.advance(600)
    bench.burn(1000)
    finding = await bench.sample()
    assert finding is not None
    assert finding.reason == "2000 tokens in 600 s and still at 4"


async def test_a_subsystem_that_reports_no_progress_is_never_stalled() -> None:
    """Only what promises progress is held to it."""
    bench = Bench()
    await bench.sample()
    bench.clock.advance(6000)
    bench.burn(1_000_000)
    assert await bench.severity() is Severity.OK


@pytest.mark.parametrize(
    "state",
    [SubsystemState.QUARANTINED, SubsystemState.PAUSED, SubsystemState.STOPPED, SubsystemState.FAILED],
)
async def test_what_is_held_is_not_judged(state: SubsystemState) -> None:
    """A frozen process cannot progress: judged, it would never be released."""
    bench = Bench()
    bench.snapshot = replace(bench.snapshot, state=state)
    assert await bench.sample() is None


async def test_forgetting_starts_the_stall_anew() -> None:
    """A released subsystem has its whole time again."""
    bench = Bench()
    bench.progress(4)
    await bench.sample()
    bench.burn(1)
    bench.clock.advance(700)
    bench.burn(5000)
    assert await bench.severity() is Severity.ANOMALY
    bench.probe.forget("quantizer")
    bench.probe.forget("nobody")
    assert await bench.severity() is Severity.OK


STEPS = st.lists(st.tuples(st.floats(0, 400), st.integers(0, 3000), st.integers(0, 1)), max_size=30)


@given(STEPS)
async def test_a_stall_is_what_a_naive_reader_would_call_one(steps: list[tuple[float, int, int]]) -> None:
    """Sampled after every step, the verdict is the definition's: tokens and time since the first of them."""
    bench, done, tokens = Bench(), 0, 0
    bench.progress(0)
    await bench.sample()
    burning_since: float | None = None
    for gap, burned, moved in steps:
        bench.clock.advance(gap)
        now = bench.clock.monotonic()
        bench.burn(burned)
        tokens, burning_since = tokens + burned, now if burning_since is None else burning_since
        if moved:
            done, tokens, burning_since = done + 1, 0, None
            bench.progress(done)
        stalled = tokens >= 2000 and burning_since is not None and now - burning_since >= 600
        finding = await bench.sample()
        assert (finding is not None and finding.severity is Severity.ANOMALY) == stalled


async def test_memory_is_bounded() -> None:
    """100,000 turns of unknown and vanished subsystems leave nothing behind."""
    clock, names = ManualClock(), ["a"]
    probe = Progress(
        PROBES.progress,
        snapshots=lambda: [
            SubsystemSnapshot(n, "client", SubsystemState.RUNNING, False, 0.0, progress_done=1) for n in names
        ],
        clock=clock,
    )
    for n in range(100_000):
        if n % 1000 == 0:
            names[0] = f"s{n}"
            await probe.sample()
        probe.finished(TurnFinished(f"x{n}", 0.0, "t", "done", 1, 1, 2))
    assert list(probe._tracks) == list(probe._all_clear._oks) == names


async def test_that_all_is_well_is_not_said_for_ever() -> None:
    """Once at first, for of a hundred subsystems it would be heard ten times a second; and often after a stall."""
    bench = Bench()
    bench.progress(4)
    assert [await bench.sample() is not None for _ in range(3)] == [True, False, False]
    bench.burn(5000)
    bench.clock.advance(700)
    bench.burn(5000)
    assert await bench.severity() is Severity.ANOMALY
    bench.progress(5)
    said = [await bench.sample() is not None for _ in range(OKS_SAID + 2)]
    assert said == [True] * OKS_SAID + [False] * 2


def test_what_burns_nothing_changes_nothing() -> None:
    """Admissions and refusals are heard and cost nothing."""
    bench = Bench()
    bench.probe.admitted(TurnAdmitted("quantizer", 0.0, "t", "m", 5, b""))
    bench.probe.refused(TurnRefused("quantizer", 0.0, "budget_exceeded"))
    assert bench.probe._tracks == {}


@pytest.mark.parametrize("key", ["interval_seconds", "stall_seconds", "min_tokens"])
def test_thresholds_must_be_above_zero(key: str) -> None:
    """The error names the key to change."""
    assert key in refused(PROBES.progress, **{key: 0})
