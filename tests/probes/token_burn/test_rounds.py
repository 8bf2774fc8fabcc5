"""Questions that come back, counted as a reader of the whole list would count them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.token_burn.rounds import (
    AT_ONCE_SECONDS,
    LONG_POLL_SECONDS,
    LONG_SLOWLY,
    LONGEST_CYCLE,
    POLL_SECONDS,
    REMEMBERED_QUESTIONS,
    Asked,
    Question,
    Rounds,
    weight_of_pause,
)

LISTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), max_size=60)


def ask(rounds: Rounds, key: int, reply: int, weight: float = 1.0) -> tuple[Question, bool]:
    question, again = rounds.ask(key)
    rounds.answer(Asked(rounds, question, question.answers, weight), b"%d" % reply, weight)
    return question, again


@given(LISTS)
def test_the_same_answers_in_a_row_are_counted_as_a_naive_reader_would(turns: list[tuple[int, int]]) -> None:
    """Those of one question, as long as it comes back soon; each but the first repeats the one before."""
    rounds = Rounds()
    for place, (key, reply) in enumerate(turns):
        question, _ = ask(rounds, key, reply)
        naive, last = 0, place
        for earlier in range(place - 1, -1, -1):
            if last - earlier > LONGEST_CYCLE:
                break
            if turns[earlier][0] != key:
                continue
            if turns[earlier][1] != reply:
                break
            naive, last = naive + 1, earlier
        assert question.same == naive
        assert question.in_a_row == naive + 1 or turns[place] != turns[place - 1]


@given(LISTS, st.integers(1, 8))
def test_what_is_asked_at_once_counts_once_a_round(turns: list[tuple[int, int]], at_once: int) -> None:
    """However many ask together: one round of answers is one answer."""
    rounds, question = Rounds(), Question()
    for _ in range(10):
        open_ = []
        for _ in range(at_once):
            question, _ = rounds.ask("same")
            open_.append(Asked(rounds, question, question.answers, 1.0))
        for asked in open_:
            rounds.answer(asked, b"r", 1.0)
    assert (question.answers, question.same) == (10, 9.0)


def test_one_answer_that_differs_among_several_shows_that_they_are_samples() -> None:
    rounds = Rounds()
    for _ in range(5):
        question, _ = ask(rounds, 1, 1)
    several = [Asked(rounds, rounds.ask(1)[0], question.answers, 1.0) for _ in range(3)]
    for asked, reply in zip(several, (b"1", b"other", b"1"), strict=True):
        rounds.answer(asked, reply, 1.0)
    assert question.same == 0.0


@given(st.integers(0, 40), st.floats(0.5, 4.0))
def test_something_new_takes_off_what_a_loop_has_gathered(new: int, leak: float) -> None:
    rounds = Rounds(leak)
    for _ in range(LONGEST_CYCLE):
        question, _ = ask(rounds, 1, 1)
    for number in range(min(new, LONGEST_CYCLE - 1)):
        ask(rounds, 100 + number, 1)
    left = LONGEST_CYCLE - 1 - leak * min(new, LONGEST_CYCLE - 1)
    assert question.same == pytest.approx(max(0.0, left), abs=1e-9)


def test_the_questions_remembered_are_bounded() -> None:
    rounds = Rounds()
    for number in range(10 * REMEMBERED_QUESTIONS):
        ask(rounds, number, 1)
    assert len(rounds) == REMEMBERED_QUESTIONS
    assert len(rounds.looping()) == 0


@given(st.floats(0, 100), st.floats(0, 100))
def test_a_longer_pause_never_counts_more(one: float, other: float) -> None:
    assert weight_of_pause(max(one, other)) <= weight_of_pause(min(one, other))
    assert weight_of_pause(AT_ONCE_SECONDS - 0.01) == 1.0
    assert weight_of_pause(POLL_SECONDS) == 0.0


@pytest.mark.parametrize(
    ("seconds", "before", "weight"),
    [
        (6.0, -1.0, 1.0), (6.0, 6.0, 1.0), (6.0, 6.29, 1.0), (6.0, 6.31, LONG_SLOWLY), (6.0, 14.0, LONG_SLOWLY),
        (LONG_POLL_SECONDS, LONG_POLL_SECONDS, 0.0), (AT_ONCE_SECONDS - 0.01, 60.0, 1.0),
    ],
)  # fmt: skip
def test_pauses_that_are_alike_count_in_full_where_the_answer_is_long(
    seconds: float, before: float, weight: float
) -> None:
    """A machine's are; a person waits now longer and now less."""
    assert weight_of_pause(seconds, long=True, before=before) == weight
