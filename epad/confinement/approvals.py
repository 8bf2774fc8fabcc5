"""Keep the questions of subsystems that want to reach a host without a rule, and a person's answers.

| state | how it comes about | who waits | a later try of the same |
|---|---|---|---|
| open | the first connection that asks | every connection for that host and port | waits too |
| allowed | `approve` | goes on | passes until the approval ends |
| allowed once | `approve` for no time | goes on | asks anew; if nobody waited, the first try passes |
| denied | `deny`, or the subsystem is held | is refused | is refused at once, for an hour |
| unanswered | the deadline | is refused, with the question's number | opens the same question again |
| withdrawn | all who waited have hung up | nobody | opens the same question again |

`revoke` takes an approval back: the next try asks anew.

A question that nobody answered in time can still be approved: the next try passes then. A subsystem has a few open
questions at most; the next is refused at once, so that no agent can bury a person in them. Nothing here waits or sends:
`epad/confinement/way_out.py` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from epad import EpadError
from runners.egress.rules import HostRule
from statemachine.clock import Clock

ANSWER_SECONDS: Final = 30.0
"""How long a connection waits for a person: about as long as a client takes a slow look-up for one."""
MOST_OPEN: Final = 5
APPROVED_SECONDS: Final = 3_600.0
"""How long an approval holds that does not say."""
ONCE: Final = 0.0
"""In the place of a time: those who wait go on, or else the next one, within an hour."""
_DENIED_SECONDS: Final = 3_600.0
_MOST_KEPT: Final = 200


class ApprovalError(EpadError):
    """A question cannot be answered like that."""


class State(StrEnum):
    """Lists the states of a question."""

    OPEN = "open"
    ALLOWED = "allowed"
    DENIED = "denied"
    UNANSWERED = "unanswered"
    WITHDRAWN = "withdrawn"


_ANSWERED: Final = frozenset({State.ALLOWED, State.DENIED})


@dataclass(frozen=True, slots=True)
class Subject:
    """Names the host and port that a subsystem asks for."""

    subsystem: str
    host: str
    port: int

    def __str__(self) -> str:
        return str(self.rule)

    @property
    def rule(self) -> HostRule:
        """Return the rule that allows it, and nothing else."""
        return HostRule(self.host, port=self.port)


@dataclass(slots=True)
class Question:
    """Holds one question. `until` is when its answer ends, on the monotonic clock; None: never.

    `waiting` are the connections that wait for the answer; `program` has asked, as far as that is known. `once` is true
    of an approval that one connection uses up.
    """

    number: int
    subject: Subject
    asked_at: float
    program: str = ""
    state: State = State.OPEN
    until: float | None = None
    tries: int = 1
    reason: str = ""
    waiting: list[int] = field(default_factory=list)
    once: bool = False

    @property
    def deadline(self) -> float:
        """Return when it counts as unanswered."""
        return self.asked_at + ANSWER_SECONDS

    def holds(self, now: float) -> bool:
        """Tell if its answer holds still."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Standing:
    """Holds an approval that holds. `until` is its end, on the monotonic clock; None: it has none.

    `question` is the one that it answers; None for an approval that an earlier run of the daemon was given.
    """

    subject: Subject
    until: float | None
    question: Question | None


