"""Consent of a person: asked once for a class, given for a time or once, and never by anything else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from ledger_world import open_ledger
from scripted_worker import ScriptedStarter, catalogue

from epad.confinement.approvals import MOST_OPEN, ONCE, ApprovalError, Question, State
from epad.gate.tiers import Tier
from epad.gate.tool_profile import Profile
from epad.gate.tool_table import Taint
from epad.gateway.access import Access
from epad.ledger.store import Ledger
from epad.storage.event_log import EventKind
from epad.tools.call import CallContext, ToolCalls
from epad.tools.consent import ANSWER_SECONDS, ConsentContext, Consents, ToolSubject
from epad.tools.protocol import ToolAnswer
from epad.tools.rates import CallRates
from epad.tools.sessions import Origin, Sessions
from epad.tools.workers import Workers
from statemachine.clock import ManualClock
from statemachine.phase import Phase
from statemachine.rung import Rung


@dataclass
class Scene:
    """Calls of an operator's session, and the questions that they ask."""

    root: Path
    clock: ManualClock
    wait_seconds: float = 60.0
    phase: Phase = Phase.NORMAL
    process: str = "boot/1/2"
    events: list[tuple[EventKind, dict[str, Any]]] = field(default_factory=list)
    starter: ScriptedStarter = field(default_factory=ScriptedStarter)
    ledger: Ledger = field(init=False)
    calls: ToolCalls = field(init=False)
    consents: Consents = field(init=False)
    access: Access = field(init=False)
    sessions: Sessions = field(init=False)

    def call(
        self, tool: str = "remove", subsystem: str = "chat", **arguments: object
    ) -> asyncio.Task[ToolAnswer]:
        caller = self.calls.caller(subsystem)
        return asyncio.create_task(self.calls.call(caller, tool, arguments, key=None))

    async def question(self, number: int) -> Question[ToolSubject]:
        """A question, once it is open."""
        await until(lambda: any(one.number == number for one in self.consents.open()))
        return next(one for one in self.consents.open() if one.number == number)

    def told(self, kind: EventKind) -> list[dict[str, Any]]:
        return [fields for each, fields in self.events if each is kind]

    def begin(self) -> None:
        self.access, log = Access(self.clock), structlog.get_logger()
        self.sessions = Sessions(lambda _: self.process, lambda _: Tier.OPERATOR, "run")
        self.consents = Consents(
            ConsentContext(
                clock=self.clock,
                numbers=itertools.count(1),
                workspace=lambda _: str(self.root),
                lives=self.sessions.lives,
                emit=lambda kind, _, **fields: self.events.append((kind, fields)),
                log=log,
                wait_seconds=self.wait_seconds,
            )
        )
        context = CallContext(
            ledger=self.ledger,
            workers=Workers(self.starter, log),
            sessions=self.sessions,
            rates=CallRates(lambda _: 0, self.clock),
            access=self.access,
            phase=lambda: self.phase,
            profile=lambda _: Profile(None),
            clock=self.clock,
            log=log,
            consents=self.consents,
        )
        self.calls = ToolCalls(context, catalogue())


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    root = tmp_path / "work"
    (root / "build").mkdir(parents=True)
    made = Scene(root, ManualClock())
    made.ledger = await open_ledger(tmp_path / "ledger.db")
    made.begin()
    yield made
    await made.calls.close()
    await made.ledger.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition of another task."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_question_shows_the_call_and_an_answer_lets_it_go_on(scene: Scene) -> None:
    """With the real arguments and the real path; for a time the class passes, and another directory asks anew."""
    waiting = scene.call(path="a.txt")
    question = await scene.question(1)

    assert question.line == f"remove on {scene.root}/a.txt (not there)"
    assert question.asks.details == '{"path": "a.txt"}'
    assert question.deadline - question.asked_at == ANSWER_SECONDS
    assert scene.starter.started == []
    scene.consents.approve(1, 600.0, "needed")
    assert not (await waiting).is_error
    assert not (await scene.call(path="b.txt")).is_error
    other = scene.call(path="build/c.txt")
    await scene.question(2)
    scene.consents.deny(2, "no")
    assert (await other).reason_code == "consent_refused"
    assert [one["question"] for one in scene.told(EventKind.TOOL_ASKED)] == [1, 2]
    assert [one["answer"] for one in scene.told(EventKind.TOOL_DECIDED)] == ["allowed", "denied"]


async def test_a_consent_for_a_time_ends(scene: Scene) -> None:
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.consents.approve(1, 600.0, "needed")
    await waiting
    scene.clock.advance(600.0)
    again = scene.call(path="a.txt")
    await scene.question(2)
    scene.consents.deny(2, "no")
    assert (await again).is_error


