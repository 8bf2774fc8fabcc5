"""Timers that go by the beat fall together, and keep their pace."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.runtime.timers import BEAT_SECONDS, OncePerBeat, beat_after, sleep_to_beat
from statemachine.clock import ManualClock


@given(st.floats(0, 1e9), st.floats(0, 100))
def test_it_is_never_put_off_or_brought_forward_by_more_than_half_a_beat(now: float, seconds: float) -> None:
    """And it is never due at once, which would be a loop without rest."""
    due = beat_after(now, seconds)
    assert abs(due - now - seconds) <= BEAT_SECONDS / 2 + 1e-6
    assert due - now >= min(seconds, BEAT_SECONDS / 2) - 1e-6


@given(st.integers(0, 10**9), st.integers(1, 400))
def test_an_interval_is_kept_by_one_whose_work_takes_a_while(beat: int, beats: int) -> None:
    """It does not slip by a beat each time."""
    at = beat * BEAT_SECONDS
    assert beat_after(at + BEAT_SECONDS / 5, beats * BEAT_SECONDS) == at + beats * BEAT_SECONDS


async def test_those_who_begin_apart_wake_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sleep of less than a beat is left as it is."""
    loop, slept = asyncio.get_running_loop(), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for now in (10.01, 10.09, 10.2):
        monkeypatch.setattr(loop, "time", lambda now=now: now)
        await sleep_to_beat(1.0)
        await sleep_to_beat(0.1)
    assert [round(seconds, 9) for seconds in slept] == [0.99, 0.1, 0.91, 0.1, 0.8, 0.1]


def test_what_many_want_in_one_beat_is_taken_once() -> None:
    """And anew in the next."""
    clock, taken = ManualClock(), []

    def take() -> int:
        taken.append(clock.monotonic())
        return len(taken)

    shared = OncePerBeat(take, clock)
    assert [shared(), shared()] == [1, 1]
    clock.advance(BEAT_SECONDS)
    assert [shared(), shared()] == [2, 2]
