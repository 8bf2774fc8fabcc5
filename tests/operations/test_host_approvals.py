"""A person's answers to what subsystems ask for: shown, given, kept."""

from __future__ import annotations

import pytest

from epad.confinement.approvals import ONCE, Asks, Question
from epad.confinement.host_questions import HostQuestions, HostSubject
from epad.confinement.policy import Policy
from epad.operations.host_approvals import HostApprovals
from epad.operations.protocol import ConflictError, UnknownApprovalError, UnknownQuestionError
from epad.storage.database import DatabaseError
from runners.egress.rules import parse
from statemachine.clock import ManualClock

SUBJECT = HostSubject("agent", "a.example", 443)


class World:
    """Questions without a way out, and a disk that may take nothing."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.approvals = HostQuestions(self.clock)
        self.kept: list[tuple[HostSubject, str]] = []
        self.disk_is_full = False
        self.hosts: tuple[str, ...] = ()
        self.revoked: list[tuple[HostSubject, str]] = []
        self.asked = HostApprovals(self, self.Disk(self))

    class Disk:
        def __init__(self, world: World) -> None:
            self._world = world

        async def approve(self, subject: HostSubject, reason: str) -> None:
            if self._world.disk_is_full:
                raise DatabaseError("the disk is full")
            self._world.kept.append((subject, reason))

        async def revoke(self, subject: HostSubject) -> None:
            if self._world.disk_is_full:
                raise DatabaseError("the disk is full")
            self._world.kept = [one for one in self._world.kept if one[0] != subject]

    async def revoke(self, subject: HostSubject, reason: str) -> int | None:
        self.revoked.append((subject, reason))
        return 2 if self.approvals.revoke(subject) else None

    def moved(self, subject: HostSubject) -> tuple[int, int]:
        return (7, 9) if subject == SUBJECT else (0, 0)

    def policy(self, subsystem: str) -> Policy:
        return Policy(subsystem, "workspace", "/w", "/w", (), hosts=tuple(map(parse, self.hosts)))

    def approve(self, number: int, seconds: float | None, reason: str) -> Question[HostSubject]:
        question = self.approvals.answerable(number)
        self.approvals.approve(number, seconds, reason)
        return question

    def deny(self, number: int, reason: str) -> Question[HostSubject]:
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
    [question] = world.asked.show().questions
    assert question == {
        "number": 1, "subsystem": "agent", "host": "a.example", "port": 443, "state": "open",
        "program": "python3 agent.py", "tries": 1, "asked_seconds_ago": 10.0, "left_seconds": 20.0, "reason": "",
        "widens": ["agent: + connect a.example:443; at once"], "asks": "a.example:443", "labels": [],
        "sent_bytes": 7, "received_bytes": 9,
    }  # fmt: skip
    world.clock.advance(30)
    world.approvals.expire()
    assert world.asked.show().questions[0]["left_seconds"] is None


async def test_an_approval_for_a_time_is_kept_nowhere(world: World) -> None:
    assert await world.asked.approve("1", 60.0, "needed") == "agent may reach a.example:443 for 60 s"
    [question] = world.asked.show().questions
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
    assert world.asked.show().always == {"agent": ["a.example:443"]}


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


async def test_what_the_policy_names_by_now_would_widen_nothing(world: World) -> None:
    """A reload has named the host since it was asked for, by itself or with all below a name."""
    world.hosts = ("a.example",)
    assert world.asked.show().questions[0]["widens"] == []


async def test_an_approval_for_once_says_so(world: World) -> None:
    assert await world.asked.approve("1", ONCE, "needed") == "agent may reach a.example:443 once"
    assert world.asked.show().standing == []  # who waited has used it up


async def test_what_stands_is_shown_with_its_end_and_its_bytes(world: World) -> None:
    """Beside that which an earlier run of the daemon was given, which no question answers."""
    await world.asked.approve("1", 60.0, "needed")
    world.approvals._always.add(HostSubject("agent", "old.example", 8443))
    timed, always = world.asked.show().standing
    assert timed == {
        "subsystem": "agent", "host": "a.example", "port": 443, "number": 1, "left_seconds": 60.0, "once": False,
        "reason": "needed", "sent_bytes": 7, "received_bytes": 9,
    }  # fmt: skip
    assert (always["host"], always["number"], always["left_seconds"]) == ("old.example", None, None)


@pytest.mark.parametrize("name", ["1", "a.example", "a.example:443"])
@pytest.mark.parametrize("seconds", [60.0, None])
async def test_an_approval_is_taken_back_by_its_number_or_its_host(
    world: World, name: str, seconds: float | None
) -> None:
    """The sentence says what it has ended; one for ever is off the disk too."""
    await world.asked.approve("1", seconds, "needed")
    revoked = await world.asked.revoke(name, "", "enough")
    assert revoked.sentence == (
        "agent may no longer reach a.example:443 by an approval, and 2 connections to it ended"
    )
    assert revoked.is_kept
    assert world.revoked == [(SUBJECT, "enough")]
    assert world.kept == []
    assert world.asked.show().standing == []


async def test_a_disk_that_takes_nothing_keeps_no_host_open(world: World) -> None:
    """It is closed now; that a start would open it again is said."""
    await world.asked.approve("1", None, "needed")
    world.disk_is_full = True
    revoked = await world.asked.revoke("a.example", "agent", "enough")
    assert not revoked.is_kept
    assert "the disk is full" in revoked.sentence
    assert "the next start of the daemon allows it again" in revoked.sentence
    assert world.approvals.rules("agent") == ()


async def test_an_approval_of_two_subsystems_is_not_guessed(world: World) -> None:
    await world.asked.approve("1", 60.0, "needed")
    other = world.approvals.ask(HostSubject("other", "a.example", 443), 8)
    assert other is not None
    await world.asked.approve(str(other.number), 60.0, "needed")
    with pytest.raises(
        ConflictError, match=r"agent to a\.example:443, other to a\.example:443; add --subsystem"
    ):
        await world.asked.revoke("a.example", "", "enough")
    assert world.revoked == []
    await world.asked.revoke("a.example", "other", "enough")
    assert world.revoked == [(HostSubject("other", "a.example", 443), "enough")]


@pytest.mark.parametrize(
    ("name", "subsystem"), [("b.example", ""), ("a.example", "other"), ("2", ""), ("a.example:80", "")]
)
async def test_what_is_not_approved_is_not_taken_back(world: World, name: str, subsystem: str) -> None:
    """Those that hold are named; a question that is open stays so."""
    with pytest.raises(UnknownApprovalError, match="there is no approval"):
        await world.asked.revoke("1", "", "enough")
    await world.asked.approve("1", 60.0, "needed")
    with pytest.raises(UnknownApprovalError) as refused:
        await world.asked.revoke(name, subsystem, "enough")
    assert refused.value.known == (() if subsystem else ("a.example:443",))
    assert world.revoked == []


async def test_an_answer_that_knows_what_a_session_has_read_ends_with_it(world: World) -> None:
    """So it is for a time, and kept nowhere; the question says what brought the label."""
    subject = HostSubject("agent", "b.example", 443, "a session")
    asks = Asks(
        line="b.example:443; its session has read private content", labels=(("private", "env_vars", "t"),)
    )
    world.approvals.ask(subject, asks=asks)
    with pytest.raises(ConflictError, match="ends with that session"):
        await world.asked.approve("2", None, "for ever")
    assert world.kept == []
    shown = world.asked.show().questions[-1]
    assert shown["asks"] == "b.example:443; its session has read private content"
    assert shown["labels"] == [{"label": "private", "source": "env_vars", "turn": "t"}]
    assert shown["widens"] == ()
    assert await world.asked.approve("2", 60.0, "needed") == "agent may reach b.example:443 for 60 s"
    assert world.approvals.rules("agent") == ()
    assert world.approvals.rules("agent", "a session") == (subject.rule,)
