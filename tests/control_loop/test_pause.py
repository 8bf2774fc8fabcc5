"""Pause and resume: a rest that a person gives, which is no trouble and no quarantine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from epad_story import NAMES, Story, into_recovery

from epad.control_loop.step import Lane, StepName
from epad.control_loop.stimulus import Paused, Resumed
from statemachine.containment import Hold, Rung
from statemachine.phase import Phase
from statemachine.situation import Order

LUNCH = Paused("chat", "paused by uid 7: lunch")
OPEN = dict.fromkeys(NAMES, Rung.OPEN)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_pause_freezes_and_the_phase_stays(story: Story) -> None:
    """Nothing is wrong: no anomaly, no incident; and a resume opens it again."""
    assert story.tell(LUNCH) is Phase.NORMAL
    assert story.held("chat") == Hold(Rung.FREEZE, "paused by uid 7: lunch", paused=True)
    assert story.steps(Lane.CONTAINMENT) == [(StepName.HOLD, "chat")]
    assert story.wait(3_600) is Phase.NORMAL
    assert story.tell(Resumed("chat")) is Phase.NORMAL
    assert story.rungs() == OPEN
    assert story.journalled_holds()["chat"] == ("open", "")


def test_a_client_that_is_paused_is_blocked(story: Story) -> None:
    """There is no process of ours to freeze."""
    story.tell(Paused("guest", "lunch"))
    assert story.held("guest").rung is Rung.BLOCK


def test_a_pause_outlives_the_daemon(story: Story) -> None:
    """What a person has ordered is not forgotten by a crash."""
    story.tell(LUNCH)
    story.die_and_return()
    assert story.held("chat").reason == "paused by uid 7: lunch"
    story.tell(Resumed("chat"))
    story.die_and_return()
    assert story.rungs() == OPEN


def test_a_resume_ends_no_quarantine_and_a_release_no_pause(story: Story) -> None:
    """Each verb undoes its own."""
    story.tell(LUNCH)
    story.quarantine("chat")
    assert not story.held("chat").paused, "what is wrong is shown before what is wished"
    story.tell(Resumed("chat"))
    assert story.held("chat").rung is Rung.FREEZE
    story.tell(LUNCH)
    story.release("chat")
    assert story.held("chat").paused
    story.tell(Resumed("chat"))
    assert story.rungs() == OPEN


def test_what_rests_is_not_repaired(story: Story) -> None:
    """A recovery that restarted it would end the rest."""
    story.tell(Paused("game", "lunch"))
    into_recovery(story, "model", "game")
    assert (StepName.RESTART, "model") in story.steps()
    assert story.held("game").rung is Rung.FREEZE


def test_a_lifeboat_stops_what_rests_and_a_relaunch_lets_it_rest_on(story: Story) -> None:
    """The firmer hold wins while it lasts."""
    story.tell(LUNCH)
    story.order(Order.LIFEBOAT)
    story.end()
    assert story.held("chat").rung is Rung.STOP
    story.end()
    story.order(Order.RELAUNCH)
    assert story.rungs() == {**OPEN, "chat": Rung.FREEZE}
