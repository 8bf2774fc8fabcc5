from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.token_burn import WINDOW_SLOTS, TokenBurn, TokenBurnThresholds, WindowSum
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.assessor import Assessor, Hysteresis, Raised
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity

RULE = Hysteresis(raise_after=3, out_of=5, clear_after_seconds=120)


class Bench:
    """A probe with a clock of its own, a budget of 1000, and an assessor that hears all it says."""

    def __init__(self, thresholds: TokenBurnThresholds | None = None, budget: int = 1000) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.raised: list[Raised] = []
        self.assessor = Assessor({"token_burn": RULE})
        self.probe = TokenBurn(
            thresholds or TokenBurnThresholds(), budget=lambda _: budget, clock=self.clock, push=self.push
        )

    def push(self, finding: Finding) -> None:
        self.pushed.append(finding)
        self.raised += [c for c in self.assessor.observe(finding) if isinstance(c, Raised)]

    def admit(self, prompt: bytes = b"", subsystem: str = "agent", retry: int = 0) -> None:
        at = self.clock.monotonic()
        self.probe.admitted(TurnAdmitted(subsystem, at, "t1", "model", 100, prompt, retry))

    def refuse(self, code: str = "budget_exceeded", subsystem: str = "agent", asked: int = 200) -> None:
        at = self.clock.monotonic()
        self.probe.refused(TurnRefused(subsystem, at, code, "tokens_per_minute", 1000, 900, asked, b"\x0a"))

    def finish(self, tokens: int, subsystem: str = "agent") -> None:
        at = self.clock.monotonic()
        self.probe.finished(TurnFinished(subsystem, at, "t1", "done", tokens, 0, tokens))

    async def sample(self) -> list[Finding]:
        findings = list(await self.probe.sample())
        for finding in findings:
            self.raised += [c for c in self.assessor.observe(finding) if isinstance(c, Raised)]
        return findings


def test_a_refusal_at_the_limit_is_stated_at_once() -> None:
    """The finding names the limit, what was asked, and what makes the request recognisable."""
    bench = Bench()
    bench.refuse()
    bench.refuse()
    finding = bench.pushed[-1]
    assert (finding.severity, finding.value, finding.limit, finding.unit) == (
        Severity.ANOMALY,
        1100,
        1000,
        "tokens",
    )
    assert "tokens_per_minute" in finding.reason
    assert finding.evidence["prompt"] == "0a"
    assert finding.evidence["limit"] == "tokens_per_minute"
    assert finding.evidence["refusals"] == 2
    assert not finding.hard


def test_a_request_larger_than_the_limit_is_called_hopeless() -> None:
    """Waiting does not help a request that alone exceeds its limit, and the reason says so."""
    bench = Bench()
    bench.refuse(asked=1001)
    assert "can never pass" in bench.pushed[0].reason


def test_epads_own_refusals_are_no_findings() -> None:
    """What a quarantined subsystem still asks for is not held against it: it would never be let out."""
    bench = Bench()
    for _ in range(20):
        bench.refuse(code="subsystem_quarantined")
    assert bench.pushed == []


async def test_a_loop_that_ignores_refusals_raises_on_the_third() -> None:
    """Three in a row are a loop, also where samples fall between slow ones."""
    bench = Bench()
    bench.finish(10)
    for _ in range(3):
        assert bench.raised == []
        bench.refuse()
        for _ in range(3):
            bench.clock.advance(5)
            await bench.sample()
    assert [raised.anomaly.key.subsystem for raised in bench.raised] == ["agent"]


async def test_one_refusal_a_minute_is_normal_life() -> None:
    """A client that waits when told to, and then goes on, is never an anomaly."""
    bench = Bench()
    for _ in range(30):
        bench.refuse()
        bench.clock.advance(20)
        bench.admit()
        for _ in range(8):
            bench.clock.advance(5)
            await bench.sample()
    assert bench.raised == []


@given(st.lists(st.sampled_from(["admit", "refuse"]), max_size=60))
def test_an_admission_is_stated_only_after_something_bad(events: list[str]) -> None:
    """Every refusal is pushed; an OK exactly where the last word was bad."""
    bench, expected = Bench(), []
    for event in events:
        getattr(bench, event)()
        if event == "refuse":
            expected.append(Severity.ANOMALY)
        elif expected and expected[-1] is Severity.ANOMALY:
            expected.append(Severity.OK)
    assert [finding.severity for finding in bench.pushed] == expected


def test_the_same_prompt_in_a_row_raises_at_the_configured_count() -> None:
    """The fifth identical prompt is an anomaly by itself, no sooner."""
    bench = Bench()
    for _ in range(4):
        bench.admit(b"again")
        bench.clock.advance(8)
    assert bench.pushed == []
    bench.admit(b"again")
    assert bench.pushed[0].evidence["in_a_row"] == 5
    assert [raised.anomaly.finding.severity for raised in bench.raised] == [Severity.ANOMALY]


@given(st.lists(st.integers(0, 2), max_size=80), st.integers(2, 6))
def test_runs_are_counted_as_a_naive_reader_would(prompts: list[int], limit: int) -> None:
    """A prompt is stated exactly when it ends a run of at least the limit."""
    bench = Bench(TokenBurnThresholds(identical_prompts=limit))
    for place, prompt in enumerate(prompts):
        before = len([f for f in bench.pushed if f.bad])
        bench.admit(bytes([prompt]))
        run = len(prompts[: place + 1]) - next(
            (i + 1 for i in range(place, -1, -1) if prompts[i] != prompt), 0
        )
        assert len([f for f in bench.pushed if f.bad]) - before == (run >= limit)


