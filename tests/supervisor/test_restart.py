"""The restart policy, as a pure function."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from epad.configuration.schema import RestartConfig
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
    policy: Literal["always", "on-failure", "never"], how: Ending, decision: Decision, reason: str
) -> None:
    """Every pair of policy and ending has its row."""
    config = RestartConfig(policy=policy)
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


@pytest.mark.parametrize("life", [1_800.0, 2_700.0, 7_200.0])
def test_a_healthy_run_ends_the_row(life: float) -> None:
    """What works for its healthy time is started again for ever; the cascade probe tells of it."""
    assert Looper(RestartConfig(), life).given_up_within(30 * 86_400.0) is None


def test_a_long_run_that_was_never_ready_is_not_healthy() -> None:
    """It loads for half an hour and dies: nobody was ever served."""
    verdict = Looper(RestartConfig(), 2_000.0, ready=False).given_up_within(86_400.0)
    assert verdict is not None
    assert verdict.reason == NEVER_HEALTHY


@given(st.lists(st.floats(0.0, 1_799.0), min_size=12, max_size=40), st.floats(0, 1))
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
    looper.history, looper.lives = looper.history.for_trial(), (1_900.0, 45.0)
    assert looper.dies().decision is Decision.RESTART
    assert looper.history.in_a_row == 1


def test_failures_of_the_last_hour_are_remembered_through_a_healthy_run() -> None:
    """For the probe that counts them after the daemon was started again."""
    looper = Looper(RestartConfig(healthy_seconds=600.0), 1_200.0)
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
            "it never ran healthily: died 11 times in a row, lives of about 45 s, none was ready for 1800 s",
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


def test_a_period_has_passed_when_it_is_over() -> None:
    """So has the hour of which failures are remembered; what is as old as either is of none."""
    for before, counts in ((60.0, False), (59.75, True)):
        verdict = decide(CONFIG, History((100.0,), in_a_row=1), ending(100.0 + before, 99.0), 0.0)
        assert verdict.history.restarted_at == ((100.0, 159.75) if counts else (160.0,))
    for before, counts in ((3_600.0, False), (3_599.5, True)):
        verdict = decide(CONFIG, History(failed_at=(100.0,)), ending(100.0 + before, 99.0), 0.0)
        assert verdict.history.failed_at == ((100.0, 3_699.5) if counts else (3_700.0,))


@pytest.mark.parametrize(("row", "chance", "seconds"), [
    (0, 0.0, 1.0), (0, 1.0, 1.25), (0, 0.5, 1.125), (1, 0.0, 2.0), (2, 0.5, 4.5), (3, 0.0, 8.0), (3, 1.0, 8.0),
    (2, 1.0, 5.0),
])  # fmt: skip
def test_the_delay_doubles_and_chance_adds_up_to_a_quarter(row: int, chance: float, seconds: float) -> None:
    verdict = decide(CONFIG, History(in_a_row=row), ending(0.5), chance)
    assert (verdict.delay_seconds, verdict.history.in_a_row) == (seconds, row + 1)


def test_the_delay_is_doubled_thirty_times_at_most() -> None:
    config = replace(CONFIG, backoff_seconds=1.0, backoff_max_seconds=2.0**40, failures_in_a_row=0)
    delays = [
        decide(config, History(in_a_row=row), ending(0.5), 0.0).delay_seconds for row in (29, 30, 31, 90)
    ]
    assert delays == [2.0**29, 2.0**30, 2.0**30, 2.0**30]


def test_sixteen_lives_and_failures_are_remembered() -> None:
    """The last ones, also of those that are given up."""
    history = History(in_a_row=3, lives=tuple(range(16)), failed_at=tuple(range(16)))
    for config in (CONFIG, replace(CONFIG, failures_in_a_row=3)):
        after = decide(config, history, ending(20.0, 13.0), 0.0).history
        assert after.lives == (*range(1, 16), 7.0)
        assert after.failed_at == (*range(1, 16), 20.0)
    assert decide(CONFIG, shortened(history, 15), ending(20.0, 13.0), 0.0).history.lives == (
        *range(15),
        7.0,
    )


def shortened(history: History, lives: int) -> History:
    return History(history.restarted_at, history.in_a_row, history.lives[:lives], history.failed_at[:lives])


@pytest.mark.parametrize(
    ("config", "history", "verdict"),
    [
        # The budget of the period comes first, then the row; neither is changed by what is given up.
        (CONFIG, History((1.0, 2.0, 3.0), 3), (Decision.GIVE_UP, BUDGET_SPENT, History((1.0, 2.0, 3.0), 3))),
        (CONFIG, History((2.0, 3.0), 3), (Decision.RESTART, WITHIN_BUDGET, History((2.0, 3.0, 5.0), 4))),
        (replace(CONFIG, failures_in_a_row=3), History((2.0,), 3),
         (Decision.GIVE_UP, NEVER_HEALTHY, History((2.0,), 3))),
        (replace(CONFIG, failures_in_a_row=4), History((2.0,), 3),
         (Decision.RESTART, WITHIN_BUDGET, History((2.0, 5.0), 4))),
        (replace(CONFIG, failures_in_a_row=1), History((), 0), (Decision.RESTART, WITHIN_BUDGET, History((5.0,), 1))),
        (replace(CONFIG, failures_in_a_row=1), History((), 1), (Decision.GIVE_UP, NEVER_HEALTHY, History((), 1))),
        (replace(CONFIG, failures_in_a_row=0), History((), 99),
         (Decision.RESTART, WITHIN_BUDGET, History((5.0,), 100))),
    ],
)  # fmt: skip
def test_all_of_a_verdict(
    config: RestartConfig, history: History, verdict: tuple[Decision, str, History]
) -> None:
    decision, reason, after = verdict
    after = History(after.restarted_at, after.in_a_row, lives=(1.0,), failed_at=(5.0,))
    delay = 0.0
    if decision is Decision.RESTART:
        delay = min(8.0, 2.0 ** min(history.in_a_row, 3))
    assert decide(config, history, ending(5.0, 4.0), 0.0) == Verdict(decision, delay, reason, after)


def test_what_is_left_alone_waits_for_nothing() -> None:
    """A success ends the row and the budget; a stop, and a policy that starts nothing again, change nothing."""
    history = History((1.0,), 2, (3.0,), (4.0,))
    on_failure, never = replace(CONFIG, policy="on-failure"), replace(CONFIG, policy="never")
    assert decide(on_failure, history, ending(5.0, succeeded=True), 0.5) == Verdict(
        Decision.LEAVE, 0.0, SUCCEEDED, History()
    )
    assert decide(never, history, ending(5.0), 0.5) == Verdict(Decision.LEAVE, 0.0, NEVER, history)
    assert decide(never, history, ending(5.0, wanted=True), 0.5) == Verdict(
        Decision.LEAVE, 0.0, ENDED_ON_PURPOSE, history
    )
    assert [*Decision] == ["restart", "leave", "give_up"]
    assert [WITHIN_BUDGET, SUCCEEDED, NEVER, ENDED_ON_PURPOSE] == [
        "restart within budget", "it ended successfully", "restart policy is never", "the daemon ended it",
    ]  # fmt: skip


@pytest.mark.parametrize(("ready", "life", "healthy"), [
    (True, 600.0, True), (True, 599.75, False), (False, 600.0, False), (False, 9_999.0, False),
])  # fmt: skip
def test_a_run_is_healthy_if_it_was_ready_and_long_enough(ready: bool, life: float, healthy: bool) -> None:
    """It forgets the row, the budget and the lives before it, and no failure of the hour."""
    history = History((9_990.0,), 2, (3.0,), (9_980.0,))
    after = decide(CONFIG, history, Ending(10_000.0, 10_000.0 - life, False, False, ready), 0.0).history
    failed_at = (9_980.0, 10_000.0)
    new_row = History((10_000.0,), 1, (life,), failed_at)
    same_row = History((9_990.0, 10_000.0), 3, (3.0, life), failed_at)
    assert after == (new_row if healthy else same_row)


def test_a_process_that_says_nothing_of_it_was_ready_and_one_that_ends_before_it_began_lived_no_time() -> (
    None
):
    assert Ending(5.0, 2.0, False, None) == Ending(5.0, 2.0, False, None, True)
    assert (Ending(5.0, 2.0, False, None).life_seconds, Ending(2.0, 5.0, False, None).life_seconds) == (
        3.0,
        0.0,
    )
    assert History((1.0,), 2, (3.0,), (4.0,)).for_trial() == History((), 2, (3.0,), (4.0,))


@pytest.mark.parametrize(
    ("lives", "said"),
    [
        ((), ""), ((7.4,), ", lives of about 7 s"), ((7.6,), ", lives of about 8 s"),
        # As long as one another within a second, or a quarter.
        ((1.0, 2.0), ", lives of about 2 s"), ((1.0, 3.0), ", lives of 1 to 3 s"),
        ((4.0, 5.0), ", lives of about 5 s"), ((8.0, 10.0), ", lives of about 10 s"),
        ((8.0, 11.0), ", lives of 8 to 11 s"), ((100.0, 125.0, 110.0), ", lives of about 125 s"),
        ((100.0, 126.0), ", lives of 100 to 126 s"),
    ],
)  # fmt: skip
def test_lives_are_said_in_whole_seconds(lives: tuple[float, ...], said: str) -> None:
    spent = Verdict(Decision.GIVE_UP, 0.0, BUDGET_SPENT, History(lives=lives))
    assert in_words(CONFIG, spent) == f"restart budget spent: 3 in 60 s{said}"
    looped = Verdict(Decision.GIVE_UP, 0.0, NEVER_HEALTHY, History(in_a_row=4, lives=lives))
    assert in_words(CONFIG, looped) == (
        f"it never ran healthily: died 5 times in a row{said}, none was ready for 600 s"
    )
