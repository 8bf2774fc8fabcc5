"""The probe on tools: what goes in circles is held at the tool, at the category, as a whole; honest work is not."""

from __future__ import annotations

import pytest
from shipped_settings import PROBES

from probes.tool_calls import ToolCalled
from probes.tools import Tools
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung

SETTINGS = PROBES.tools


class World:
    """A probe, and what it has stated."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.probe = Tools(SETTINGS, clock=self.clock, push=self.pushed.append)

    def call(
        self,
        tool: str = "git_status",
        category: str = "git",
        *,
        after: float = 1.0,
        who: str = "agent",
        outcome: str = "done",
        code: str = "",
        arguments: str = "",
        result: str = "",
        output: int = 10,
        seconds: float = 0.01,
        changes: int = 0,
        can_undo: bool = False,
    ) -> None:
        self.clock.advance(after)
        self.probe.called(
            ToolCalled(
                who, self.clock.monotonic(), "t", tool, category, outcome, code, "W2/tier",
                arguments.encode(), result.encode(), output, seconds, changes, can_undo,
            )
        )  # fmt: skip

    def refused(self, code: str = "tier_too_low", *, after: float = 1.0, tool: str = "git_status") -> None:
        self.call(tool, after=after, outcome="refused", code=code)

    def found(self) -> list[tuple[str, object]]:
        return [(one.subsystem, one.evidence["detector"]) for one in self.pushed]


@pytest.fixture
def world() -> World:
    return World()


def test_the_same_call_with_the_same_result_is_held_at_its_tool(world: World) -> None:
    """For the one who makes it, with the turn as evidence."""
    for _ in range(4):
        world.call()
        world.call(who="other", tool="file_read", category="files", arguments=str(len(world.pushed)), after=0)
    [found] = world.pushed
    assert (found.subsystem, found.severity, found.value) == ("tool:git_status@agent", Severity.ANOMALY, 4)
    assert found.evidence == {
        "detector": "identical_calls",
        "tool": "git_status",
        "turn": "t",
        "stage": "tool",
    }


def test_two_calls_in_turn_are_a_circle_too(world: World) -> None:
    """Neither says anything new."""
    for _ in range(4):
        world.call(arguments="a")
        world.call(arguments="b")
    assert ("tool:git_status@agent", "identical_calls") in world.found()


def test_a_poll_waits_for_something(world: World) -> None:
    """Every ten seconds, for hours."""
    for _ in range(600):
        world.call(after=SETTINGS.poll_seconds)
    assert world.pushed == []


def test_a_status_between_changes_is_no_circle(world: World) -> None:
    """A build writes, reads and asks the same again; each write is new."""
    for number in range(100):
        world.call("file_write", "files", arguments=str(number), result="ok")
        world.call("file_read", "files", arguments="log", result="failed")
        world.call()
    assert world.pushed == []


def test_a_reader_of_many_files_is_no_flood(world: World) -> None:
    """Five a second, 50 KB each; one in ten is not there."""
    for number in range(600):
        outcome = "failed" if number % 10 == 0 else "done"
        world.call("file_read", "files", arguments=str(number), outcome=outcome, output=50_000, after=0.2)
    assert world.pushed == []


def test_a_flood_of_output_is_found(world: World) -> None:
    """By the bytes within the window."""
    for number in range(600):
        world.call("file_read", "files", arguments=str(number), output=64 << 10, after=0.1)
    assert ("tool:file_read@agent", "output_flood") in world.found()


def test_calls_that_fail_in_a_row_are_found_and_one_success_between_is_enough(world: World) -> None:
    """With other arguments each time."""
    for number in range(20):
        world.call(arguments=str(number), outcome="done" if number % 7 == 6 else "failed", code="failed")
    assert world.pushed == []
    for number in range(8):
        world.call(arguments=f"x{number}", outcome="failed", code="failed")
    assert world.found() == [("tool:git_status@agent", "failing_calls")]


def test_who_tries_the_gate_is_found(world: World) -> None:
    """Ten refusals within a minute; a hold, a limit and a phase refuse nobody who tries the gate."""
    for code in ("held", "throttled", "tool_calls_per_minute", "phase", "consent_needed"):
        for _ in range(20):
            world.refused(code)
    assert world.pushed == []
    for _ in range(9):
        world.refused()
    assert world.pushed == []
    world.refused("tool_not_given")
    assert world.found() == [("tool:git_status@agent", "refusals")]


def test_a_refusal_now_and_then_is_none(world: World) -> None:
    """Slower than the window."""
    for _ in range(50):
        world.refused(after=7)
    assert world.pushed == []


def test_who_goes_on_is_held_at_the_category_and_then_as_a_whole(world: World) -> None:
    """By calling what is held; a few attempts are none, and keep the hold up."""
    for _ in range(4):
        world.call()
    for _ in range(SETTINGS.persist_calls - 1):
        world.refused("held", after=0.5)
    assert [one.subsystem for one in world.pushed] == ["tool:git_status@agent"]
    world.refused("held")
    for _ in range(SETTINGS.persist_calls):
        world.refused("held", after=0.5)
    assert [one.subsystem for one in world.pushed] == ["tool:git_status@agent", "tools-git@agent", "agent"]
    world.refused("held", after=6)
    assert [one.subsystem for one in world.pushed][3:] == ["agent"]


def test_the_next_tool_of_the_category_is_the_category(world: World) -> None:
    """As long as the first hold is remembered; after that it begins at the tool."""
    for tool in ("git_status", "git_log"):
        for _ in range(4):
            world.call(tool)
    assert [one.subsystem for one in world.pushed] == ["tool:git_status@agent", "tools-git@agent"]
    world.clock.advance(SETTINGS.memory_seconds + 1)
    for _ in range(4):
        world.call("git_diff")
    assert world.pushed[-1].subsystem == "tool:git_diff@agent"


@pytest.mark.parametrize("name", ["agent", "tool:git_status@agent"])
def test_a_release_begins_afresh(world: World, name: str) -> None:
    """At the tool."""
    for _ in range(4):
        world.call()
    world.probe.forget(name)
    for _ in range(4):
        world.call()
    assert [one.subsystem for one in world.pushed] == ["tool:git_status@agent"] * 2


async def test_a_category_slower_than_its_own_history_is_a_warning(world: World) -> None:
    """Said once, and it holds nobody; one that always was slow is not."""
    for number in range(200):
        world.call(arguments=f"a{number}", seconds=0.01 + 0.002 * (number % 3))
        world.call("file_read", "files", arguments=f"b{number}", seconds=2.0)
    assert await world.probe.sample() == []
    for number in range(30):
        world.call(arguments=f"c{number}", seconds=0.5)
    [slow] = await world.probe.sample()
    assert (slow.subsystem, slow.severity, slow.rung) == ("tools-git", Severity.WARNING, Rung.OPEN)
    assert slow.evidence["detector"] == "latency"
    assert await world.probe.sample() == []


def test_a_change_that_cannot_be_undone_any_more_is_a_warning(world: World) -> None:
    """Once in a while, where it could before; a tool whose changes never could is not news."""
    for number in range(3):
        world.call("git_tag", arguments=f"t{number}", changes=1)
        world.call("file_write", "files", arguments=f"a{number}", changes=1, can_undo=True)
        world.call("file_read", "files", arguments=f"b{number}")
    assert world.pushed == []
    for number in range(3):
        world.call("file_write", "files", arguments=f"c{number}", changes=1)
    [full] = world.pushed
    assert (full.subsystem, full.severity, full.rung) == ("agent", Severity.WARNING, Rung.OPEN)
    assert full.evidence["detector"] == "undo_full"