async def test_once_is_for_the_call_that_was_shown(scene: Scene) -> None:
    """Another call of the same class, which waits on the same question, is asked about by itself."""
    shown = scene.call(path="a.txt")
    await scene.question(1)
    other = scene.call(path="b.txt")
    await until(lambda: next(scene.consents.open()).tries == 2)
    scene.consents.approve(1, ONCE, "needed")
    assert not (await shown).is_error
    assert (await scene.question(2)).asks.details == '{"path": "b.txt"}'
    scene.consents.deny(2, "no")
    assert (await other).reason_code == "consent_refused"
    assert len(scene.starter.started) == 1


async def test_an_approval_for_once_waits_for_its_own_call(scene: Scene) -> None:
    """A call with other arguments neither passes by it nor uses it up."""
    scene.wait_seconds = 0.02
    scene.begin()
    assert (await scene.call(path="a.txt")).reason_code == "consent_needed"
    scene.consents.approve(1, ONCE, "needed")
    assert (await scene.call(path="b.txt")).reason_code == "consent_needed"
    assert [one.number for one in scene.consents.open()] == [2]
    assert not (await scene.call(path="a.txt")).is_error
    assert (await scene.call(path="a.txt")).reason_code == "consent_needed"


async def test_a_call_that_waited_long_enough_is_told_the_question(scene: Scene) -> None:
    """The question stays open, and the same call goes through once a person has approved it."""
    scene.wait_seconds = 0.02
    scene.begin()
    answer = await scene.call(path="a.txt")
    assert answer.reason_code == "consent_needed"
    assert "epactl approve 1" in str(answer.content["hint"])
    assert (await scene.call(path="a.txt")).reason_code == "consent_needed"
    scene.consents.approve(1, ONCE, "needed")
    assert not (await scene.call(path="a.txt")).is_error
    assert (await scene.call(path="a.txt")).reason_code == "consent_needed"
    assert [one["question"] for one in scene.told(EventKind.TOOL_ASKED)] == [1, 2]


async def test_a_refusal_holds_and_asks_nobody_again(scene: Scene) -> None:
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.consents.deny(1, "no")
    assert (await waiting).reason_code == "consent_refused"
    assert (await scene.call(path="b.txt")).reason_code == "consent_refused"
    assert list(scene.consents.open()) == []
    assert scene.starter.started == []


async def test_no_answer_is_a_no(scene: Scene) -> None:
    """A later call asks again."""
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.clock.advance(ANSWER_SECONDS)
    assert list(scene.consents.open()) == []
    answer = await waiting
    assert answer.reason_code == "consent_refused"
    assert "which is a no" in str(answer.content["error"])
    again = scene.call(path="a.txt")
    await scene.question(1)
    again.cancel()


async def test_a_number_never_comes_to_be_about_another_call(scene: Scene) -> None:
    """A person who has read a question answers that one: other arguments of its class have a number of their own."""
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.clock.advance(ANSWER_SECONDS)
    assert list(scene.consents.open()) == []
    assert (await waiting).reason_code == "consent_refused"
    other = scene.call(path="b.txt")
    assert (await scene.question(2)).asks.details == '{"path": "b.txt"}'
    with pytest.raises(ApprovalError, match="there is no question 1"):
        scene.consents.approve(1, ONCE, "needed")
    scene.consents.deny(2, "no")
    assert (await other).reason_code == "consent_refused"
    assert scene.starter.started == []


async def test_a_hold_ends_the_waiting(scene: Scene) -> None:
    """And an approval that comes then lets nothing through."""
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.access.hold("chat", Rung.BLOCK, "it loops")
    scene.access.sever("chat")
    assert (await waiting).reason_code == "held"
    scene.consents.approve(1, 600.0, "needed")
    assert (await scene.call(path="a.txt")).reason_code == "held"
    scene.access.release("chat")
    assert not (await scene.call(path="a.txt")).is_error


async def test_a_phase_that_comes_meanwhile_counts(scene: Scene) -> None:
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.phase = Phase.LIFEBOAT
    scene.consents.approve(1, 600.0, "needed")
    assert (await waiting).reason_code == "phase"
    assert scene.starter.started == []


