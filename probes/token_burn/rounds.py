"""Questions that come back: after which answer, how soon, and how often it has been so.

Two things tell a loop from honest repetition. *Difference*: a sample is asked for with another seed or a temperature,
and its answer differs from the last. *Sequence*: a batch of draws ends and other work begins, a poll waits before it
looks again. So a question counts only if it is asked after its last answer has come (those asked at once count once a
round), soon after it, with few other turns between.
"""

from __future__ import annotations

from collections.abc import Hashable

from msgspec import Struct

REMEMBERED_QUESTIONS = 64
"""Of one subsystem. The one that was asked longest ago goes first."""

LONGEST_CYCLE = 8
"""A question that comes back after more turns than this is no part of a loop: an evaluation of 20 questions asks each
of them once in 20 turns."""

AT_ONCE_SECONDS = 2.0
"""A loop asks again as soon as it has its answer, or after a tool that fails at once."""

POLL_SECONDS = 5.0
"""Who waits so long before it looks again is waiting for something, however often it looks."""

SLOWLY = 0.125
"""What a repetition between the two counts: a tool that takes three seconds to fail is still a loop."""

LONG_POLL_SECONDS, LONG_SLOWLY = 15.0, 0.25
"""The same for a question whose answer is a paragraph: a poll is answered in a word, and a dashboard asks each half
minute. With pauses that are alike it counts in full: a person who tries again waits now longer and now less."""

ALIKE_SHARE = 0.05
"""Pauses that differ by so little are alike."""


class Question(Struct, eq=False):
    """Holds one question and its counts. `same` and `drawn` are weighted, `in_a_row` counts plainly.

    `answers` counts the rounds: answers to a question that was asked after the answer before. `same` is how often in
    a row its answer was the last one again, `drawn` how often it was asked again, whatever was answered.
    """

    number: int = 0
    answers: int = 0
    counted: int = 0
    answered_at: float = 0.0
    paused: float = -1.0
    busy_at_answer: float = 0.0
    sampling: tuple[bytes, str] = (b"", "")
    reply: bytes | None = None
    same: float = 0.0
    drawn: float = 0.0
    in_a_row: int = 0
    unanswered: int = 0
    tokens: int = 0


class Asked(Struct, frozen=True):
    """A question as one turn asked it: after how many answers, and how much the repetition of an answer counts.

    `again` says whether it asks for the answer again, and not for another.
    """

    rounds: Rounds
    question: Question
    answers: int
    weight: float
    again: bool = True


class Rounds:
    """Holds the questions of one subsystem, or of one conversation. Anything new takes `leak` off each count."""

    def __init__(self, leak: float = 0.0, most: int = REMEMBERED_QUESTIONS) -> None:
        self._leak = leak
        self._most = most
        # A dict and a tuple: there is one of these for each conversation, and most of them are short.
        self._questions: dict[Hashable, Question] = {}
        self._last: tuple[Question, ...] = ()
        self._number = 0

    def __len__(self) -> int:
        return len(self._questions)

    def ask(self, key: Hashable) -> tuple[Question, bool]:
        """Take in a question; say whether it came back after an answer."""
        self._number += 1
        question, again = self._questions.pop(key, None), False
        if question is None or self._number - question.number > LONGEST_CYCLE:
            question = Question()
        elif question.answers > question.counted:
            question.counted, again = question.answers, True
        question.number = self._number
        self._questions[key] = question
        if len(self._questions) > self._most:
            del self._questions[next(iter(self._questions))]
        self._last = (*self._last, question)[-LONGEST_CYCLE:]
        return question, again

    def looping(self) -> list[Question]:
        """Return the questions of the last few turns that came back."""
        return [question for question in self._distinct() if question.counted]

    def answer(self, asked: Asked, reply: bytes, weight: float) -> None:
        """Take in an answer. Of several that were asked for at once, one counts; each can show that they differ."""
        question = asked.question
        first, alike = question.reply is None, reply == question.reply
        question.reply = reply
        if not (first or alike):
            question.same, question.in_a_row = 0.0, 0
        if asked.answers < question.answers:
            return
        question.answers += 1
        question.in_a_row += 1
        if alike:
            question.same += weight
        else:
            self._news(question)

    def _news(self, new: Question) -> None:
        if not self._leak:
            return
        counted = [question for question in self._last if question.same or question.drawn]
        for question in {id(question): question for question in counted}.values():
            if question is not new:
                question.same = max(0.0, question.same - self._leak)
                question.drawn = max(0.0, question.drawn - self._leak)

    def _distinct(self) -> list[Question]:
        return list({id(question): question for question in self._last}.values())


def weight_of_pause(seconds: float, *, long: bool = False, before: float = -1.0) -> float:
    """Return the weight of a repetition after such a pause; `long` tells if the last answer was a long one.

    `before` is how long the pause before that one was, negative if there was none.
    """
    if seconds < AT_ONCE_SECONDS:
        return 1.0
    if long:
        alike = before < 0 or abs(seconds - before) <= ALIKE_SHARE * seconds
        return 0.0 if seconds >= LONG_POLL_SECONDS else 1.0 if alike else LONG_SLOWLY
    return SLOWLY if seconds < POLL_SECONDS else 0.0
