"""Questions and a person's answers: numbers, deadlines, how many, how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.confinement.approvals import (
    ANSWER_SECONDS,
    APPROVED_SECONDS,
    MOST_OPEN,
    ONCE,
    ApprovalError,
    Question,
    State,
    numbers_of_run,
)
from epad.confinement.host_questions import HostQuestions, HostSubject
from runners.egress.rules import HostRule
from statemachine.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def approvals(clock: ManualClock) -> HostQuestions:
    return HostQuestions(clock)


def subject(host: str = "a.example", subsystem: str = "agent") -> HostSubject:
    return HostSubject(subsystem, host, 443)


def asked(approvals: HostQuestions, host: str = "a.example", connection: int = 1) -> Question[HostSubject]:
    question = approvals.ask(subject(host), connection)
    assert question is not None
    return question


def test_a_question_has_a_number_and_those_who_wait(approvals: HostQuestions) -> None:
    """Connections for the same host and port wait for the same answer."""
    question = asked(approvals, connection=7)
    assert asked(approvals, connection=8) is question
    assert (question.number, question.waiting, question.tries, question.state) == (1, [7, 8], 2, State.OPEN)
    assert asked(approvals, "b.example", 9).number == 2


def test_an_approval_lets_go_and_is_a_rule_for_its_time(approvals: HostQuestions, clock: ManualClock) -> None:
    question = asked(approvals, connection=7)
    assert approvals.approve(question.number, 60.0, "needed") == [7]
    assert approvals.rules("agent") == (HostRule("a.example"),)
    assert approvals.rules("other") == ()
    assert asked(approvals, connection=8).state is State.ALLOWED
    assert approvals.next_change() == clock.monotonic() + 60.0
    clock.advance(60.0)
    assert approvals.expire() == []
    assert approvals.rules("agent") == ()
    assert asked(approvals, connection=9).number == 2


def test_an_approval_for_ever_has_no_end(approvals: HostQuestions, clock: ManualClock) -> None:
    """And is known to the next daemon."""
    approvals.approve(asked(approvals).number, None)
    clock.advance(1e9)
    assert approvals.rules("agent") == (HostRule("a.example"),)
    assert HostQuestions(clock, tuple(approvals.always)).rules("agent") == (HostRule("a.example"),)


def test_a_denial_holds_for_an_hour(approvals: HostQuestions, clock: ManualClock) -> None:
    """An agent that tries again does not ask again."""
    assert approvals.deny(asked(approvals, connection=7).number) == [7]
    assert asked(approvals, connection=8).state is State.DENIED
    clock.advance(3_600)
    assert asked(approvals, connection=9).state is State.OPEN


def test_what_nobody_answers_in_time_can_still_be_approved(
    approvals: HostQuestions, clock: ManualClock
) -> None:
    question = asked(approvals, connection=7)
    clock.advance(ANSWER_SECONDS)
    assert approvals.expire() == [question]
    assert question.state is State.UNANSWERED
    assert approvals.expire() == []
    question.waiting.clear()
    assert approvals.approve(question.number) == []
    assert asked(approvals, connection=8).state is State.ALLOWED


def test_a_later_try_opens_the_same_question_again(approvals: HostQuestions, clock: ManualClock) -> None:
    question = asked(approvals)
    clock.advance(ANSWER_SECONDS)
    approvals.expire()
    assert asked(approvals, connection=8) is question
    assert (question.state, question.deadline) == (State.OPEN, clock.monotonic() + ANSWER_SECONDS)


def test_a_subsystem_has_a_few_questions_open(approvals: HostQuestions) -> None:
    """Another one is not hindered; one that is answered makes room."""
    for number in range(MOST_OPEN):
        asked(approvals, f"h{number}.example", number)
    assert approvals.ask(subject("more.example"), 99) is None
    assert asked(approvals, "h0.example", 100).number == 1
    assert approvals.ask(subject("more.example", "other"), 101) is not None
    approvals.deny(1)
    assert approvals.ask(subject("more.example"), 102) is not None


def test_who_hangs_up_asks_no_more(approvals: HostQuestions) -> None:
    question = asked(approvals, connection=7)
    asked(approvals, connection=8)
    approvals.withdraw(7)
    assert question.state is State.OPEN
    approvals.withdraw(8)
    assert question.state is State.WITHDRAWN
    assert list(approvals.open()) == []
    assert approvals.next_change() is None


def test_a_held_subsystem_is_denied_all_and_may_ask_again_later(approvals: HostQuestions) -> None:
    asked(approvals, "a.example", 1)
    asked(approvals, "b.example", 2)
    other = approvals.ask(subject("a.example", "other"), 3)
    assert sorted(approvals.deny_all("agent", "held")) == [1, 2]
    assert list(approvals.open()) == [other]
    assert asked(approvals, "a.example", 4).state is State.OPEN


def test_an_approval_can_be_taken_back(approvals: HostQuestions) -> None:
    approvals.approve(asked(approvals).number, None)
    assert approvals.revoke(subject())
    assert not approvals.revoke(subject())
    assert approvals.rules("agent") == ()


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_a_question_is_answered_once(approvals: HostQuestions, answer: str) -> None:
    """And one that there is not, never."""
    with pytest.raises(ApprovalError, match="there is no question 1; `epactl approvals`"):
        getattr(approvals, answer)(1)
    approvals.deny(asked(approvals).number)
    with pytest.raises(ApprovalError, match=r"question 1 is answered: a.example:443 is denied"):
        getattr(approvals, answer)(1)


def test_once_is_for_those_who_wait(approvals: HostQuestions) -> None:
    """The next one asks anew, and no rule lets it pass."""
    question = asked(approvals, connection=7)
    asked(approvals, connection=8)
    assert approvals.approve(question.number, ONCE) == [7, 8]
    assert approvals.rules("agent") == ()
    assert approvals.standing() == ()
    again = asked(approvals, connection=9)
    assert (again.number, again.state, again.waiting) == (2, State.OPEN, [9])


def test_once_is_for_the_next_where_nobody_waits(approvals: HostQuestions, clock: ManualClock) -> None:
    """For one, within an hour, and by no rule: the door asks for it."""
    number = asked(approvals, connection=7).number
    approvals.withdraw(7)
    assert approvals.approve(number, ONCE) == []
    assert approvals.rules("agent") == ()
    assert [one.question.once for one in approvals.standing() if one.question] == [True]
    assert asked(approvals, connection=8).state is State.ALLOWED
    assert asked(approvals, connection=9).state is State.OPEN
    approvals.withdraw(9)
    approvals.approve(2, ONCE)
    clock.advance(APPROVED_SECONDS)
    assert asked(approvals, connection=10).state is State.OPEN


@pytest.mark.parametrize("seconds", [60.0, None, ONCE])
def test_what_is_taken_back_is_asked_for_anew(approvals: HostQuestions, seconds: float | None) -> None:
    number = asked(approvals, connection=7).number
    approvals.withdraw(7)
    approvals.approve(number, seconds)
    assert approvals.revoke(subject())
    assert (approvals.rules("agent"), approvals.standing(), approvals.always) == ((), (), frozenset())
    assert asked(approvals, connection=8).state is State.OPEN
    assert not approvals.revoke(subject())


def test_an_approval_of_an_earlier_run_is_taken_back(clock: ManualClock) -> None:
    """No question answers to it."""
    approvals = HostQuestions(clock, [subject(), subject("b.example")])
    assert [(one.subject, one.until, one.question) for one in approvals.standing()] == [
        (subject(), None, None),
        (subject("b.example"), None, None),
    ]
    assert approvals.revoke(subject())
    assert approvals.rules("agent") == (HostRule("b.example"),)


def test_a_question_that_no_one_has_allowed_is_not_taken_back(approvals: HostQuestions) -> None:
    """Who waits goes on waiting; who was denied stays denied."""
    question = asked(approvals, connection=7)
    assert not approvals.revoke(subject())
    assert approvals.all() == (question,)
    approvals.deny(question.number)
    assert not approvals.revoke(subject())
    assert asked(approvals, connection=8).state is State.DENIED


def test_a_question_that_is_asked_again_forgets_who_asked_before(approvals: HostQuestions) -> None:
    """Another program may ask now: the former's name would speak for it."""
    question = asked(approvals, connection=7)
    question.program = "git"
    approvals.withdraw(7)
    assert asked(approvals, connection=8).program == ""


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "approve", "once", "deny", "revoke", "withdraw", "wait", "hold"]),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_nobody_waits_for_nothing(steps: list[tuple[str, int]]) -> None:
    """Who waits, waits for an open question; only what a person allowed is a rule; a few are open at most."""
    clock = ManualClock()
    approvals = HostQuestions(clock)
    allowed: set[HostRule] = set()
    for connection, (step, number) in enumerate(steps):
        try:
            match step:
                case "ask":
                    approvals.ask(subject(f"h{number}.example"), connection)
                case "approve":
                    approvals.approve(number)
                    allowed |= {one.subject.rule for one in approvals.all() if one.number == number}
                case "once":
                    approvals.approve(number, ONCE)
                case "revoke":
                    approvals.revoke(subject(f"h{number}.example"))
                    allowed.discard(subject(f"h{number}.example").rule)
                case "deny":
                    approvals.deny(number)
                case "withdraw":
                    approvals.withdraw(number)
                case "wait":
                    clock.advance(number * 10.0)
                    for late in approvals.expire():
                        late.waiting.clear()
                case _:
                    approvals.deny_all("agent", "held")
        except ApprovalError:
            pass
        assert all(one.state is State.OPEN for one in approvals.all() if one.waiting)
        assert len(list(approvals.open())) <= MOST_OPEN
        assert set(approvals.rules("agent")) <= allowed


def test_no_number_of_a_run_is_that_of_a_question_of_the_run_before(clock: ManualClock) -> None:
    """Nor of the 98 runs before that: an answer that comes late finds no question."""
    firsts = [next(numbers_of_run(run)) for run in range(1, 101)]
    assert firsts[:3] == [1, 1_001, 2_001]
    assert len(set(firsts)) == 100
    before, after = (HostQuestions(clock, (), numbers_of_run(run)) for run in (1, 2))
    asked = before.ask(subject())
    assert asked is not None
    after.ask(subject("b.example"))
    with pytest.raises(ApprovalError):
        after.approve(asked.number)