async def test_a_consent_ends_with_its_session(scene: Scene) -> None:
    """Also where the question is still open: nobody can answer it any more."""
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.consents.approve(1, 3_600.0, "needed")
    assert not (await waiting).is_error
    scene.process = "boot/3/4"
    waiting = scene.call(path="a.txt")
    await scene.question(2)
    assert scene.consents.questions.standing() == ()
    scene.process = "boot/5/6"
    with pytest.raises(ApprovalError, match="there is no question 2"):
        scene.consents.approve(2, 3_600.0, "needed")
    assert (await waiting).reason_code == "session_ended"
    assert len(scene.starter.started) == 1


async def test_a_session_with_both_taints_is_asked_knowingly(scene: Scene) -> None:
    """A consent of before is none; the question says so, and its approval counts."""
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.consents.approve(1, 3_600.0, "needed")
    await waiting
    scene.sessions.of("chat").label(Taint.UNTRUSTED, Origin("http_fetch at a.example:443", "f" * 32))
    scene.sessions.of("chat").label(Taint.PRIVATE, Origin("env_vars", "e" * 32))
    waiting = scene.call(path="a.txt")
    question = await scene.question(2)
    assert question.line.endswith(
        f"; its session has read untrusted content (http_fetch at a.example:443, turn {'f' * 32}) "
        f"and private content (env_vars, turn {'e' * 32})"
    )
    assert question.asks.labels == (
        ("untrusted", "http_fetch at a.example:443", "f" * 32),
        ("private", "env_vars", "e" * 32),
    )
    scene.consents.approve(2, 3_600.0, "needed")
    assert not (await waiting).is_error
    assert not (await scene.call(path="b.txt")).is_error


async def test_a_taint_that_comes_while_the_question_stands_is_asked_about(scene: Scene) -> None:
    """The person was not told of it, so the answer does not count for it."""
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.sessions.of("chat").taint = Taint.UNTRUSTED | Taint.PRIVATE
    scene.consents.approve(1, 3_600.0, "needed")
    assert "untrusted" in (await scene.question(2)).line
    assert scene.starter.started == []
    scene.consents.approve(2, 3_600.0, "needed")
    assert not (await waiting).is_error


async def test_one_taint_alone_asks_nothing_more(scene: Scene) -> None:
    """The benign twin."""
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.consents.approve(1, 3_600.0, "needed")
    await waiting
    assert not (await scene.call("host")).is_error
    assert not (await scene.call(path="a.txt")).is_error


async def test_an_agent_cannot_bury_a_person(scene: Scene) -> None:
    """A few of its questions are open; the next is refused at once. Other subsystems and other tools go on."""
    folders = [f"d{number}" for number in range(MOST_OPEN)]
    waiting = []
    for number, name in enumerate(folders):
        (scene.root / name).mkdir()
        waiting.append(scene.call(path=f"{name}/x"))
        await scene.question(number + 1)
    assert (await scene.call(path="a.txt")).reason_code == "too_many_questions"
    assert len(list(scene.consents.open())) == MOST_OPEN
    assert not (await scene.call("echo", text="still here")).is_error
    other = scene.call(subsystem="other", path="a.txt")
    await scene.question(MOST_OPEN + 1)
    scene.consents.approve(MOST_OPEN + 1, ONCE, "needed")
    assert not (await other).is_error
    for each in waiting:
        each.cancel()


async def test_whoever_hangs_up_leaves_the_question_open(scene: Scene) -> None:
    """A host that gave the call up calls again; the answer of the meantime counts."""
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    scene.consents.approve(1, ONCE, "needed")
    assert not (await scene.call(path="a.txt")).is_error


async def test_a_consent_is_taken_back(scene: Scene) -> None:
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    scene.consents.approve(1, 3_600.0, "needed")
    await waiting
    [standing] = scene.consents.questions.standing()
    assert scene.consents.revoke(standing.subject, "enough")
    assert not scene.consents.revoke(standing.subject, "enough")
    again = scene.call(path="a.txt")
    await scene.question(2)
    again.cancel()
    assert len(scene.told(EventKind.TOOL_REVOKED)) == 1


async def test_the_end_of_the_daemon_waits_for_no_person(scene: Scene) -> None:
    waiting = scene.call(path="a.txt")
    await scene.question(1)
    await scene.calls.close()
    assert (await waiting).reason_code == "consent_needed"
    assert scene.starter.started == []


async def test_a_question_is_answered_once_and_by_its_number(scene: Scene) -> None:
    waiting = scene.call(path="a.txt")
    question = await scene.question(1)
    with pytest.raises(ApprovalError, match="no question 2"):
        scene.consents.approve(2, ONCE, "needed")
    scene.consents.deny(1, "no")
    with pytest.raises(ApprovalError, match="is answered"):
        scene.consents.approve(1, ONCE, "after all")
    assert question.state is State.DENIED
    await waiting
