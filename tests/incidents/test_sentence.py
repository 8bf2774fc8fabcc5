"""The one line, put together from its parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from epad.incidents.sentence import (
    NOT_BY_ITSELF,
    Sentence,
    moment,
    names,
    together,
    user_name,
    with_user_names,
)

NOW = datetime(2026, 11, 28, 23, 59, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        (
            Sentence(
                "chat", "it loops", "lets go by itself at 17:18", "epactl release chat", "is frozen", "17:16"
            ),
            "chat is frozen since 17:16: it loops; lets go by itself at 17:18, or now: epactl release chat",
        ),
        (
            Sentence(
                "chat", "held by ada", NOT_BY_ITSELF, "epactl release chat", "is frozen", by_itself=False
            ),
            "chat is frozen: held by ada; not by itself: epactl release chat",
        ),
        (
            Sentence("chat", "a victim", "goes on by itself once vllm is well", "epactl explain vllm"),
            "chat: a victim; goes on by itself once vllm is well; see epactl explain vllm",
        ),
        (
            Sentence("upstream vllm", "HTTP 401", "goes on by itself", "check its key", "rejects epad's key"),
            "upstream vllm rejects epad's key: HTTP 401; goes on by itself; check its key",
        ),
        (Sentence("the state is safe", "", "NORMAL follows", ""), "the state is safe; NORMAL follows"),
        (Sentence("the host", "", "", "make room"), "the host; make room"),
        (Sentence("the host", "", "", ""), "the host"),
    ],
)
def test_a_line_has_who_why_until_when_and_what_to_do(sentence: Sentence, line: str) -> None:
    """What there is not leaves no colon and no semicolon behind."""
    assert sentence.line == line
    assert sentence.as_json()["line"] == line


@pytest.mark.parametrize(
    ("after_seconds", "zone", "text"),
    [
        (5, UTC, "23:59:55"),
        (15, UTC, "2026-11-29 00:00:05"),
        (15, timezone(timedelta(hours=1)), "01:00:05"),
        (-86_400, UTC, "2026-11-27 23:59:50"),
    ],
)
def test_a_time_of_another_day_names_its_day(after_seconds: int, zone: timezone, text: str) -> None:
    """The day is the reader's, not that of UTC."""
    assert moment(NOW + timedelta(seconds=after_seconds), NOW, zone) == text


def test_names_are_listed_as_they_are_read_aloud() -> None:
    """One, two, many and none."""
    assert [names(who) for who in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_what_is_true_of_several_is_said_once() -> None:
    """With each one's own command; what differs stays apart."""
    until = "lets go by itself at 17:18 if it stays quiet"
    alike = [
        Sentence(name, "it loops", until, f"epactl release {name}", "is frozen", since)
        for name, since in (("a", "17:16"), ("b", "17:15"))
    ]
    other = Sentence("c", "it crashes", until, "epactl release c", "is stopped")
    both, alone = together([alike[0], other, alike[1]])
    assert alone is other
    assert both.line == (
        "a and b are frozen since 17:15: it loops; let go by themselves at 17:18 if they stay quiet, or now: "
        "epactl release a; epactl release b"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("held by uid 1001 (pid 14956): it looks odd", "held by ada: it looks odd"),
        ("paused by uid 1002 (pid 7): lunch", "paused by uid 1002 (pid 7): lunch"),
        ("held by ada: uid 1001 says so", "held by ada: uid 1001 says so"),
    ],
)
def test_a_person_has_a_name_where_the_machine_knows_one(text: str, shown: str) -> None:
    """The journal keeps the number, which is what the kernel vouches for."""
    assert with_user_names(text, lambda uid: {1001: "ada"}.get(uid, "")) == shown


def test_users_are_those_of_the_machine() -> None:
    """One that is not known has no name."""
    assert user_name(0) == "root"
    assert user_name(2**32 - 7) == ""


def test_a_line_is_one_line_whatever_a_reason_holds() -> None:
    """What stands after it would be words of the daemon's own to systemd."""
    line = Sentence("chat", "it said\nREADY=1\r\n\tand more", "", "epactl explain chat").line
    assert line == "chat: it said READY=1 and more; epactl explain chat"
