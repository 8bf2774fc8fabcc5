"""The limit of calls a minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epad.tools.rates import WINDOW_SECONDS, CallRates
from statemachine.clock import ManualClock


@given(limit=st.integers(1, 5), pauses=st.lists(st.floats(0, 40), max_size=40))
def test_no_minute_has_more_than_the_limit(limit: int, pauses: list[float]) -> None:
    """Wherever the minute begins; and whoever waits as long as it is told is let in."""
    clock = ManualClock()
    rates = CallRates(lambda _: limit, clock)
    taken: list[float] = []
    for pause in pauses:
        clock.advance(pause)
        wait = rates.take("chat")
        if wait:
            assert 0 < wait <= WINDOW_SECONDS
            clock.advance(wait + 1e-6)
            assert rates.take("chat") == 0
        taken.append(clock.monotonic())
    for start in taken:
        assert len([at for at in taken if start <= at < start + WINDOW_SECONDS - 1e-3]) <= limit


def test_each_subsystem_has_its_own_and_zero_is_none() -> None:
    """One that hammers takes nothing from another."""
    limits = {"chat": 1, "free": 0}
    rates = CallRates(lambda name: limits.get(name, 1), ManualClock())

    assert [rates.take("chat") > 0 for _ in range(3)] == [False, True, True]
    assert not any(rates.take("free") for _ in range(1_000))
    assert rates.take("other") == 0


def test_an_agents_calls_count_as_its_roots() -> None:
    """However many it spawns, a subsystem has no more calls."""
    clock = ManualClock()
    rates = CallRates(lambda name: 3 if name == "boss" else 0, clock, lambda name: name.partition("/")[0])
    assert [rates.take(name) for name in ("boss", "boss/1", "boss/2")] == [0.0, 0.0, 0.0]
    assert rates.take("boss/3") > 0
    assert (rates.left("boss"), rates.left("boss/3"), rates.left("other")) == (0, 0, None)
