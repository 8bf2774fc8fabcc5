"""When a person is told of questions: at once, then one message a subsystem and minute, which counts the others."""

from __future__ import annotations

from epad.notifying.incident import Asked, Kind, Message
from epad.notifying.questions import QUIET_SECONDS, QuestionNews


def asked(number: int, subsystem: str = "agent", at: float = 0.0) -> Asked:
    return Asked(number, subsystem, at, f"h{number}.example:443")


def told(messages: list[Message]) -> list[tuple[str, int]]:
    """Return the place of each message, and how many more it counts."""
    return [(one.line.split()[3].rstrip(":"), one.more) for one in messages]


def see(news: QuestionNews, now: float, *questions: Asked) -> list[tuple[str, int]]:
    messages = news.see(questions, "NORMAL", 0.0, now)
    assert all(one.kind is Kind.ASKED for one in messages)
    return told(messages)


def test_the_first_is_told_at_once_and_once() -> None:
    news = QuestionNews()
    assert see(news, 0.0, asked(1)) == [("h1.example:443", 0)]
    assert see(news, 1.0, asked(1)) == []


def test_those_within_a_minute_are_told_with_the_newest_when_it_is_over() -> None:
    """Nothing is kept from anybody: also those that are open no more by then."""
    news = QuestionNews()
    see(news, 0.0, asked(1))
    assert see(news, 10.0, asked(1), asked(2), asked(3)) == []
    assert see(news, 20.0, asked(4)) == []
    assert see(news, QUIET_SECONDS) == [("h4.example:443", 2)]
    assert see(news, 2 * QUIET_SECONDS) == []


def test_a_call_of_a_tool_is_told_as_one() -> None:
    """With the same bound: a host and a call of one subsystem within a minute are one message."""
    news, call = QuestionNews(), Asked(2, "agent", 0.0, "file_delete on /work/a.txt", about_tool=True)
    [message] = news.see([call], "NORMAL", 0.0, 0.0)
    assert message.kind is Kind.TOOL_ASKED
    assert message.text == "agent asks for file_delete on /work/a.txt: `epactl approve 2` or `epactl deny 2`"
    assert news.see([call, asked(3)], "NORMAL", 1.0, 1.0) == []


def test_subsystems_are_told_of_each_by_itself() -> None:
    news = QuestionNews()
    assert see(news, 0.0, asked(1), asked(2, "other")) == [("h1.example:443", 0), ("h2.example:443", 0)]


def test_several_at_once_are_one_message() -> None:
    assert see(QuestionNews(), 0.0, asked(1), asked(2)) == [("h2.example:443", 1)]


def test_a_question_that_is_opened_again_is_news() -> None:
    """Nobody answered it in time, and it is asked again."""
    news = QuestionNews()
    see(news, 0.0, asked(1))
    see(news, QUIET_SECONDS)
    assert see(news, QUIET_SECONDS + 1, asked(1, at=QUIET_SECONDS)) == [("h1.example:443", 0)]


def test_what_is_over_is_forgotten() -> None:
    """A subsystem that asks no more leaves nothing behind."""
    news = QuestionNews()
    see(news, 0.0, asked(1))
    see(news, QUIET_SECONDS)
    assert not news._untold
