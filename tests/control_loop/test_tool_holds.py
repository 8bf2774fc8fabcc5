"""Holds of tools and categories along the control path: held, restored, let go, and no phase's business."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from epad_story import NAMES, Story

from epad.control_loop.step import Lane, StepName
from statemachine.containment import Rung
from statemachine.finding import Severity
from statemachine.phase import Phase

OPEN = dict.fromkeys(NAMES, Rung.OPEN)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def story() -> Story:
    return Story()


def steps(story: Story) -> list[tuple[str, str]]:
    return [(target, arguments["rung"]) for _, target, arguments in story.journalled_steps()]


def test_a_person_holds_a_tool_and_a_category_until_released(story: Story) -> None:
    """Nobody else is held, and the firmest hold of a tool is a block."""
    assert story.quarantine("tools-git") is Phase.QUARANTINE
    story.quarantine("tool:file_read")
    assert story.rungs() == {**OPEN, "tools-git": Rung.BLOCK, "tool:file_read": Rung.BLOCK}
    story.release("tools-git")
    story.release("tool:file_read")
    assert story.rungs() == OPEN
    assert steps(story) == [
        ("tools-git", "block"), ("tool:file_read", "block"), ("tools-git", "open"), ("tool:file_read", "open")
    ]  # fmt: skip
    assert story.wait(60) is Phase.NORMAL


def test_the_hold_is_there_after_a_restart(story: Story) -> None:
    """It is worked out from the journal, and let go as any other."""
    story.quarantine("tool:git_commit")
    story.die_and_return()
    assert story.held("tool:git_commit").rung is Rung.BLOCK
    story.release("tool:git_commit")
    assert "tool:git_commit" not in story.rungs()
    assert steps(story)[-1] == ("tool:git_commit", "open")


def test_what_is_found_of_a_tool_lets_go_by_itself(story: Story) -> None:
    """Once it has been quiet."""
    story.find("tool:git_status@chat")
    assert story.held("tool:git_status@chat").rung is Rung.BLOCK
    story.wait(200)
    assert (story.phase, story.rungs()) == (Phase.NORMAL, OPEN)


def test_no_phase_follows_from_tools_however_many_and_old(story: Story) -> None:
    """A recovery restarts no tool, so none begins for one; no checkpoint is made either."""
    for _ in range(200):
        for name in ("tools-git", "tool:a@chat", "tool:b@game"):
            assert story.find(name, severity=Severity.CRITICAL) is Phase.QUARANTINE
        story.wait(5)
    assert story.steps(Lane.PHASE) == []


def test_a_recovery_of_a_subsystem_touches_no_tool(story: Story) -> None:
    """Its own trouble goes on as it would alone."""
    story.find("tool:a@chat")
    story.find("chat")
    assert story.phase is Phase.QUARANTINE
    assert story.find("game") is Phase.PRESERVATION
    story.end()
    restarted = {target for name, target, _ in story.journalled_steps() if name == StepName.RESTART}
    assert not any(name.startswith("tool") for name in restarted)


def test_the_release_of_a_subsystem_lets_its_tools_go(story: Story) -> None:
    """And no other's."""
    story.find("tool:a@chat")
    story.find("tools-git@game")
    story.release("chat")
    assert {name for name, rung in story.rungs().items() if rung is not Rung.OPEN} == {"tools-git@game"}


def test_a_tool_of_a_subsystem_that_is_gone_is_let_go(story: Story) -> None:
    """Nobody can release it any more."""
    story.find("tool:a@chat")
    story.world.subsystems = [one for one in story.world.subsystems if one.name != "chat"]
    story.tell()
    assert "tool:a@chat" not in story.rungs()
    assert steps(story)[-1] == ("tool:a@chat", "open")
