"""Keep the questions that subsystems ask of a person, and the answers.

There are two kinds, with one row of numbers: a host without a rule (`host_questions.py`), and the call of a tool that
takes consent (`epad/tools/consent.py`). Each kind has its own subjects, and its own time for an answer.

| state | how it comes about | who waits | a later try of the same |
|---|---|---|---|
| open | the first that asks | all who ask the same | waits too |
| allowed | `approve` | goes on | passes until the approval ends |
| allowed once | `approve` for no time | goes on | asks anew; if nobody waited, the first try passes |
| denied | `deny`, or the subsystem is held | is refused | is refused at once, for an hour |
| unanswered | the deadline | is refused, with its number | opens the same question again; in other words, a new one |
| withdrawn | all who waited have hung up | nobody | the same |

`revoke` takes an approval back: the next try asks anew.

A question that nobody answered in time can still be approved: the next try passes then. A subsystem has a few open
questions of a kind at most; the next is refused at once, so that no agent can bury a person in them. Nothing here waits
or sends: `epad/confinement/way_out.py` and `epad/tools/consent.py` do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, Protocol, TypeVar

from epad import EpadError
from statemachine.clock import Clock

ANSWER_SECONDS: Final = 30.0
"""How long a connection waits for a person: about as long as a client takes a slow look-up for one."""
MOST_OPEN: Final = 5
APPROVED_SECONDS: Final = 3_600.0
"""How long an approval holds that does not say."""
ONCE: Final = 0.0
"""In the place of a time: those who wait go on, or else the next one that asks the same, within an hour."""
_NUMBERS_A_RUN: Final = 1_000
_RUNS_WITH_OWN_NUMBERS: Final = 100
_DENIED_SECONDS: Final = 3_600.0
_MOST_KEPT: Final = 200


class ApprovalError(EpadError):
    """A question cannot be answered like that."""


def numbers_of_run(run: int) -> Iterator[int]:
    """Return the numbers of the questions of a daemon's run, counted from 1.

    So a number that a person has read before a restart is not soon that of another question: who types it late
    approves nothing else.
    """
    return itertools.count(1 + _NUMBERS_A_RUN * ((run - 1) % _RUNS_WITH_OWN_NUMBERS))


class State(StrEnum):
    """Lists the states of a question."""

    OPEN = "open"
    ALLOWED = "allowed"
    DENIED = "denied"
    UNANSWERED = "unanswered"
    WITHDRAWN = "withdrawn"


_ANSWERED: Final = frozenset({State.ALLOWED, State.DENIED})


class Subject(Protocol):
    """Names the thing that a subsystem asks for; equal ones share a question. Its text is short and in one line."""

    @property
    def subsystem(self) -> str: ...


SubjectT = TypeVar("SubjectT", bound=Subject)


class OpenQuestion(Protocol):
    """Shows a question of any kind to a person."""

    @property
    def number(self) -> int: ...

    @property
    def subsystem(self) -> str: ...

    @property
    def asked_at(self) -> float: ...

    @property
    def program(self) -> str: ...

    @property
    def line(self) -> str: ...

    @property
    def about_tool(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Asks:
    """Holds the words of one question. `line` is read in the place of the subject's text, `details` beside it.

    `exact` tells apart those who ask the same: an approval for once is for the one that the question was shown of.
    """

    line: str = ""
    details: str = ""
    exact: str = ""
    about_tool: bool = False
    labels: tuple[tuple[str, str, str], ...] = ()
    """The labels of the session that asks, each with what brought it, and the turn that did."""


NO_WORDS: Final = Asks()


@dataclass(slots=True)
class Question(Generic[SubjectT]):
    """Holds one question. `until` is when its answer ends, on the monotonic clock; None: never.

    `waiting` are the connections that wait for the answer; `program` has asked, as far as that is known. `once` is true
    of an approval that one try uses up.
    """

    number: int
    subject: SubjectT
    asked_at: float
    program: str = ""
    state: State = State.OPEN
    until: float | None = None
    tries: int = 1
    reason: str = ""
    waiting: list[int] = field(default_factory=list)
    once: bool = False
    asks: Asks = NO_WORDS
    answer_seconds: float = ANSWER_SECONDS

    @property
    def subsystem(self) -> str:
        """Return who asks."""
        return self.subject.subsystem

    @property
    def line(self) -> str:
        """Return the thing that is asked for, in one line."""
        return self.asks.line or str(self.subject)

    @property
    def about_tool(self) -> bool:
        """Tell if it is about a tool."""
        return self.asks.about_tool

    @property
    def deadline(self) -> float:
        """Return when it counts as unanswered."""
        return self.asked_at + self.answer_seconds

    def holds(self, now: float) -> bool:
        """Tell if its answer holds still."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Standing(Generic[SubjectT]):
    """Holds an approval that holds. `until` is its end, on the monotonic clock; None: it has none.

    `question` is the one that it answers; None for an approval that an earlier run of the daemon was given.
    """

    subject: SubjectT
    until: float | None
    question: Question[SubjectT] | None


