"""One message when it begins, one when it is over, whatever happens in between."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.notifying.incident import Gravity, Incidents, Kind, Message, View

CALM = View(Gravity.CALM, "NORMAL", "")
TROUBLE = View(Gravity.TROUBLE, "QUARANTINE", "chat is frozen: it loops; epactl release chat", ("chat",))
CRITICAL = View(Gravity.CRITICAL, "PRESERVATION", "memory is damaged", ("memory",))


def play(views: list[View], step: float = 10.0, calm_seconds: float = 60.0) -> list[Message]:
    incidents = Incidents(calm_seconds)
    told = [incidents.see(view, 1e9 + n * step, n * step) for n, view in enumerate(views)]
    return [message for message in told if message is not None]


def test_an_incident_is_told_when_it_begins_and_when_it_is_over() -> None:
    """With the sentence, and how long it was."""
    started, ended = play([CALM, TROUBLE, TROUBLE, *[CALM] * 8])
    assert (started.kind, started.line) == (Kind.STARTED, TROUBLE.line)
    assert (ended.kind, ended.incident.id) == (Kind.ENDED, started.incident.id)
    assert ended.line == f"over after 20 s, NORMAL now; it was: {TROUBLE.line}"


def test_what_flaps_is_one_incident() -> None:
    """Two messages, and the second says how often."""
    started, ended = play([TROUBLE, CALM, CALM] * 20 + [CALM] * 10)
    assert (started.kind, ended.kind, ended.incident.spells) == (Kind.STARTED, Kind.ENDED, 20)
    assert "20 times" in ended.line


def test_what_grows_worse_is_told_as_it_was_at_its_worst() -> None:
    """Another message in between would be a third."""
    started, ended = play([TROUBLE, CRITICAL, TROUBLE, *[CALM] * 8])
    assert started.incident.gravity is Gravity.TROUBLE
    assert (ended.incident.gravity, ended.incident.subsystems) == (Gravity.CRITICAL, ("chat", "memory"))
    assert CRITICAL.line in ended.line


def test_another_trouble_after_the_end_is_another_incident() -> None:
    """It begins anew."""
    kinds = [message.kind for message in play([TROUBLE, *[CALM] * 8, TROUBLE, *[CALM] * 8])]
    assert kinds == [Kind.STARTED, Kind.ENDED] * 2


@given(st.lists(st.sampled_from([CALM, TROUBLE, CRITICAL]), max_size=200))
def test_never_more_than_two_messages_an_incident(views: list[View]) -> None:
    """And always in turn."""
    messages = play(views)
    assert [m.kind for m in messages] == ([Kind.STARTED, Kind.ENDED] * len(messages))[: len(messages)]
    for started, ended in zip(messages[::2], messages[1::2], strict=False):
        assert started.incident.id == ended.incident.id


def test_only_a_critical_beginning_may_disturb() -> None:
    """An end can wait for the morning."""
    started, ended = play([CRITICAL, *[CALM] * 8])
    assert (started.may_disturb, ended.may_disturb) == (True, False)
    assert not play([TROUBLE])[0].may_disturb


def test_a_next_run_goes_on_with_the_incident_that_was_told() -> None:
    """No second beginning; its end is told."""
    first = Incidents(60.0)
    first.see(TROUBLE, 1e9, 0.0)
    first.told()
    kept = msgspec.json.decode(msgspec.json.encode(first.incident), type=type(first.incident))
    second = Incidents(60.0, kept)
    assert second.see(TROUBLE, 1e9 + 100, 5.0) is None
    assert second.see(CALM, 1e9 + 110, 15.0) is None
    ended = second.see(CALM, 1e9 + 170, 75.0)
    assert ended is not None
    assert ended.kind is Kind.ENDED
    assert "over after 2 min" in ended.line or "over after 110 s" in ended.line


@pytest.mark.parametrize(("seconds", "text"), [(5, "50 s"), (60, "10 min"), (1200, "3.3 h")])
def test_a_duration_is_read_at_a_glance(seconds: int, text: str) -> None:
    """Seconds, minutes or hours."""
    ended = play([TROUBLE] * seconds + [CALM] * 8)[-1]
    assert f"over after {text}" in ended.line
