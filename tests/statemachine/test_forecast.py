"""When the phase moves next if nothing new is found."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from shipped_settings import CONFIG

from statemachine.forecast import forecast
from statemachine.phase import Phase
from statemachine.policy import decide
from statemachine.situation import Persist, Situation

LIMITS = CONFIG.policy


def test_the_first_moment_at_which_a_row_is_taken_and_the_row() -> None:
    """Calm after a quarantine: NORMAL once the dwell time is over, which began at 100."""

    def situation_at(at: float) -> Situation:
        return Situation(Phase.QUARANTINE, in_phase_seconds=at - 100.0)

    found = forecast(situation_at, [100.0 + LIMITS.dwell_seconds, 500.0], 110.0, LIMITS)
    assert found is not None
    assert (found[0], found[1].destination) == (130.0, Phase.NORMAL)


def test_what_waits_for_no_time_has_no_forecast() -> None:
    """A checkpoint that is being written, and an order that nobody has given."""
    waiting = Situation(Phase.PRESERVATION, persist=Persist.RUNNING, in_phase_seconds=1e6)
    assert forecast(lambda _: waiting, [5.0, float("inf")], 0.0, LIMITS) is None
    assert forecast(lambda _: Situation(Phase.LIFEBOAT, in_phase_seconds=1e6), [5.0], 0.0, LIMITS) is None


@given(
    st.sampled_from([Phase.QUARANTINE, Phase.PRESERVATION, Phase.RECOVERY]),
    st.sampled_from(Persist),
    st.integers(0, 3),
    st.integers(0, 1),
    st.floats(0, 2_000),
    st.lists(st.floats(0, 4_000), max_size=6),
)
def test_before_that_moment_no_row_is_taken_at_any_that_was_asked_for(
    phase: Phase, persist: Persist, anomalies: int, degraded: int, clear: float, moments: list[float]
) -> None:
    """The table is asked, so the forecast and the machine cannot part."""
    base = Situation(phase, persist=persist, degraded=degraded, attempts=1)

    def situation_at(at: float) -> Situation:
        found = 0 if at >= clear else anomalies
        quiet = at - clear if not found else 0.0
        return replace(
            base, in_phase_seconds=at, quiet_seconds=quiet, anomalies=found, since_attempt_seconds=at
        )

    found = forecast(situation_at, moments, 0.0, LIMITS)
    for moment in (0.0, *moments):
        row = decide(situation_at(moment + 0.001), LIMITS)
        if found is None or moment < found[0]:
            assert row is None
        elif moment == found[0]:
            assert row == found[1]
