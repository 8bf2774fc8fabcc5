from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.cascade import MAX_REMEMBERED, Cascade, CascadeThresholds
from probes.subsystems import SubsystemExited
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Finding, Severity


class Bench:
    """A probe that hears of exits at the time of its clock."""

    def __init__(self, thresholds: CascadeThresholds | None = None) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.probe = Cascade(thresholds or CascadeThresholds(), clock=self.clock, push=self.pushed.append)

    def exit(
        self,
        subsystem: str = "agent",
        *,
        status: str = "exit 1",
        wanted: bool = False,
        will_restart: bool = True,
    ) -> None:
        at = self.clock.monotonic()
        self.probe.exited(SubsystemExited(subsystem, at, status, wanted, will_restart, "as configured"))

    async def look(self) -> list[Finding]:
        """Whatever a sample finds that is not quiet."""
        return [finding for finding in await self.probe.sample() if finding.severity is not Severity.OK]

    async def quiet(self) -> set[str]:
        findings = await self.probe.sample()
        assert all(finding.severity is Severity.OK for finding in findings)
        return {finding.subsystem for finding in findings}


def test_crashes_within_the_window_raise_at_once() -> None:
    """The third crash in a minute is a fact, and says how it ended."""
    bench = Bench()
    bench.exit()
    bench.exit()
    assert bench.pushed == []
    bench.exit(status="signal SIGSEGV")
    finding = bench.pushed[0]
    assert (finding.subsystem, finding.severity, finding.hard) == ("agent", Severity.ANOMALY, True)
    assert finding.reason == "crashed 3 times in 60 s, last with signal SIGSEGV"


def test_slow_crashes_are_the_restart_policys_business() -> None:
    """A crash that has left the window counts no more."""
    bench = Bench()
    for _ in range(20):
        bench.exit()
        bench.clock.advance(30)
    assert bench.pushed == []


def test_wanted_exits_and_finished_work_are_no_crashes() -> None:
    """What the daemon ended, and what ended well, is not held against anyone."""
    bench = Bench()
    for name in ("a", "b", "c"):
        bench.exit(name, wanted=True, will_restart=False)
        bench.exit(name, status="exit 0", will_restart=False)
    assert bench.pushed == []


def test_a_clean_exit_that_is_restarted_counts() -> None:
    """A service that ends at once with exit code 0, and is started again, is a crash loop as well."""
    bench = Bench()
    for _ in range(3):
        bench.exit(status="exit 0")
    assert len(bench.pushed) == 1


def test_giving_up_is_an_anomaly_by_itself() -> None:
    """One crash that is not restarted is enough, and the reason says why it is not."""
    bench = Bench()
    bench.exit(will_restart=False)
    assert bench.pushed[0].severity is Severity.ANOMALY
    assert bench.pushed[0].reason == "it ended with exit 1 and is not restarted: as configured"
    assert bench.pushed[0].hard


async def test_several_subsystems_crashing_together_are_critical() -> None:
    """Once both have had their settle time, the host's finding names them in the order of their first crash."""
    bench = Bench()
    for name in ("model", "agent", "model"):
        bench.exit(name)
        assert await bench.look() == []
        bench.clock.advance(1)
    bench.clock.advance(1)
    (finding,) = await bench.look()
    assert await bench.look() == []
    assert (finding.subsystem, finding.severity, finding.hard) == (HOST, Severity.CRITICAL, True)
    assert finding.evidence["subsystems"] == ["model", "agent"]
    assert "model first: model, agent" in finding.reason


def test_one_subsystem_alone_is_no_cascade() -> None:
    """However often it crashes."""
    bench = Bench()
    for _ in range(50):
        bench.exit()
    assert {finding.subsystem for finding in bench.pushed} == {"agent"}


async def test_quiet_is_stated_once_the_window_is_empty() -> None:
    """While it is not quiet a sample says nothing, so that it cannot contradict what was pushed."""
    bench = Bench()
    bench.exit("a")
    bench.exit("b")
    assert await bench.quiet() == set()
    bench.clock.advance(60)
    assert await bench.quiet() == {"a", "b", HOST}
    assert await bench.quiet() == {HOST}


async def test_what_was_given_up_is_not_called_quiet() -> None:
    """It is down, and stays so until it is released."""
    bench = Bench()
    bench.exit(will_restart=False)
    bench.clock.advance(3600)
    assert await bench.quiet() == {HOST}
    bench.probe.forget("agent")
    bench.probe.forget("nobody")
    bench.exit()
    assert len(bench.pushed) == 1


EXITS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40)), max_size=60)


@given(EXITS, st.integers(1, 4), st.integers(2, 3))
def test_counts_are_those_of_a_naive_reader(
    exits: list[tuple[str, float]], crashes: int, subsystems: int
) -> None:
    """Each exit states exactly what a recount of the whole history would."""
    bench = Bench(CascadeThresholds(crashes=crashes, subsystems=subsystems, settle_seconds=0))
    history: list[tuple[str, float]] = []
    for name, gap in exits:
        bench.clock.advance(gap)
        now = bench.clock.monotonic()
        history.append((name, now))
        before = len(bench.pushed)
        bench.exit(name)
        recent = [(n, at) for n, at in history if at > now - 60]
        expected = {name} if sum(n == name for n, _ in recent) >= crashes else set()
        if len({n for n, _ in recent}) >= subsystems:
            expected.add(HOST)
        assert {finding.subsystem for finding in bench.pushed[before:]} == expected


async def test_memory_is_bounded() -> None:
    """100,000 crashes leave a bounded number behind, and after a quiet time none."""
    clock = ManualClock()
    probe = Cascade(CascadeThresholds(), clock=clock, push=lambda _: None)
    for n in range(100_000):
        probe.exited(SubsystemExited(f"s{n % 4}", clock.monotonic(), "exit 1", False, True, ""))
    assert len(probe._crashes) == 4 * MAX_REMEMBERED
    clock.advance(61)
    await probe.sample()
    assert probe._crashes.names() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crashes", 0),
        ("crashes", MAX_REMEMBERED + 1),
        ("subsystems", 1),
        ("window_seconds", 0),
        ("settle_seconds", 60),
        ("bad_looks", 4),
        ("of_looks", 22),
        ("good_looks", 0),
        ("blast_ratio", 0),
    ],
)
def test_a_threshold_that_is_never_or_always_reached_is_refused(key: str, value: int) -> None:
    """The error names the key to change."""
    with pytest.raises(ValueError, match=f"probes.cascade.{key}"):
        CascadeThresholds(**{key: value})