class Approvals(Generic[SubjectT]):
    """The questions of one kind. Its methods say whose connections are to be told, and the caller tells them."""

    def __init__(
        self,
        clock: Clock,
        always: Sequence[SubjectT] = (),
        numbers: Iterator[int] | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """`always` are the approvals without an end that were given before; kinds share their `numbers`."""
        self._clock = clock
        self._answer_seconds = answer_seconds
        self._questions: dict[int, Question[SubjectT]] = {}
        self._always = set(always)
        self.numbers = numbers or itertools.count(1)

    def ask(
        self, subject: SubjectT, connection: int | None = None, asks: Asks = NO_WORDS
    ) -> Question[SubjectT] | None:
        """Ask for a subject; a connection, if there is one, waits. None: too many questions of that subsystem are open.

        The question may be answered already: then nobody waits.
        """
        known = self._of(subject, asks.exact)
        if known is not None and known.state in _ANSWERED:
            if known.once:
                del self._questions[known.number]
            return known
        if known is None or known.state is not State.OPEN:
            if len([one for one in self.open() if one.subject.subsystem == subject.subsystem]) >= MOST_OPEN:
                return None
            if known is not None and known.asks != asks:
                # A person may have read the former words, and answers by the number.
                del self._questions[known.number]
                known = None
            known = self._open(known, subject, asks)
        else:
            known.tries += 1
        if connection is not None:
            known.waiting.append(connection)
        return known

    def answerable(self, number: int) -> Question[SubjectT]:
        """Return a question that a person may still answer. Raises ApprovalError."""
        self._end_answers()
        question = self._questions.get(number)
        if question is None:
            raise ApprovalError(
                f"there is no question {number}", "`epactl approvals` lists those that there are"
            )
        if question.state in _ANSWERED:
            raise ApprovalError(f"question {number} is answered: {question.subject} is {question.state}")
        return question

    def approve(self, number: int, seconds: float | None = APPROVED_SECONDS, reason: str = "") -> list[int]:
        """Allow the subject of a question for so long; None: for ever, ONCE: for one try.

        Return who waited. Raises ApprovalError.
        """
        question = self.answerable(number)
        if seconds is None:
            self._always.add(question.subject)
        if seconds == ONCE and not question.waiting:
            question.once, seconds = True, APPROVED_SECONDS
        return self._answer(question, State.ALLOWED, seconds, reason)

    def deny(self, number: int, reason: str = "") -> list[int]:
        """Deny the subject of a question. Return who waited. Raises ApprovalError."""
        return self._answer(self.answerable(number), State.DENIED, _DENIED_SECONDS, reason)

    def deny_all(self, subsystem: str, reason: str) -> list[int]:
        """Deny every open question of a subsystem, which may ask again once it is open. Return who waited."""
        waited: list[int] = []
        for question in list(self.open()):
            if question.subject.subsystem == subsystem:
                waited += self._answer(question, State.DENIED, 0.0, reason)
        return waited

    def revoke(self, subject: SubjectT) -> bool:
        """Take an approval back; False if there was none. A question that is open or denied stays as it is."""
        self._end_answers()
        allowed = [
            one for one in self._questions.values() if one.subject == subject and one.state is State.ALLOWED
        ]
        had = subject in self._always or bool(allowed)
        self._always.discard(subject)
        self.drop(allowed)
        return had

    def standing(self) -> tuple[Standing[SubjectT], ...]:
        """Return the approvals that hold now, in the order of subsystems and subjects."""
        self._end_answers()
        allowed = [one for one in self._questions.values() if one.state is State.ALLOWED]
        without = self._always - {one.subject for one in allowed}
        found = [
            Standing(one.subject, None if one.subject in self._always else one.until, one) for one in allowed
        ]
        found += [Standing(subject, None, None) for subject in without]
        return tuple(sorted(found, key=lambda one: (one.subject.subsystem, str(one.subject))))

    def withdraw(self, connection: int) -> Question[SubjectT] | None:
        """Let a connection wait no more; return its question if it is no longer open, since nobody waits for it."""
        question = next((one for one in self._questions.values() if connection in one.waiting), None)
        if question is None:
            return None
        question.waiting.remove(connection)
        if question.waiting or question.state is not State.OPEN:
            return None
        question.state = State.WITHDRAWN
        return question

    def withdraw_all(self) -> None:
        """Let nobody wait any more: the process that held all connections has ended."""
        for connection in [one for question in self.open() for one in question.waiting]:
            self.withdraw(connection)

    def now(self) -> float:
        """Return the time on the clock that the questions go by."""
        return self._clock.monotonic()

    def expire(self) -> list[Question[SubjectT]]:
        """Close the questions that nobody answered in time, and return them with who waited; end old answers."""
        now = self._clock.monotonic()
        late = [question for question in self.open() if question.deadline <= now]
        for question in late:
            question.state = State.UNANSWERED
        self._end_answers()
        return late

    def next_change(self) -> float | None:
        """Return when `expire` has something to do next, on the monotonic clock."""
        times = [question.deadline for question in self.open()]
        times += [
            one.until for one in self._questions.values() if one.state in _ANSWERED and one.until is not None
        ]
        return min(times, default=None)

    def allowed(self, subsystem: str) -> frozenset[SubjectT]:
        """Return the subjects that a person has allowed a subsystem, not only once."""
        now = self._clock.monotonic()
        allowed = {
            one.subject
            for one in self._questions.values()
            if one.state is State.ALLOWED and one.holds(now) and not one.once
        }
        return frozenset(one for one in allowed | self._always if one.subsystem == subsystem)

    def drop(self, questions: Iterable[Question[SubjectT]]) -> None:
        """Forget questions, whatever their state: nobody can ask for their subjects any more."""
        for question in questions:
            self._questions.pop(question.number, None)

    def open(self) -> Iterator[Question[SubjectT]]:
        """Yield the questions that wait for an answer, the oldest first."""
        return (question for question in self._questions.values() if question.state is State.OPEN)

    def all(self) -> tuple[Question[SubjectT], ...]:
        """Return every question that is kept, the oldest first."""
        return tuple(self._questions.values())

    @property
    def always(self) -> frozenset[SubjectT]:
        """Return the approvals without an end."""
        return frozenset(self._always)

    def _of(self, subject: SubjectT, exact: str) -> Question[SubjectT] | None:
        """Return the question about a subject; an approval for once is none to those that it was not shown of."""
        self._end_answers()
        return next(
            (
                one
                for one in self._questions.values()
                if one.subject == subject and not (one.once and one.asks.exact != exact)
            ),
            None,
        )

    def _end_answers(self) -> None:
        now = self._clock.monotonic()
        for question in list(self._questions.values()):
            if question.state in _ANSWERED and not question.holds(now):
                del self._questions[question.number]

    def _open(self, known: Question[SubjectT] | None, subject: SubjectT, asks: Asks) -> Question[SubjectT]:
        """Open a question again, or a new one; the oldest without an answer make room."""
        now = self._clock.monotonic()
        if known is not None:
            known.state, known.asked_at, known.tries = State.OPEN, now, known.tries + 1
            known.program, known.asks = "", asks
            return known
        without = [
            one for one in self._questions.values() if one.state in {State.UNANSWERED, State.WITHDRAWN}
        ]
        for old in without[:-_MOST_KEPT]:
            del self._questions[old.number]
        number = next(self.numbers)
        question = Question(number, subject, now, asks=asks, answer_seconds=self._answer_seconds)
        self._questions[number] = question
        return question

    def _answer(
        self, question: Question[SubjectT], state: State, seconds: float | None, reason: str
    ) -> list[int]:
        question.state, question.reason = state, reason
        question.until = None if seconds is None else self._clock.monotonic() + seconds
        waited, question.waiting = question.waiting, []
        return waited
