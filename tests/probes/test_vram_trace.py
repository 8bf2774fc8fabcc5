"""The line of a GPU's memory: the most of each minute, and never more than it may hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from probes.vram.trace import POINTS, SPAN_SECONDS, Trace


def test_each_minute_has_one_point_with_its_most() -> None:
    """A peak between two looks at the page is not lost."""
    trace = Trace()
    for at, used in ((0.0, 5), (20.0, 9), (40.0, 3), (61.0, 4)):
        trace.add(at, used)
    assert trace.points == ((0.0, 9), (60.0, 4))


@given(st.lists(st.tuples(st.floats(0.1, 500.0), st.integers(0, 1 << 40)), max_size=400))
def test_it_is_bounded_and_in_order(steps: list[tuple[float, int]]) -> None:
    """Whatever the rate of samples."""
    trace, at = Trace(), 0.0
    for step, used in steps:
        at += step
        trace.add(at, used)
    times = [begun for begun, _ in trace.points]
    assert times == sorted(set(times))
    assert len(times) <= POINTS
    assert all(begun % SPAN_SECONDS == 0 for begun in times)
