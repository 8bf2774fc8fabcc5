"""The restart policy, as a pure function."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from epad.config import RestartConfig
from epad.supervisor.restart import (
    BUDGET_SPENT,
    ENDED_ON_PURPOSE,
    NEVER,
    NEVER_HEALTHY,
    SUCCEEDED,
    WITHIN_BUDGET,
    Decision,
    Ending,
    History,
    Verdict,
    decide,
    in_words,
)

CONFIG = RestartConfig(
    intensity=3, period_seconds=60.0, backoff_seconds=1.0, backoff_max_seconds=8.0, healthy_seconds=600.0
)
configs = st.builds(
    RestartConfig,
    policy=st.sampled_from(["always", "on-failure"]),
    intensity=st.integers(1, 8),
    period_seconds=st.floats(1, 1000),
    backoff_seconds=st.floats(0.001, 10),
    backoff_max_seconds=st.floats(0.001, 100),
    healthy_seconds=st.floats(1, 10_000),
)


def ending(
    at: float, started_at: float = 0.0, *, wanted: bool = False, succeeded: bool | None = False
) -> Ending:
    return Ending(at, started_at, wanted, succeeded)


@pytest.mark.parametrize(
    ("policy", "how", "decision", "reason"),
    [
        ("always", ending(5), Decision.RESTART, WITHIN_BUDGET),
        ("always", ending(5, succeeded=True), Decision.RESTART, WITHIN_BUDGET),
        ("on-failure", ending(5), Decision.RESTART, WITHIN_BUDGET),
        ("on-failure", ending(5, succeeded=None), Decision.RESTART, WITHIN_BUDGET),
        ("on-failure", ending(5, succeeded=True), Decision.LEAVE, SUCCEEDED),
        ("never", ending(5), Decision.LEAVE, NEVER),
        ("never", ending(5, succeeded=True), Decision.LEAVE, SUCCEEDED),
        ("always", ending(5, wanted=True), Decision.LEAVE, ENDED_ON_PURPOSE),
        ("on-failure", ending(5, wanted=True), Decision.LEAVE, ENDED_ON_PURPOSE),
        ("never", ending(5, wanted=True), Decision.LEAVE, ENDED_ON_PURPOSE),
    ],
)
def test_each_policy_says_what_each_ending_means(
    policy: str, how: Ending, decision: Decision, reason: str
) -> None:
    """Every pair of policy and ending has its row."""
    config = RestartConfig(policy=policy)  # type: ignore[arg-type]
    verdict = decide(config, History(), how, 0.0)
    assert (verdict.decision, verdict.reason) == (decision, reason)


def test_the_budget_is_spent_after_intensity_restarts() -> None:
    """Three in sixty seconds are allowed, with growing delays; the fourth is refused."""
    history = History()
    delays = []
    for at in (1.0, 3.0, 6.0):
        verdict = decide(CONFIG, history, ending(at, at - 1), 0.0)
        delays.append(verdict.delay_seconds)
        history = verdict.history
    assert delays == [1.0, 2.0, 4.0]
    last = decide(CONFIG, history, ending(20.0, 19.0), 0.0)
    assert (last.decision, last.reason) == (Decision.GIVE_UP, BUDGET_SPENT)


def test_a_window_that_has_passed_gives_its_budget_back() -> None:
    """Only restarts within the period count, but the back-off is still that of a row."""
    verdict = decide(CONFIG, History((1.0, 2.0, 3.0), in_a_row=3), ending(62.5, 60.0), 0.0)
    assert verdict.decision is Decision.RESTART
    assert verdict.history.restarted_at == (3.0, 62.5)
    assert verdict.delay_seconds == 8.0


def test_a_healthy_time_forgives_everything() -> None:
    """The back-off of systemd never resets (systemd#43813); ours does."""
    verdict = decide(CONFIG, History((1.0, 2.0, 3.0), in_a_row=30), ending(650.0, 10.0), 0.0)
    assert verdict.delay_seconds == CONFIG.backoff_seconds
    assert verdict.history == History((650.0,), in_a_row=1, lives=(640.0,), failed_at=(650.0,))


def test_a_stop_on_purpose_is_no_crash() -> None:
    """It neither costs budget nor grows the back-off (circus#809)."""
    history = History((1.0, 2.0), in_a_row=2)
    assert decide(CONFIG, history, ending(5.0, wanted=True), 0.5).history == history


@given(configs, st.lists(st.floats(0.0, 500.0), max_size=60), st.floats(0, 1))
def test_never_more_than_intensity_in_any_period(
    config: RestartConfig, gaps: list[float], chance: float
) -> None:
    """Whatever the crashes, no window holds more restarts than allowed, and no delay leaves its bounds."""
    history, at = History(), 0.0
    restarts: list[float] = []
    for gap in gaps:
        started, at = at, at + min(gap, config.healthy_seconds / 2)
        verdict = decide(config, history, ending(at, started), chance)
        history = verdict.history
        if verdict.decision is not Decision.RESTART:
            continue
        restarts.append(at)
        assert 0 < verdict.delay_seconds <= config.backoff_max_seconds
        recent = [r for r in restarts if at - r < config.period_seconds]
        assert len(recent) <= config.intensity


@given(configs, st.integers(0, 10_000), st.floats(0, 1))
def test_the_delay_is_bounded_however_long_the_row(
    config: RestartConfig, in_a_row: int, chance: float
) -> None:
    """No number of failures overflows."""
    config = replace(config, failures_in_a_row=0)
    verdict = decide(config, History((), in_a_row), ending(0.5), chance)
    assert 0 < verdict.delay_seconds <= config.backoff_max_seconds


@given(st.integers(0, 20))
def test_jitter_only_ever_adds(in_a_row: int) -> None:
    """Subsystems that fell together come back apart, and never sooner than configured."""
    history = History((), in_a_row)
    plain, late = (decide(CONFIG, history, ending(0.5), chance).delay_seconds for chance in (0.0, 1.0))
    assert plain <= late <= CONFIG.backoff_max_seconds


class Looper:
    """A process that dies after each of these lives, over and over, and is started again as the policy says."""

    def __init__(
        self, config: RestartConfig, *lives: float, ready: bool = True, succeeded: bool = False
    ) -> None:
        self.config, self.lives, self.ready, self.succeeded = config, lives, ready, succeeded
        self.now, self.deaths, self.history = 0.0, 0, History()

    def dies(self) -> Verdict:
        life = self.lives[self.deaths % len(self.lives)]
        started, self.now = self.now, self.now + life
        self.deaths += 1
        verdict = decide(
            self.config, self.history, Ending(self.now, started, False, self.succeeded, self.ready), 0.5
        )
        self.history, self.now = verdict.history, self.now + verdict.delay_seconds
        return verdict

    def given_up_within(self, seconds: float) -> Verdict | None:
        while self.now < seconds:
            if (verdict := self.dies()).decision is Decision.GIVE_UP:
                return verdict
        return None


@pytest.mark.parametrize(
    "lives", [(1.0,), (12.0,), (45.0,), (120.0,), (290.0,), (1.0, 250.0), (3.0, 40.0, 400.0)]
)
@pytest.mark.parametrize("backoff", [(0.5, 60.0), (0.001, 0.01), (30.0, 60.0), (5.0, 5.0)])
@pytest.mark.parametrize("succeeded", [False, True])
def test_a_row_of_failures_is_given_up_within_the_hour(
    lives: tuple[float, ...], backoff: tuple[float, float], succeeded: bool
) -> None:
    """Whatever the back-off, and with exit status 0 under `always` too."""
    config = RestartConfig(policy="always", backoff_seconds=backoff[0], backoff_max_seconds=backoff[1])
    assert Looper(config, *lives, succeeded=succeeded).given_up_within(3_600.0) is not None


@pytest.mark.parametrize("life", [600.0, 900.0, 1_200.0])
def test_a_healthy_run_ends_the_row(life: float) -> None:
    """What works for its healthy time is started again for ever; the cascade probe tells of it."""
    assert Looper(RestartConfig(), life).given_up_within(30 * 86_400.0) is None


def test_a_long_run_that_was_never_ready_is_not_healthy() -> None:
    """It loads for 20 minutes and dies: nobody was ever served."""
    verdict = Looper(RestartConfig(), 1_200.0, ready=False).given_up_within(86_400.0)
    assert verdict is not None
    assert verdict.reason == NEVER_HEALTHY


@given(st.lists(st.floats(0.0, 599.0), min_size=12, max_size=40), st.floats(0, 1))
@settings(max_examples=50)
def test_no_row_is_longer_than_it_may_be(lives: list[float], chance: float) -> None:
    """Eleven failures without a healthy run in between are the end, in whatever rhythm."""
    history, now = History(), 0.0
    for deaths, life in enumerate(lives, 1):
        verdict = decide(RestartConfig(), history, ending(now + life, now), chance)
        history, now = verdict.history, now + life + verdict.delay_seconds
        if verdict.decision is Decision.GIVE_UP:
            assert deaths <= RestartConfig().failures_in_a_row + 1
            return
    raise AssertionError("it was never given up")


def test_a_recoverys_trial_goes_on_with_the_row() -> None:
    """The budget of the period is whole again; a loop that outlives the verification ends at its next death."""
    looper = Looper(RestartConfig(), 45.0)
    assert looper.given_up_within(3_600.0) is not None
    looper.history = looper.history.for_trial()
    assert looper.history.restarted_at == ()
    assert looper.dies().decision is Decision.GIVE_UP
    looper.history, looper.lives = looper.history.for_trial(), (700.0, 45.0)
    assert looper.dies().decision is Decision.RESTART
    assert looper.history.in_a_row == 1


def test_failures_of_the_last_hour_are_remembered_through_a_healthy_run() -> None:
    """For the probe that counts them after the daemon was started again."""
    looper = Looper(RestartConfig(), 1_200.0)
    for _ in range(4):
        looper.dies()
    at = looper.history.failed_at
    assert len(at) == 3
    assert at[-1] - at[0] < 3_600.0


@pytest.mark.parametrize(
    ("lives", "words"),
    [
        (
            (45.0,),
            "it never ran healthily: died 11 times in a row, lives of about 45 s, none was ready for 600 s",
        ),
        ((30.0, 200.0), "died 11 times in a row, lives of 30 to 200 s"),
        ((0.2,), "restart budget spent: 5 in 60 s, lives of about 0 s"),
    ],
)
def test_giving_up_says_how_often_and_how_long(lives: tuple[float, ...], words: str) -> None:
    """A person reads from it whether it dies at once or after loading."""
    verdict = Looper(RestartConfig(), *lives).given_up_within(3_600.0)
    assert verdict is not None
    assert words in in_words(RestartConfig(), verdict)
