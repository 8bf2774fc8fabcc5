"""The states of an upstream: what each begins and ends with, and whom it keeps away meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.gateway.health import (
    DOUBTED_SECONDS,
    LEAST_TURNS,
    LONGEST_LIMIT_SECONDS,
    OPEN_SECONDS,
    WINDOW_SECONDS,
    Health,
    Look,
    State,
)
from statemachine.clock import ManualClock

WELL = Look()
GONE, LOADING, REJECTING, FAILING = (
    Look(state, state.value) for state in (State.GONE, State.LOADING, State.REJECTING, State.FAILING)
)


class Bench:
    """A health with a clock of its own; counts how often its breaker opened."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.openings = 0
        self.health = Health(self.clock, self.opened)

    def opened(self) -> None:
        self.openings += 1

    def open(self, state: State) -> None:
        """Bring it into a state, as turns do."""
        match state:
            case State.GONE:
                self.health.gone("refused")
            case State.LOADING:
                self.health.loading("Loading model")
            case State.REJECTING:
                self.health.rejected("no key", "agent")
                self.health.rejected("no key", "agent")
            case State.FAILING:
                for _ in range(LEAST_TURNS):
                    self.health.failed("it answered 500", "agent")
        assert self.health.state is state
        assert not self.health.ask(who="agent")


@pytest.fixture
def bench() -> Bench:
    return Bench()


OPEN = (State.GONE, State.LOADING, State.REJECTING, State.FAILING)


@pytest.mark.parametrize("state", OPEN)
def test_an_open_breaker_says_so_once_and_why(bench: Bench, state: State) -> None:
    bench.open(state)
    assert (bench.openings, bench.health.is_open) == (1, True)
    assert bench.health.reason.removeprefix("breaker open: ") == bench.health.why != ""


@pytest.mark.parametrize("state", OPEN)
@pytest.mark.parametrize("failed", [GONE, LOADING, FAILING])
def test_a_look_that_passes_after_one_that_failed_closes_it(bench: Bench, state: State, failed: Look) -> None:
    """Whatever it was: the server is back, and the next turn goes there."""
    bench.open(state)
    bench.health.looked(failed)
    assert bench.health.state is failed.state
    bench.health.looked(WELL)
    assert (bench.health.state, bench.health.reason) == (State.WELL, "")
    assert bench.health.ask(who="agent")


@pytest.mark.parametrize(("state", "closes"), [
    (State.GONE, True), (State.LOADING, True), (State.REJECTING, False), (State.FAILING, False),
])  # fmt: skip
def test_a_first_look_that_passes_tells_nothing_of_a_server_that_fails_turns(
    bench: Bench, state: State, closes: bool
) -> None:
    """Its list of models is served all along: there a turn has to try, one at a time."""
    bench.open(state)
    bench.health.looked(WELL)
    assert bench.health.is_open is not closes
    if closes:
        return
    bench.clock.advance(OPEN_SECONDS)
    assert bench.health.ask(who="agent")
    assert not bench.health.ask(who="agent")
    bench.health.succeeded("agent")
    assert bench.health.ask(who="agent")


@pytest.mark.parametrize("state", OPEN)
def test_a_turn_that_is_answered_closes_any(bench: Bench, state: State) -> None:
    bench.open(state)
    bench.health.succeeded("agent")
    assert bench.health.state is State.WELL


def test_while_looks_fail_turns_try_less_often(bench: Bench) -> None:
    """But they do: the route that is looked at may be broken alone."""
    bench.open(State.FAILING)
    bench.health.looked(FAILING)
    bench.clock.advance(DOUBTED_SECONDS - 0.1)
    assert not bench.health.ask(who="agent")
    bench.clock.advance(0.2)
    assert bench.health.ask(who="agent")


def test_one_refused_key_is_no_evidence_and_a_turn_that_is_let_in_wipes_it_out(bench: Bench) -> None:
    bench.health.rejected("no")
    assert bench.health.ask()
    bench.health.succeeded()
    bench.health.rejected("no")
    assert bench.health.ask()
    bench.health.rejected("no")
    assert not bench.health.ask()


def test_one_whose_texts_are_forbidden_shuts_nobody_else_out(bench: Bench) -> None:
    """The other's turns are let in: so it is not the key."""
    bench.health.succeeded("bystander")
    for _ in range(50):
        bench.health.rejected("no", "agent")
        assert bench.health.ask(who="bystander")
    bench.clock.advance(WINDOW_SECONDS + 1)
    bench.health.rejected("no", "agent")
    assert not bench.health.ask(who="agent")
    assert bench.health.ask(who="bystander")


def test_a_list_of_models_that_is_closed_to_epad_is_no_trouble_while_turns_are_let_in(bench: Bench) -> None:
    bench.health.succeeded("agent")
    bench.health.looked(REJECTING)
    assert (bench.health.state, bench.health.reason) == (State.WELL, "")
    bench.clock.advance(WINDOW_SECONDS + 1)
    bench.health.succeeded("other")
    bench.clock.advance(1)
    assert bench.health.state is State.WELL


def test_a_look_alone_opens_nothing_but_is_shown(bench: Bench) -> None:
    bench.health.looked(REJECTING)
    assert (bench.health.state, bench.health.ask()) == (State.REJECTING, True)
    bench.health.looked(WELL)
    assert bench.health.state is State.WELL


