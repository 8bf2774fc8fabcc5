"""A person's answers to what subsystems ask for: shown, given, kept."""

from __future__ import annotations

import pytest

from epad.confinement.approvals import Approvals, Question, Subject
from epad.operations.host_approvals import HostApprovals
from epad.operations.protocol import ConflictError, UnknownQuestionError
from epad.storage.database import DatabaseError
from statemachine.clock import ManualClock

SUBJECT = Subject("agent", "a.example", 443)


class World:
    """Questions without a way out, and a disk that may take nothing."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.approvals = Approvals(self.clock)
        self.kept: list[tuple[Subject, str]] = []
        self.disk_is_full = False
        self.asked = HostApprovals(self, self.Disk(self))

    class Disk:
        def __init__(self, world: World) -> None:
            self._world = world

        async def approve(self, subject: Subject, reason: str) -> None:
            if self._world.disk_is_full:
                raise DatabaseError("the disk is full")
            self._world.kept.append((subject, reason))

    def approve(self, number: int, seconds: float | None, reason: str) -> Question:
        question = self.approvals.answerable(number)
        self.approvals.approve(number, seconds, reason)
        return question

    def deny(self, number: int, reason: str) -> Question:
        question = self.approvals.answerable(number)
        self.approvals.deny(number, reason)
        return question


@pytest.fixture
def world() -> World:
    world = World()
    question = world.approvals.ask(SUBJECT, 7)
    assert question is not None
    question.program = "python3 agent.py"
    return world


async def test_a_question_is_shown_with_the_time_that_is_left(world: World) -> None:
    world.clock.advance(10)
    [question] = world.asked.show()["questions"]
    assert question == {
        "number": 1, "subsystem": "agent", "host": "a.example", "port": 443, "state": "open",
        "program": "python3 agent.py", "tries": 1, "asked_seconds_ago": 10.0, "left_seconds": 20.0, "reason": "",
    }  # fmt: skip
    world.clock.advance(30)
    world.approvals.expire()
    assert world.asked.show()["questions"][0]["left_seconds"] is None


async def test_an_approval_for_a_time_is_kept_nowhere(world: World) -> None:
    assert await world.asked.approve("1", 60.0, "needed") == "agent may reach a.example:443 for 60 s"
    [question] = world.asked.show()["questions"]
    assert (question["state"], question["left_seconds"], question["reason"]) == ("allowed", 60.0, "needed")
    assert world.kept == []


async def test_an_approval_for_ever_is_on_the_disk_first(world: World) -> None:
    world.disk_is_full = True
    with pytest.raises(ConflictError, match=r"the disk is full; approve it for a time"):
        await world.asked.approve("1", None, "needed")
    assert world.approvals.rules("agent") == ()
    world.disk_is_full = False
    assert await world.asked.approve("1", None, "needed") == "agent may reach a.example:443 for ever"
    assert world.kept == [(SUBJECT, "needed")]
    assert world.asked.show()["always"] == {"agent": ["a.example:443"]}


async def test_a_denial_says_what_holds(world: World) -> None:
    said = world.asked.deny("1", "no")
    assert said == "agent may not reach a.example:443, and is not asked about again for an hour"
    with pytest.raises(ConflictError, match="question 1 is answered"):
        await world.asked.approve("1", 60.0, "after all")


@pytest.mark.parametrize("number", ["2", "0", "-1", "x", "01", "9" * 30])
async def test_an_unknown_number_names_those_that_there_are(world: World, number: str) -> None:
    with pytest.raises(UnknownQuestionError, match="there is no question") as refused:
        world.asked.deny(number, "no")
    assert refused.value.known == ("1",)
