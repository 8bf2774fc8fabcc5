"""The clock that tests move by hand."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from statemachine.clock import Clock, ManualClock


@given(st.floats(0, 1e6), st.floats(-1e6, 1e6))
def test_only_the_wall_clock_can_be_set(advanced: float, jumped: float) -> None:
    """Time passes on both clocks; a jump of the wall clock leaves durations alone."""
    clock: Clock = (manual := ManualClock())
    monotonic, utc = clock.monotonic(), clock.utc()
    manual.advance(advanced)
    manual.jump_wall_clock(jumped)
    assert clock.monotonic() == monotonic + advanced
    assert clock.utc() == utc + timedelta(seconds=advanced) + timedelta(seconds=jumped)
    assert clock.utc().tzinfo is not None
