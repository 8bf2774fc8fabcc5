"""The restart policy, as a pure function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.config import RestartConfig
from epad.supervisor.restart import (
    BUDGET_SPENT,
    ENDED_ON_PURPOSE,
    NEVER,
    SUCCEEDED,
    WITHIN_BUDGET,
    Decision,
    Ending,
    History,
    decide,
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
    assert verdict.history == History((650.0,), in_a_row=1)


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
    verdict = decide(config, History((), in_a_row), ending(0.5), chance)
    assert 0 < verdict.delay_seconds <= config.backoff_max_seconds


@given(st.integers(0, 20))
def test_jitter_only_ever_adds(in_a_row: int) -> None:
    """Subsystems that fell together come back apart, and never sooner than configured."""
    history = History((), in_a_row)
    plain, late = (decide(CONFIG, history, ending(0.5), chance).delay_seconds for chance in (0.0, 1.0))
    assert plain <= late <= CONFIG.backoff_max_seconds
