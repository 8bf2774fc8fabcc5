"""Questions about tools, shown beside those about hosts and answered by their numbers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import structlog

from epad.confinement.approvals import ONCE
from epad.gate.tiers import Tier
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import Consent, Decision, Taint, decide
from epad.operations.all_approvals import AllApprovals
from epad.operations.host_approvals import HostAnswers, HostApprovals, Revoked
from epad.operations.protocol import ConflictError, UnknownApprovalError, UnknownQuestionError
from epad.operations.tool_approvals import ToolApprovals
from epad.tools.consent import ConsentContext, Consents, Settled, Wanted
from epad.tools.protocol import Definition
from epad.tools.running import Running
from epad.tools.sessions import Session
from statemachine.clock import ManualClock
from statemachine.phase import Phase
from statemachine.rung import Rung

DELETE = Definition("file_delete", "files", "", "W2", 5.0, {"properties": {}}, {}, "0" * 64)
MAIN = "session-of-agent"


class NoHosts:
    """Answers as where nobody asks for a host."""

    def show(self) -> HostAnswers:
        return HostAnswers([], [], {})

    async def approve(self, number: str, seconds: float | None, reason: str) -> str:
        raise UnknownQuestionError(number, ["70"])

    def deny(self, number: str, reason: str) -> str:
        raise UnknownQuestionError(number, ["70"])

    async def revoke(self, name: str, subsystem: str, reason: str) -> Revoked:
        raise UnknownApprovalError(name, ["a.example:443"])


class World:
    """One question about a tool, and the call that waits for it."""

    def __init__(self, root: Path) -> None:
        self.clock = ManualClock()
        context = ConsentContext(
            clock=self.clock,
            numbers=itertools.count(71),
            workspace=lambda _: str(root),
            lives=lambda _, name: name == MAIN,
            emit=lambda *_, **__: None,
            log=structlog.get_logger(),
            wait_seconds=60.0,
        )
        self.consents = Consents(context)
        self.all = AllApprovals(cast("HostApprovals", NoHosts()), ToolApprovals(self.consents))
        self.session = Session(MAIN, "agent", Tier.OPERATOR)
        self.waiting: asyncio.Task[Settled] = asyncio.create_task(self.ask("a.txt"))

    async def ask(self, path: str) -> Settled:
        wanted = Wanted(self.session, DELETE, {"path": path}, (f"{path:0>64}",), "turn")
        return await self.consents.settle(wanted, self.decide, Running())

    def decide(self, consent: Consent) -> Decision:
        return decide(Tier.OPERATOR, ToolRisk.DELETES, Phase.NORMAL, Rung.OPEN, Taint.NONE, consent)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with asyncio.timeout(60):
        while not list(made.consents.open()):
            await asyncio.sleep(0.005)
    yield made
    made.waiting.cancel()


async def test_a_question_is_shown_with_all_that_an_answer_needs(world: World, tmp_path: Path) -> None:
    world.clock.advance(10.0)
    [question] = world.all.show()["tool_questions"]
    assert question["asks"] == f"file_delete on {tmp_path}/a.txt (not there)"
    assert (question["number"], question["subsystem"], question["session"]) == (71, "agent", MAIN)
    assert (question["arguments"], question["covers"]) == ('{"path": "a.txt"}', f"in {tmp_path}")
    assert (question["state"], question["left_seconds"], question["both_taints"]) == ("open", 290.0, False)


async def test_an_answer_says_what_it_is_for(world: World, tmp_path: Path) -> None:
    """Shown as standing, and taken back by the tool or the number."""
    said = await world.all.approve("71", 600.0, "needed")
    assert said == f"agent may call file_delete in {tmp_path} for 600 s, in this session"
    assert (await world.waiting).decision.allowed
    [standing] = world.all.show()["tool_standing"]
    assert (standing["tool"], standing["left_seconds"], standing["once"]) == ("file_delete", 600.0, False)
    with pytest.raises(UnknownApprovalError) as refused:
        await world.all.revoke("git_checkout", "", "enough")
    assert refused.value.known == ("a.example:443", "file_delete")
    with pytest.raises(UnknownApprovalError):
        await world.all.revoke("file_delete", "other", "enough")
    revoked = await world.all.revoke("71", "agent", "enough")
    assert "may no longer call file_delete" in revoked.sentence
    assert world.all.show()["tool_standing"] == []


async def test_once_says_so(world: World) -> None:
    said = await world.all.approve("71", ONCE, "needed")
    assert said == "agent may call file_delete once, with the arguments that were shown"
    assert (await world.waiting).decision.allowed


async def test_a_refusal_says_so_and_is_an_answer(world: World) -> None:
    assert "is not asked about again for an hour" in world.all.deny("71", "no")
    assert (await world.waiting).code == "consent_refused"
    with pytest.raises(ConflictError, match="question 71 is answered"):
        await world.all.approve("71", 60.0, "after all")


async def test_no_consent_is_for_ever(world: World) -> None:
    with pytest.raises(ConflictError, match="ends with its session"):
        await world.all.approve("71", None, "needed")
    assert list(world.consents.open())


async def test_an_unknown_number_names_those_of_both_kinds(world: World) -> None:
    for number in ("7", "x", "-71"):
        with pytest.raises(UnknownQuestionError) as refused:
            await world.all.approve(number, 60.0, "needed")
        assert refused.value.known == ("70", "71")
        with pytest.raises(UnknownQuestionError):
            world.all.deny(number, "no")


async def test_two_questions_of_one_number_have_other_marks(world: World, tmp_path: Path) -> None:
    """The page answers the call that it was shown for, and no other: of another target, or other arguments."""
    [mark] = [one["mark"] for one in world.all.show()["tool_questions"]]
    other = World(tmp_path)
    other.waiting.cancel()
    other.waiting = asyncio.create_task(other.ask("b.txt"))
    async with asyncio.timeout(60):
        while not list(other.consents.open()):
            await asyncio.sleep(0.005)
    assert [one["mark"] for one in other.all.show()["tool_questions"]] != [mark]
    assert " " not in mark
    other.waiting.cancel()