class Approvals:
    """The questions of all subsystems. Its methods say whose connections are to be told, and the caller tells them."""

    def __init__(self, clock: Clock, always: Sequence[Subject] = (), first_number: int = 1) -> None:
        """`always` are the approvals without an end that were given before."""
        self._clock = clock
        self._next = first_number
        self._questions: dict[int, Question] = {}
        self._always = set(always)

    def ask(self, subject: Subject, connection: int) -> Question | None:
        """Have a connection wait for an answer. None: too many questions of that subsystem are open.

        The question may be answered already: then nobody waits.
        """
        known = self._of(subject)
        if known is not None and known.state in _ANSWERED:
            if known.once:
                del self._questions[known.number]
            return known
        if known is None or known.state is not State.OPEN:
            if len([one for one in self.open() if one.subject.subsystem == subject.subsystem]) >= MOST_OPEN:
                return None
            known = self._open(known, subject)
        else:
            known.tries += 1
        known.waiting.append(connection)
        return known

    def answerable(self, number: int) -> Question:
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
        """Allow the host of a question for so long; None: for ever, ONCE: for one connection.

        Return who waited. Raises ApprovalError.
        """
        question = self.answerable(number)
        if seconds is None:
            self._always.add(question.subject)
        if seconds == ONCE and not question.waiting:
            question.once, seconds = True, APPROVED_SECONDS
        return self._answer(question, State.ALLOWED, seconds, reason)

    def deny(self, number: int, reason: str = "") -> list[int]:
        """Deny the host of a question. Return who waited. Raises ApprovalError."""
        return self._answer(self.answerable(number), State.DENIED, _DENIED_SECONDS, reason)

    def deny_all(self, subsystem: str, reason: str) -> list[int]:
        """Deny every open question of a subsystem, which may ask again once it is open. Return who waited."""
        waited: list[int] = []
        for question in list(self.open()):
            if question.subject.subsystem == subsystem:
                waited += self._answer(question, State.DENIED, 0.0, reason)
        return waited

    def revoke(self, subject: Subject) -> bool:
        """Take an approval back; False if there was none. A question that is open or denied stays as it is."""
        known = self._of(subject)
        is_allowed = known is not None and known.state is State.ALLOWED
        had = subject in self._always or is_allowed
        self._always.discard(subject)
        if known is not None and is_allowed:
            del self._questions[known.number]
        return had

    def standing(self) -> tuple[Standing, ...]:
        """Return the approvals that hold now, in the order of subsystems and hosts."""
        self._end_answers()
        allowed = {one.subject: one for one in self._questions.values() if one.state is State.ALLOWED}
        return tuple(
            Standing(
                subject, None if subject in self._always else allowed[subject].until, allowed.get(subject)
            )
            for subject in sorted(allowed.keys() | self._always, key=lambda one: (one.subsystem, str(one)))
        )

    def withdraw(self, connection: int) -> Question | None:
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

    def expire(self) -> list[Question]:
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

    def rules(self, subsystem: str) -> tuple[HostRule, ...]:
        """Return the rules that a person has given a subsystem beside its policy, in one order."""
        now = self._clock.monotonic()
        allowed = {
            one.subject
            for one in self._questions.values()
            if one.state is State.ALLOWED and one.holds(now) and not one.once
        }
        return tuple(sorted(one.rule for one in allowed | self._always if one.subsystem == subsystem))

    def open(self) -> Iterator[Question]:
        """Yield the questions that wait for an answer, the oldest first."""
        return (question for question in self._questions.values() if question.state is State.OPEN)

    def all(self) -> tuple[Question, ...]:
        """Return every question that is kept, the oldest first."""
        return tuple(self._questions.values())

    @property
    def always(self) -> frozenset[Subject]:
        """Return the approvals without an end."""
        return frozenset(self._always)

    def _of(self, subject: Subject) -> Question | None:
        self._end_answers()
        return next((one for one in self._questions.values() if one.subject == subject), None)

    def _end_answers(self) -> None:
        now = self._clock.monotonic()
        for question in list(self._questions.values()):
            if question.state in _ANSWERED and not question.holds(now):
                del self._questions[question.number]

    def _open(self, known: Question | None, subject: Subject) -> Question:
        """Open a question again, or a new one; the oldest without an answer make room."""
        now = self._clock.monotonic()
        if known is not None:
            known.state, known.asked_at, known.tries = State.OPEN, now, known.tries + 1
            known.program = ""
            return known
        without = [
            one for one in self._questions.values() if one.state in {State.UNANSWERED, State.WITHDRAWN}
        ]
        for old in without[:-_MOST_KEPT]:
            del self._questions[old.number]
        question = self._questions[self._next] = Question(self._next, subject, now)
        self._next += 1
        return question

    def _answer(self, question: Question, state: State, seconds: float | None, reason: str) -> list[int]:
        question.state, question.reason = state, reason
        question.until = None if seconds is None else self._clock.monotonic() + seconds
        waited, question.waiting = question.waiting, []
        return waited
