"""What the probe states, when, and how often; each detector's own rules are in test_token_burn_detectors.py."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.blame import Fault
from probes.token_burn import (
    GENTLE_NAME,
    BurnWindow,
    Detector,
    SubsystemBudget,
    TokenBurn,
    TokenBurnThresholds,
)
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused, TurnStreamed
from statemachine.assessor import Anomaly, Assessor, Hysteresis, Raised
from statemachine.clock import ManualClock
from statemachine.containment import Containable, Rung, desired_holds
from statemachine.finding import Finding, Severity
from statemachine.phase import Phase

RULE = Hysteresis(raise_after=3, out_of=5, clear_after_seconds=120)


class Bench:
    """A probe with a clock of its own, a budget of 1000, and an assessor that hears all it says."""

    def __init__(
        self, thresholds: TokenBurnThresholds | None = None, budget: int = 1000, day: int = 0
    ) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.raised: list[Raised] = []
        self.assessor = Assessor({"token_burn": RULE, "token_rate": Hysteresis(1, 1)})
        self.turns = 0
        self.probe = TokenBurn(
            thresholds or TokenBurnThresholds(),
            budget=lambda _: SubsystemBudget(budget, day),
            clock=self.clock,
            push=self.push,
        )

    def push(self, finding: Finding) -> None:
        self.pushed.append(finding)
        self.raised += [c for c in self.assessor.observe(finding) if isinstance(c, Raised)]

    def admit(
        self, prompt: bytes = b"", subsystem: str = "agent", retry: int = 0, reserved: int = 100
    ) -> str:
        """A turn that stays in flight until it is finished by the name that is returned."""
        at, self.turns = self.clock.monotonic(), self.turns + 1
        turn = f"t{self.turns}"
        self.probe.admitted(TurnAdmitted(subsystem, at, turn, "model", reserved, prompt, retry, random=False))
        return turn

    def ask(self, prompt: bytes = b"", retry: int = 0, tokens: int = 0, *, failed: bool = False) -> None:
        """A turn that is over at once; the same prompt has the same answer."""
        self.finish(tokens, turn=self.admit(prompt, retry=retry), failed=failed, reply=prompt)

    def refuse(
        self,
        code: str = "budget_exceeded",
        subsystem: str = "agent",
        asked: int = 200,
        limit: str = "tokens_per_minute",
        allowed: int = 1000,
        retry_after: float = 30.0,
    ) -> None:
        at = self.clock.monotonic()
        self.probe.refused(
            TurnRefused(
                subsystem, at, code, limit, allowed, 900, asked, b"\x0a", retry_after_seconds=retry_after
            )
        )

    def hammer(self, refusals: int = 26, seconds: float = 11.0, **how: Any) -> None:
        """Ask again and again before the time that it was told."""
        for _ in range(refusals):
            self.refuse(**how)
            self.clock.advance(seconds / refusals)

    def send_wrong_ones(self, seconds: int = 11, a_second: int = 10) -> None:
        """Send requests that are wrong, many a second."""
        for number in range(seconds * a_second):
            turn, at = self.admit(b"%d" % number), self.clock.monotonic()
            ended = TurnFinished("agent", at, turn, "failed", 0, 0, 0, 400, fault=Fault.CLIENT)
            self.probe.finished(ended)
            self.clock.advance(1 / a_second)

    def finish(
        self,
        tokens: int,
        subsystem: str = "agent",
        turn: str = "t",
        *,
        failed: bool = False,
        reply: bytes = b"",
    ) -> None:
        at, outcome, status = self.clock.monotonic(), "failed" if failed else "done", 503 if failed else 200
        fault = Fault.UPSTREAM if failed else Fault.NOBODY
        self.probe.finished(
            TurnFinished(subsystem, at, turn, outcome, tokens, 0, tokens, status, reply, fault=fault)
        )

    def detectors(self) -> set[str]:
        """Those that have stated something bad."""
        return {str(finding.evidence["detector"]) for finding in self.pushed if finding.bad}

    async def sample(self) -> list[Finding]:
        findings = list(await self.probe.sample())
        for finding in findings:
            self.raised += [c for c in self.assessor.observe(finding) if isinstance(c, Raised)]
        return findings


def test_a_client_that_hammers_at_its_limit_is_stated() -> None:
    """The finding names the limit, what was asked, and what makes the request recognisable."""
    bench = Bench()
    bench.hammer()
    finding = bench.pushed[-1]
    assert (finding.severity, finding.value, finding.limit, finding.unit) == (
        Severity.ANOMALY,
        1100,
        1000,
        "tokens",
    )
    assert "25 times in 60 s it asked again before the time it was told" in finding.reason
    assert "tokens_per_minute" in finding.reason
    assert finding.evidence["prompt"] == "0a"
    assert finding.evidence["limit"] == "tokens_per_minute"
    assert (finding.evidence["refusals"], finding.evidence["early"]) == (26, 25)
    assert not finding.hard


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ([0.0] * 200, 30.0),  # two hundred at once: none of them had been told yet
        (
            [n / 2 for n in range(24)],
            30.0,
        ),  # eight in flight, each refused once when it comes back, and once more
        (
            [t + 0.01 * n for t in (0, 1, 3, 7, 15, 31) for n in range(8)],
            50.0,
        ),  # eight back off: 1, 2, 4, 8, 16 s
        ([10.0 * n for n in range(200)], 10.0),  # it waits as long as it is told, for half an hour
        ([0.1 * n for n in range(300)], 0.0),  # nobody told it when to come back
    ],
)
def test_a_limit_that_works_is_no_anomaly(times: list[float], told: float) -> None:
    bench = Bench()
    begun = bench.clock.monotonic()
    for at in times:
        bench.clock.advance(begun + at - bench.clock.monotonic())
        bench.refuse(retry_after=told)
    assert bench.pushed == []


def test_a_request_larger_than_the_limit_is_called_hopeless() -> None:
    """Waiting does not help a request that alone exceeds its limit, and the reason says so."""
    bench = Bench()
    bench.hammer(asked=1001)
    assert "can never pass" in bench.pushed[0].reason


def test_epads_own_refusals_are_no_findings() -> None:
    """What a quarantined subsystem still asks for is not held against it: it would never be let out."""
    bench = Bench()
    for _ in range(20):
        bench.refuse(code="subsystem_quarantined")
    assert bench.pushed == []


async def test_a_loop_that_ignores_refusals_raises() -> None:
    """Three findings in a row are a loop, also where samples fall between slow ones."""
    bench = Bench()
    bench.finish(10)
    bench.hammer()
    assert bench.raised == []
    for _ in range(2):
        bench.refuse()
        for _ in range(2):
            bench.clock.advance(1)
            await bench.sample()
    assert [raised.anomaly.key.subsystem for raised in bench.raised] == ["agent"]


async def test_one_refusal_a_minute_is_normal_life() -> None:
    """A client that waits when told to, and then goes on, is never an anomaly."""
    bench = Bench()
    for _ in range(30):
        bench.refuse()
        bench.clock.advance(20)
        bench.ask()
        for _ in range(8):
            bench.clock.advance(5)
            await bench.sample()
    assert bench.raised == []


@given(st.lists(st.sampled_from(["admit", "hammer"]), max_size=20))
def test_an_admission_is_stated_only_after_something_bad(events: list[str]) -> None:
    """An OK exactly where the last word was bad."""
    bench = Bench()
    expected: list[Severity] = []
    for event in events:
        said = len(bench.pushed)
        if event == "admit":
            bench.finish(0, turn=bench.admit())
            expected += [Severity.OK] if expected and expected[-1] is Severity.ANOMALY else []
        else:
            bench.hammer()
            expected += [Severity.ANOMALY] * (len(bench.pushed) - said)
            assert expected[-1] is Severity.ANOMALY
    assert [finding.severity for finding in bench.pushed] == expected


def test_the_same_prompt_in_a_row_raises_at_the_configured_count() -> None:
    """The eighth identical prompt, each after the same answer, is an anomaly by itself, no sooner."""
    bench = Bench()
    for _ in range(7):
        bench.ask(b"again")
        bench.clock.advance(1)
    assert bench.pushed == []
    bench.ask(b"again")
    assert bench.pushed[0].evidence["in_a_row"] == 8
    assert [raised.anomaly.finding.severity for raised in bench.raised] == [Severity.ANOMALY]


def test_an_hourly_job_with_one_prompt_is_no_loop() -> None:
    """A run needs its prompts to follow each other; that a slow model takes its time for an answer is no pause."""
    bench = Bench()
    for seconds in (3600, 60, 8):
        for _ in range(24):
            bench.ask(b"status?")
            bench.clock.advance(seconds)
    assert bench.pushed == []
    for _ in range(9):
        turn = bench.admit(b"status?")
        bench.clock.advance(300)
        bench.finish(10, turn=turn, reply=b"well")
    assert {f.severity for f in bench.pushed} == {Severity.ANOMALY}


def test_retries_of_what_was_not_answered_are_not_a_run_and_endless_ones_of_an_answer_are() -> None:
    """Whatever a client says of its own count: it has its answer, and asks again."""
    honest, liar = Bench(), Bench()
    for number in range(40):
        for retry in (0, 1):
            honest.finish(0, turn=honest.admit(b"%d" % number, retry=retry), failed=True)
        honest.ask(b"%d" % number, retry=2)
        honest.clock.advance(2)
    assert "identical_prompts" not in honest.detectors()
    for _ in range(8):
        liar.ask(b"p", retry=1)
    assert "identical_prompts" in liar.detectors()


def test_asking_again_what_nobody_answered_is_no_loop() -> None:
    """A client waits for a model server to start, at a cost or not; once it answers, the run counts."""
    bench = Bench()
    for tokens in (0, 50):
        for _ in range(60):
            bench.ask(b"again", failed=True, tokens=tokens)
            bench.clock.advance(2)
    repeated = {"identical_prompts", "sampled_prompts"}
    assert not bench.detectors() & repeated
    for _ in range(6):
        bench.ask(b"again")
        bench.ask(b"again", failed=True)
    bench.ask(b"again")
    assert not bench.detectors() & repeated
    bench.ask(b"again")
    assert "identical_prompts" in bench.detectors()


def test_unknown_prompts_are_never_identical() -> None:
    """Without a digest there is nothing to compare."""
    bench = Bench()
    for _ in range(50):
        bench.ask(b"")
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
        bench.ask(b"p")
    bench.finish(900)
    bench.probe.forget("agent")
    bench.probe.forget("nobody")
    assert await bench.sample() == []
    bench.ask(b"p")
    assert bench.pushed == []


def test_every_finding_names_its_detector_and_a_rung() -> None:
    """And what calls for less than a closed gateway goes by the other name."""
    bench = Bench()
    for _ in range(9):
        bench.ask(b"p", tokens=1)
    bench.send_wrong_ones()
    bench.hammer()
    seen = {(f.probe, f.evidence["detector"], f.rung, f.hard) for f in bench.pushed if f.bad}
    assert seen == {
        ("token_rate", "identical_prompts", Rung.THROTTLE, True),
        ("token_rate", "error_ratio", Rung.THROTTLE, True),
        ("token_burn", "hard_limit", Rung.FREEZE, False),
    }
    assert all(f.reason and f.limit is not None and f.unit for f in bench.pushed if f.bad)


def test_a_loop_that_goes_on_under_its_throttle_is_frozen() -> None:
    """The second anomaly stands beside the first, and the firmer one wins."""
    bench = Bench()

    def held() -> Rung:
        anomalies: tuple[Anomaly, ...] = bench.assessor.active
        agent = Containable("agent", essential=False, has_process=True)
        rungs = {"token_burn": Rung.FREEZE, GENTLE_NAME: Rung.THROTTLE}
        return desired_holds([agent], anomalies, Phase.QUARANTINE, rungs, {})["agent"].rung

    for _ in range(8):
        bench.ask(b"again", tokens=10)
    assert held() is Rung.THROTTLE
    for _ in range(11):
        bench.clock.advance(10)
        bench.ask(b"again", tokens=10)
    assert held() is Rung.THROTTLE
    for _ in range(2):
        bench.clock.advance(10)
        bench.ask(b"again", tokens=10)
    assert held() is Rung.FREEZE


def test_the_request_that_goes_too_far_is_told_on_before_anything_is_spent() -> None:
    """Reserved tokens count in full: forty admitted at once are a burn, though none has finished."""
    bench = Bench(day=10_000_000)
    for number in range(40):
        assert "burn_rate" not in bench.detectors() or number * 10_000 > 300_000
        bench.admit(b"%d" % number, reserved=10_000)
    burning = [f for f in bench.pushed if f.evidence.get("detector") == "burn_rate"]
    assert burning[0].value == 310_000
    assert burning[0].evidence["reserved_tokens"] == 310_000


def test_a_stream_is_judged_as_it_comes() -> None:
    """The answer has not ended, and its end is asked for, once; one that goes on all the same is an anomaly."""
    bench = Bench()
    turn, ended = bench.admit(b"p"), ""
    for number in range(400):
        bench.clock.advance(0.05)
        at = bench.clock.monotonic()
        ended = bench.probe.streamed(TurnStreamed("agent", at, turn, ("and then no more, ",), number))
        assert bench.probe.streamed(TurnStreamed("agent", at, "unknown", ("no ",))) == ""
        assert bench.probe.streamed(TurnStreamed("nobody", at, turn, ("no ",))) == ""
        if ended:
            break
    assert "repeats itself" in ended
    assert "no more" not in ended
    [finding] = bench.pushed
    assert (finding.severity, finding.evidence["turn"], finding.rung) == (
        Severity.WARNING,
        turn,
        Rung.OPEN,
    )
    assert bench.raised == []
    bench.clock.advance(5)
    assert bench.probe.streamed(
        TurnStreamed("agent", bench.clock.monotonic(), turn, ("and then no more, ",) * 9)
    )
    assert (bench.pushed[-1].severity, bench.pushed[-1].rung) == (Severity.ANOMALY, Rung.THROTTLE)


def test_a_detector_says_the_same_once_a_second() -> None:
    """A thousand requests a second are a thousand events, not a thousand findings."""
    bench = Bench()
    for _ in range(1_000):
        bench.ask(b"p")
        bench.clock.advance(0.005)
    assert 4 <= sum(f.evidence["detector"] == "identical_prompts" for f in bench.pushed) <= 6


async def test_a_turn_that_does_not_end_is_found_by_a_sample() -> None:
    """Nothing happens, and that is what is wrong."""
    bench = Bench(TokenBurnThresholds(oldest_seconds=100))
    turn = bench.admit(b"p")
    assert [f.severity for f in await bench.sample()] == [Severity.OK]
    bench.clock.advance(101)
    finding = (await bench.sample())[0]
    assert (finding.severity, finding.evidence["detector"]) == (Severity.ANOMALY, "pile_up")
    assert turn in finding.reason
    bench.finish(10, turn=turn)
    bench.clock.advance(61)
    assert [f.severity for f in await bench.sample()] == [Severity.OK]


def test_refusals_at_the_cap_count_only_against_whose_cap_it_is() -> None:
    """The cap on everyone together says nothing about one; nor do forty workers that wait their second each."""
    bench = Bench()
    for _ in range(8):
        bench.admit()
    for _ in range(40):
        bench.refuse("too_many_in_flight", limit="max_in_flight", allowed=256, retry_after=0)
    assert bench.pushed == []
    for _ in range(60):
        for _ in range(32):
            bench.refuse("too_many_in_flight", limit="max_in_flight", allowed=8, retry_after=1)
        bench.clock.advance(1.01)
    assert bench.pushed == []
    for _ in range(2_600):
        bench.refuse("too_many_in_flight", limit="max_in_flight", allowed=8, retry_after=1)
        bench.clock.advance(0.005)
    assert bench.detectors() == {"pile_up"}


async def test_a_warning_is_shown_and_holds_nobody() -> None:
    """One retry in five is worth a look; the sample says so where the burn itself is calm."""
    bench = Bench(TokenBurnThresholds(cusum_warn=0.5, cusum_act=50.0, cusum_history_minutes=10))
    for minute in range(14):
        bench.admit(reserved=1_000 if minute < 13 else 1_500)
        bench.clock.advance(60)
    bench.admit(reserved=2_000)
    finding = (await bench.sample())[0]
    assert (finding.severity, finding.evidence["detector"]) == (Severity.WARNING, "busy_cusum")
    assert bench.raised == []


def test_rungs_are_as_configured() -> None:
    """What is set to open is told of and holds nobody."""
    rungs = {Detector.IDENTICAL_PROMPTS.value: "open"}
    burn = {"only": BurnWindow(300.0, 0.03, "stop")}
    bench = Bench(TokenBurnThresholds(rungs=rungs, burn=burn), day=100)
    for _ in range(10):
        bench.ask(b"p", tokens=1)
    found = {str(f.evidence["detector"]): (f.probe, f.rung) for f in bench.pushed if f.bad}
    assert found["identical_prompts"] == ("token_rate", Rung.OPEN)
    assert found["burn_rate"] == ("token_burn", Rung.STOP)


def everything(probe: TokenBurn, first: int, last: int) -> None:
    """Events of every kind: turns that end and turns that never do, streams, refusals, new conversations."""
    for n in range(first, last):
        name, at, prompt = f"s{n % 3}", n * 0.01, (n // 7).to_bytes(4, "big")
        turn, history = f"t{n}", (prompt,) * 16
        probe.admitted(
            TurnAdmitted(name, at, turn, "m", 1, prompt, n % 3, n, prompt, f"c{n // 5}", n, history)
        )
        probe.streamed(TurnStreamed(name, at, turn, ("words and words " * 20,)))
        probe.refused(TurnRefused(name, at, "budget_exceeded", "tokens_per_minute", 10, 9, 8, prompt))
        probe.refused(TurnRefused(name, at, "too_many_in_flight", "max_in_flight", 8, 8, 1))
        if n % 2:
            probe.finished(TurnFinished(name, at, turn, "failed", 1, 1, 2, 503))


def footprint(root: object) -> int:
    """The bytes of everything that can be reached from an object, code apart."""
    size, seen, waiting = 0, {id(root)}, [root]
    while waiting:
        thing = waiting.pop()
        size += sys.getsizeof(thing)
        for other in gc.get_referents(thing):
            code = isinstance(other, type | FunctionType | BuiltinFunctionType | ModuleType)
            if id(other) not in seen and not code:
                seen.add(id(other))
                waiting.append(other)
    return size


def test_the_footprint_would_show_a_leak() -> None:
    """What the test below measures with sees what a probe could hoard."""
    assert footprint([[b"x" * 1000, {"key": "y" * 1000}]]) > 2_000


def test_memory_is_bounded_under_a_hundred_thousand_events() -> None:
    """What half of them left behind, the other half adds nothing to: every second turn stays in flight."""
    probe = TokenBurn(
        TokenBurnThresholds(),
        budget=lambda _: SubsystemBudget(1000, 1000),
        clock=ManualClock(),
        push=lambda _: None,
    )
    everything(probe, 0, 11_500)
    half = footprint(probe)
    everything(probe, 11_500, 23_000)
    assert half < 16 << 20
    assert footprint(probe) < half + 64 * 1024