def test_a_server_that_is_back_and_wants_a_key_is_back(bench: Bench) -> None:
    """Whether it takes epad's for turns, turns find out."""
    bench.open(State.GONE)
    bench.health.looked(REJECTING)
    assert bench.health.state is State.WELL


class TestLimits:
    def test_a_limit_holds_for_its_model_and_its_time(self, bench: Bench) -> None:
        bench.health.limited("429", 20, "large")
        assert not bench.health.ask("large")
        assert bench.health.ask("small")
        assert (bench.health.state, bench.health.reason, bench.health.limit) == (State.LIMITING, "", "429")
        assert bench.health.seconds_until_asked("large") == pytest.approx(20)
        bench.clock.advance(20)
        assert bench.health.ask("large")
        assert (bench.health.state, bench.health.limit) == (State.WELL, "")

    @given(st.floats(allow_nan=False))
    def test_no_limit_is_for_ever(self, seconds: float) -> None:
        bench = Bench()
        bench.health.limited("429", seconds, "m")
        assert 0 < bench.health.seconds_until_asked("m") <= LONGEST_LIMIT_SECONDS

    def test_a_server_that_limits_is_there(self, bench: Bench) -> None:
        bench.open(State.FAILING)
        bench.health.limited("429", 2, "m")
        assert bench.health.state is State.LIMITING
        assert bench.health.ask("other", "agent")

    def test_what_is_remembered_is_bounded(self, bench: Bench) -> None:
        for number in range(1_000):
            bench.health.limited("429", 600, f"m{number}")
        assert len(bench.health._limits) == 64


class TestWhose:
    def test_one_subsystems_failures_shut_nobody_else_out(self, bench: Bench) -> None:
        """The other finds out for itself; where it is served, the breaker closes."""
        bench.open(State.FAILING)
        assert bench.health.ask(who="bystander")
        assert not bench.health.ask(who="agent")
        bench.health.succeeded("bystander")
        assert bench.health.ask(who="agent")

    def test_who_fails_as_well_is_shut_out_as_well(self, bench: Bench) -> None:
        bench.open(State.FAILING)
        assert bench.health.ask(who="bystander")
        bench.health.failed("it answered 500", "bystander")
        assert not bench.health.ask(who="bystander")

    def test_whoever_is_served_keeps_it_closed(self, bench: Bench) -> None:
        """A poisonous request of one agent, again and again, beside another's that is answered."""
        for number in range(10 * LEAST_TURNS):
            if number % 5 == 0:
                bench.health.succeeded("bystander")
            bench.health.failed("it answered 500", "agent")
            assert bench.health.ask(who="bystander")
        assert bench.openings == 0

    def test_a_server_that_nobody_reaches_is_gone_for_everybody(self, bench: Bench) -> None:
        bench.health.succeeded("bystander")
        bench.health.gone("refused", "agent")
        assert not bench.health.ask(who="bystander")


def test_a_server_that_answers_neither_looks_nor_turns_hangs(bench: Bench) -> None:
    bench.health.unanswered(10)
    assert bench.health.ask()
    bench.health.looked(FAILING)
    bench.health.unanswered(10)
    assert bench.health.state is State.FAILING
    assert "nothing came for 10 s" in bench.health.reason


def test_a_server_that_starts_is_loading_and_not_gone(bench: Bench) -> None:
    bench.health.gone("refused", starting=True)
    assert bench.health.state is State.LOADING


STEPS: list[Callable[[Health], object]] = [
    lambda h: h.failed("x", "a"), lambda h: h.failed("x", "b"), lambda h: h.succeeded("a", "m"),
    lambda h: h.gone("x", "a"), lambda h: h.loading("x"), lambda h: h.rejected("x", "b"),
    lambda h: h.limited("x", 5, "m"), lambda h: h.unanswered(9), lambda h: h.ask("m", "a"), lambda h: h.ask("m", "b"),
    *(lambda h, look=look: h.looked(look) for look in (WELL, GONE, LOADING, REJECTING, FAILING)),
]  # fmt: skip


def test_a_breaker_keeps_nobody_away_for_longer_than_it_says(bench: Bench) -> None:
    """At whatever moment it opens: a moment less another is rounded, and came to 10.000000000000114 s."""
    for _ in range(500):
        bench.clock.advance(0.1)
        bench.open(State.GONE)
        assert 0 < bench.health.seconds_until_asked(who="agent") <= OPEN_SECONDS
        bench.health.looked(FAILING)
        assert 0 < bench.health.seconds_until_asked(who="agent") <= DOUBTED_SECONDS
        bench.health.succeeded("agent")


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.floats(0, 20)), max_size=80))
def test_whatever_happens_it_is_asked_again_soon_and_one_answer_makes_it_well(
    steps: list[tuple[Callable[[Health], object], float]],
) -> None:
    bench = Bench()
    for step, wait in steps:
        step(bench.health)
        assert 0 <= bench.health.seconds_until_asked("m", "a") <= max(DOUBTED_SECONDS, 5)
        assert bool(bench.health.reason) is (bench.health.state not in {State.WELL, State.LIMITING})
        bench.clock.advance(wait)
    bench.health.succeeded("a", "m")
    assert bench.health.ask("m", "a")
    assert bench.health.reason == ""
