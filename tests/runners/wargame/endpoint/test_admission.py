"""In-flight calls grow while that buys throughput, and shrink when the server says that it is too much."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.wargame.endpoint.admission import Admission
from runners.wargame.outcomes import CallOutcome


class Server:
    """A server that runs so many calls at once, each for a second; the rest wait in its queue."""

    def __init__(self, parallel: int, refuses_above: int = 10**9) -> None:
        self.parallel = parallel
        self.refuses_above = refuses_above
        self.now = 0.0

    def serve(self, admission: Admission, calls: int) -> None:
        """Let a client keep `limit` calls in flight until so many are answered."""
        served = 0
        while served < calls:
            batch = admission.limit
            for number in range(batch):
                admission.started(number + 1, self.now)
            begun = self.now
            for number in range(batch):
                refused = number >= self.refuses_above
                latency = 0.01 if refused else 1.0 + number // self.parallel
                self.now = max(self.now, begun + latency)
                outcome = CallOutcome.HTTP_429 if refused else CallOutcome.OK
                admission.ended(outcome, 429 if refused else 200, latency, self.now)
            served += batch


@pytest.mark.parametrize("ceiling", [1, 3, 16, 64, 256])
def test_a_server_without_limits_is_used_up_to_the_ceiling(ceiling: int) -> None:
    """Doubling gets there within a few windows."""
    admission = Admission(ceiling)
    Server(parallel=10_000).serve(admission, 3_000)
    assert admission.limit == ceiling


def test_one_at_a_time_is_noticed_and_left_alone() -> None:
    """Ollama's default of one parallel call: more in flight only waits, so the limit stays small."""
    admission = Admission(64)
    Server(parallel=1).serve(admission, 2_000)
    assert admission.limit <= 8


def test_refusals_cut_the_limit_below_what_is_refused() -> None:
    """A server that says 429 above sixteen is asked near sixteen."""
    admission = Admission(256)
    Server(parallel=10_000, refuses_above=16).serve(admission, 5_000)
    assert 8 <= admission.limit <= 24


@settings(max_examples=60)
@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.sampled_from(list(CallOutcome)), st.floats(0, 100)), max_size=300),
)
def test_the_limit_stays_between_one_and_the_ceiling(
    ceiling: int, calls: list[tuple[CallOutcome, float]]
) -> None:
    """Whatever comes back, in whatever order."""
    admission, now = Admission(ceiling), 0.0
    for outcome, latency in calls:
        admission.started(admission.limit, now)
        now += latency
        admission.ended(outcome, 503 if outcome is CallOutcome.HTTP_5XX else 200, latency, now)
        assert 1 <= admission.limit <= ceiling


def test_an_idle_client_learns_nothing() -> None:
    """Windows in which the limit was never reached say nothing about a higher one."""
    admission = Admission(64)
    for n in range(500):
        admission.started(1, float(n))
        admission.ended(CallOutcome.OK, 200, 0.5, n + 0.5)
    assert admission.limit == 4