def test_an_hourly_job_with_one_prompt_is_no_loop() -> None:
    """A run needs its prompts to follow each other; a slow model's answer counts as following."""
    bench = Bench()
    for _ in range(24):
        bench.admit(b"status?")
        bench.clock.advance(3600)
    assert bench.pushed == []
    for _ in range(5):
        bench.admit(b"status?")
        bench.clock.advance(300)
        bench.finish(10)
    assert [f.severity for f in bench.pushed] == [Severity.ANOMALY]


def test_honest_retries_are_not_a_run_and_endless_ones_are() -> None:
    """An SDK that counts 0, 1, 2 has asked once; one that always claims a first retry is looping."""
    honest, liar = Bench(), Bench()
    for _ in range(4):
        for retry in (0, 1, 2):
            honest.admit(b"p", retry=retry)
    assert honest.pushed == []
    for _ in range(8):
        liar.admit(b"p", retry=1)
    assert any(finding.bad for finding in liar.pushed)
    counting = Bench()
    for retry in range(12):
        counting.admit(b"p", retry=retry)
    assert any(finding.bad for finding in counting.pushed)


def test_unknown_prompts_are_never_identical() -> None:
    """Without a digest there is nothing to compare."""
    bench = Bench()
    for _ in range(50):
        bench.admit(b"")
    assert bench.pushed == []


async def test_a_sample_states_the_burn_of_each_subsystem() -> None:
    """OK below the warning ratio, WARNING from it on; and what left the window counts no more."""
    bench = Bench()
    bench.finish(799, "calm")
    bench.finish(800, "busy")
    found = {f.subsystem: (f.severity, f.value, f.limit) for f in await bench.sample()}
    assert found == {"calm": (Severity.OK, 799, 1000), "busy": (Severity.WARNING, 800, 1000)}
    bench.clock.advance(61)
    assert {f.value for f in await bench.sample()} == {0}


async def test_no_budget_means_no_limit_to_warn_of() -> None:
    """A subsystem without a budget is counted, and never warned about."""
    bench = Bench(budget=0)
    bench.finish(10_000_000)
    finding = (await bench.sample())[0]
    assert (finding.severity, finding.value, finding.limit) == (Severity.OK, 10_000_000, None)


async def test_forgetting_starts_afresh() -> None:
    """A released subsystem has neither burn nor run behind it."""
    bench = Bench()
    for _ in range(4):
        bench.admit(b"p")
    bench.finish(900)
    bench.probe.forget("agent")
    bench.probe.forget("nobody")
    assert await bench.sample() == []
    bench.admit(b"p")
    assert bench.pushed == []


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: TokenBurnThresholds(identical_prompts=1), "identical_prompts"),
        (lambda: TokenBurnThresholds(warn_ratio=1.2), "warn_ratio"),
        (lambda: TokenBurnThresholds(warn_ratio=0), "warn_ratio"),
        (lambda: TokenBurnThresholds(window_seconds=1), "window_seconds"),
        (lambda: TokenBurnThresholds(interval_seconds=0), "interval_seconds"),
    ],
)
def test_a_threshold_that_is_never_or_always_reached_is_refused(
    make: Callable[[], TokenBurnThresholds], key: str
) -> None:
    """The error names the key to change."""
    with pytest.raises(ValueError, match=f"probes.token_burn.{key}"):
        make()


EVENTS = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 1000)), max_size=200)


@given(EVENTS, st.floats(1, 600))
def test_a_window_sum_is_the_naive_sum_to_one_slot(events: list[tuple[float, int]], seconds: float) -> None:
    """It counts everything younger than the window less a slot, and nothing older than the window."""
    window, slot, now = WindowSum(seconds), seconds / WINDOW_SLOTS, 0.0
    seen: list[tuple[float, int]] = []
    for gap, amount in events:
        now += gap
        window.add(now, amount)
        seen.append((now, amount))
        young = sum(n for at, n in seen if now - at < seconds - slot * 1.001)
        not_old = sum(n for at, n in seen if now - at <= seconds * 1.001)
        assert young <= window.total(now) <= not_old
        assert len(window._slots) <= WINDOW_SLOTS


async def test_memory_is_bounded() -> None:
    """100,000 events leave no more behind than the first few thousand did."""
    probe = TokenBurn(TokenBurnThresholds(), budget=lambda _: 1000, clock=ManualClock(), push=lambda _: None)

    def events(first: int, last: int) -> None:
        for n in range(first, last):
            name, at, prompt = f"s{n % 3}", n * 0.01, (n // 7).to_bytes(4, "big")
            probe.admitted(TurnAdmitted(name, at, "t", "m", 1, prompt))
            probe.refused(TurnRefused(name, at, "budget_exceeded", "tokens_per_minute", 10, 9, 8, prompt))
            probe.finished(TurnFinished(name, at, "t", "done", 1, 1, 2))

    events(0, 6_000)
    tracemalloc.start()
    try:
        events(6_000, 40_000)
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 64 * 1024
