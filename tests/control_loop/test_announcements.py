"""What people and machines are told of a stimulus and of a decision; test_loop.py has it as part of the path."""

from __future__ import annotations

from dataclasses import replace

import pytest
import structlog
from epad_story import Story, finding

from epad.control_loop.announcements import OBSERVED_SECONDS, Announcements
from epad.storage.event_log import EventKind
from statemachine.enforcement import Enforcement
from statemachine.finding import Severity


@pytest.fixture
def story() -> Story:
    """One whose token_burn only reports."""
    story = Story()
    story.decider.configure(replace(story.rules, enforcement=Enforcement(frozenset({"token_burn"}))))
    return story


@pytest.fixture
def announce(story: Story) -> Announcements:
    return Announcements(story.decider, story.clock, story.events, story.metrics)


def notices(logged: list[structlog.types.EventDict]) -> list[str]:
    return [entry["subsystem"] for entry in logged if entry["event"] == EventKind.NOTICE]


def test_what_is_only_observed_is_told_once_in_a_while(story: Story, announce: Announcements) -> None:
    """Ten of them come a second: the same again is told after a minute, another subsystem's at once."""
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            announce.stimulus(finding(story.clock, "chat"))
        announce.stimulus(finding(story.clock, "game"))
        story.clock.advance(OBSERVED_SECONDS - 1.0)
        announce.stimulus(finding(story.clock, "chat"))
        story.clock.advance(1.0)
        announce.stimulus(finding(story.clock, "chat"))
    assert notices(logged) == ["chat", "game", "chat"]


def test_what_is_enforced_is_told_by_what_follows_from_it(story: Story, announce: Announcements) -> None:
    """Its anomaly is; and the passing of time is nothing."""
    with structlog.testing.capture_logs() as logged:
        announce.stimulus(finding(story.clock, "chat", "vram"))
        announce.stimulus(finding(story.clock, "chat", severity=Severity.OK))
        announce.stimulus(None)
    assert logged == []


def test_the_number_of_a_finding_is_shown(story: Story, announce: Announcements) -> None:
    """Observed or enforced, bad or not, told or not."""
    for value in (50.0, 150.0):
        found = finding(story.clock, "chat", severity=Severity.OK)
        announce.stimulus(replace(found, value=value, limit=100.0, unit="tokens"))
        shown = story.metrics.registry.get_sample_value("epad_token_burn_ratio", {"subsystem": "chat"})
        assert shown == value / 100.0
