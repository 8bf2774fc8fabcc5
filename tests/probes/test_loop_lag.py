"""Times in which epad itself stood still."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from probes.loop_lag import MAX_LAGS, LoopLag
from statemachine.clock import ManualClock


class Loop:
    def __init__(self) -> None:
        self.clock = ManualClock(0.0)
        self.lag = LoopLag(beat_seconds=0.25, lag_seconds=1.0, settle_seconds=10.0, clock=self.clock)
        self.lag.beat()

    def turn(self, seconds: float) -> None:
        """Let the loop turn as it should."""
        for _ in range(int(seconds / 0.25)):
            self.clock.advance(0.25)
            assert self.lag.beat() is None


def test_a_loop_that_turns_makes_nothing_void() -> None:
    """However long."""
    loop = Loop()
    loop.turn(60)
    assert not loop.lag.void(0, 60)
    assert loop.lag.take_worst() == 0


def test_a_stall_voids_its_own_time_and_a_while_after() -> None:
    """What waited in the sockets is read first."""
    loop = Loop()
    loop.turn(20)
    loop.clock.advance(5)
    lag = loop.lag.beat()
    assert lag is not None
    assert (lag.since, lag.until, lag.seconds) == (20.25, 25.0, 4.75)
    loop.turn(30)
    assert [loop.lag.void(at, at) for at in (20.0, 20.5, 25.0, 35.0, 35.1)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert loop.lag.void(10, 21)
    assert loop.lag.void_since(30)
    assert not loop.lag.void_since(40)


def test_a_stall_that_is_just_over_counts_before_the_next_beat() -> None:
    """Whoever judges first after it must not judge by it."""
    loop = Loop()
    loop.clock.advance(1.2)
    assert not loop.lag.void(1.2, 1.2)
    loop.clock.advance(0.1)
    assert loop.lag.void(1.3, 1.3)
    assert not loop.lag.void(0.1, 0.2)


def test_the_worst_is_taken_once() -> None:
    """Each look has its own; lateness below the limit shows too."""
    loop = Loop()
    loop.clock.advance(0.75)
    assert loop.lag.beat() is None
    assert (loop.lag.take_worst(), loop.lag.take_worst()) == (0.5, 0.0)


@given(st.lists(st.floats(0, 10), max_size=400))
def test_memory_is_bounded_and_the_newest_lag_is_known(pauses: list[float]) -> None:
    """Also when the loop does nothing but lag."""
    loop = Loop()
    last = None
    for pause in pauses:
        loop.clock.advance(pause)
        last = loop.lag.beat() or last
    assert len(loop.lag._lags) <= MAX_LAGS
    if last is not None:
        assert loop.lag.void(last.since, last.until)


def test_a_long_lag_is_a_sleep_of_the_machine() -> None:
    """Known from the moment at which anything runs after it, before the next beat; a busy second is none."""
    loop = Loop()
    loop.lag.beat()
    for pause in (1.0, 14.0):
        loop.clock.advance(pause)
        loop.lag.beat()
    assert loop.lag.slept_until(loop.clock.monotonic()) == float("-inf")
    loop.clock.advance(600.0)
    woke = loop.clock.monotonic()
    assert loop.lag.slept_until(woke) == woke
    loop.lag.beat()
    loop.clock.advance(0.25)
    assert loop.lag.slept_until(loop.clock.monotonic()) == woke
