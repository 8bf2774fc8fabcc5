"""Ask a person about the calls that take consent, through the one list of questions that confinement has too.

A question is about one session, one tool and one target class (`target.py`); it is shown with the real arguments and
the target's real path or host. The session is epad's own, so a consent ends with it at the latest.

| the question is | the call |
|---|---|
| new, or open | waits a while (WAIT_SECONDS), and is then answered `consent_needed`: the question stays open |
| approved for a time | goes on, and so do later calls of the same class |
| approved for once | goes on if its arguments are the shown ones; any other asks anew |
| denied, within the hour | is answered `consent_refused` |
| unanswered for ANSWER_SECONDS | a call that waits is answered `consent_refused`; a later one asks again |
| one too many of its subsystem | is answered `too_many_questions` |

Whatever the answer, the gate decides anew when it comes: a hold, a phase or the end of the session since then counts.
A session with both taints has questions of its own, which tell the person so: a consent of before is none to them.
Nothing else approves anything, and no other call waits for a question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from structlog.typing import FilteringBoundLogger

from epad.confinement.approvals import MOST_OPEN, ApprovalError, Approvals, Asks, Question, State
from epad.gate.tool_labels import each, in_words
from epad.gate.tool_table import BOTH, Consent, Decision, Taint
from epad.storage.event_log import EventKind
from epad.tools import consent_state
from epad.tools.protocol import NO_REPLIES, Definition, Replies
from epad.tools.protocol import Question as ForClient
from epad.tools.running import Running
from epad.tools.sessions import Session
from epad.tools.shown import shown_arguments
from epad.tools.target import Target, find_target
from statemachine.clock import Clock

ANSWER_SECONDS: Final = 300.0
"""No answer in this time is a no."""
WAIT_SECONDS: Final = 25.0
"""How long a call waits for a person: hosts give calls up after 30 s to 5 minutes, and some then drop every tool."""
_LABEL_WORDS: Final = {Taint.UNTRUSTED: "untrusted content", Taint.PRIVATE: "private content"}


@dataclass(frozen=True, slots=True)
class ToolSubject:
    """Names what a consent is for. `knowing`: the person is told that the session has both taints."""

    subsystem: str
    session: str
    tool: str
    covers: str
    knowing: bool = False

    def __str__(self) -> str:
        return f"{self.tool} {self.covers}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Holds one call that takes consent; `bound` is what a client's state is about, the arguments' digest last."""

    session: Session
    definition: Definition
    arguments: Mapping[str, object]
    bound: tuple[str, ...]
    turn: str
    replies: Replies = NO_REPLIES

    @property
    def digest(self) -> str:
        """Return the digest of the arguments, in hex."""
        return self.bound[-1]


@dataclass(frozen=True, slots=True)
class Settled:
    """Holds the gate's decision after a person was asked; a refusal for want of consent has its code and hint."""

    decision: Decision
    code: str = ""
    why: str = ""
    hint: str = ""
    questions: Mapping[str, ForClient] = field(default_factory=dict)
    """What the client is asked, which brings back the `state` with its call."""
    state: str = ""


@dataclass(frozen=True, slots=True)
class ConsentContext:
    """Gives the questions their parts.

    `workspace` returns a subsystem's directory, empty without one; `lives` tells if a session has not ended; `emit`
    records an event of a subsystem.
    """

    clock: Clock
    numbers: Iterator[int]
    workspace: Callable[[str], str]
    lives: Callable[[str, str], bool]
    emit: Callable[..., None]
    log: FilteringBoundLogger
    wait_seconds: float = WAIT_SECONDS


class Consents:
    """The questions about tools, and the calls that wait for an answer."""

    def __init__(self, context: ConsentContext) -> None:
        self._context = context
        self._questions: Approvals[ToolSubject] = Approvals(
            context.clock, numbers=context.numbers, answer_seconds=ANSWER_SECONDS
        )
        self._waiting: set[asyncio.Future[None]] = set()
        self._states = consent_state.ConsentStates()

    @property
    def questions(self) -> Approvals[ToolSubject]:
        """Return the questions as of now: those whose time or session is over are closed."""
        self._tidy()
        return self._questions

    def open(self) -> Iterator[Question[ToolSubject]]:
        """Yield the questions that wait for a person."""
        return self.questions.open()

    def approve(self, number: int, seconds: float, reason: str) -> Question[ToolSubject]:
        """Consent for so long, or for ONCE. Raises ApprovalError."""
        question = self.questions.answerable(number)
        self._questions.approve(number, seconds, reason)
        return self._answered(question)

    def deny(self, number: int, reason: str) -> Question[ToolSubject]:
        """Refuse, for an hour. Raises ApprovalError."""
        question = self.questions.answerable(number)
        self._questions.deny(number, reason)
        return self._answered(question)

    def revoke(self, subject: ToolSubject, reason: str) -> bool:
        """Take a consent back; False if there was none. A call under way goes on."""
        had = self.questions.revoke(subject)
        if had:
            self._context.emit(
                EventKind.TOOL_REVOKED,
                subject.subsystem,
                tool=subject.tool,
                covers=subject.covers,
                reason=reason,
            )
        return had

    async def settle(
        self,
        wanted: Wanted,
        decide: Callable[[Consent], Decision],
        running: Running,
    ) -> Settled:
        """Ask, wait a while for the answer, and have the gate decide by it. `running` ends the waiting early.

        A client that can be asked is asked at once to come back, and its call waits then.
        """
        if consent_state.is_declined(wanted.replies):
            why = "the client's person gives the call up"
            return Settled(decide(Consent.NONE), "consent_refused", why, "do without it")
        loop = asyncio.get_running_loop()
        can_ask = consent_state.can_ask(wanted.replies)
        deadline = loop.time() + (0.0 if can_ask else self._context.wait_seconds)
        target = await self._target(wanted)
        while True:
            session = wanted.session
            knowing = (session.taint & BOTH) == BOTH
            subject = ToolSubject(
                session.subsystem, session.name, wanted.definition.name, target.covers, knowing
            )
            question = await self._answer(
                subject, _asks(wanted, target, knowing=knowing), wanted, deadline, running
            )
            is_allowed = question is not None and question.state is State.ALLOWED
            if not is_allowed or running.stopped is not None:
                settled = _without_consent(decide(self._given(subject)), question, wanted)
                return self._with_state(settled, question, wanted) if can_ask else settled
            decision = decide(Consent.KNOWINGLY if knowing else Consent.GIVEN)
            if not decision.needs_consent:
                return Settled(decision)

    def fault(self, bound: tuple[str, ...], replies: Replies) -> str:
        """Return what is wrong with the state that a client brings back; empty without a state, or a fault."""
        return (
            self._states.fault(replies.state, bound, self._context.clock.monotonic()) if replies.state else ""
        )

    def _with_state(
        self, settled: Settled, question: Question[ToolSubject] | None, wanted: Wanted
    ) -> Settled:
        """Add what the client is asked, if a person has the question still."""
        if question is None or settled.code != "consent_needed":
            return settled
        state = self._states.make(question.number, wanted.bound, self._context.clock.monotonic())
        return replace(settled, questions=consent_state.asked(question.number, question.line), state=state)

    async def _target(self, wanted: Wanted) -> Target:
        if server := wanted.definition.server:
            # What its arguments mean is known to the server alone, so a consent is for these and no others.
            return Target(
                f"the foreign server {server}", f"with these arguments alone ({wanted.digest[:16]})"
            )
        properties = wanted.definition.input_schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        defaults = {name: one["default"] for name, one in known.items() if "default" in one}
        root = self._context.workspace(wanted.session.subsystem)
        return await asyncio.to_thread(find_target, {**defaults, **wanted.arguments}, root, wanted.digest)

    async def _answer(
        self, subject: ToolSubject, asks: Asks, wanted: Wanted, deadline: float, running: Running
    ) -> Question[ToolSubject] | None:
        """Return the question once it is no longer open, or the time is over. None: too many of them are open."""
        while True:
            question = self.questions.ask(subject, asks=asks)
            if question is None or question.state is not State.OPEN:
                return question
            if question.asks is asks:  # it was opened by this call
                self._tell(question, wanted)
            state = await self._end_of(question, deadline, running)
            if state in {State.OPEN, State.UNANSWERED, State.WITHDRAWN}:
                return question

    async def _end_of(self, question: Question[ToolSubject], deadline: float, running: Running) -> State:
        """Wait while a question is open, for a time; return its state then."""
        while question.state is State.OPEN and running.stopped is None:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await self._wait(left, running)
            self._tidy()
        return question.state

    async def _wait(self, seconds: float, running: Running) -> None:
        """Wait until any question is answered, for the time at most."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        running.began_own(partial(_wake, waiter))
        try:
            await asyncio.wait({waiter}, timeout=seconds)
        finally:
            self._waiting.discard(waiter)

    def _given(self, subject: ToolSubject) -> Consent:
        """Return the consent that stands for a subject, without regard to taints."""
        unknowing = ToolSubject(subject.subsystem, subject.session, subject.tool, subject.covers)
        return Consent.GIVEN if unknowing in self._questions.allowed(subject.subsystem) else Consent.NONE

    def _tidy(self) -> None:
        """Close the questions that nobody answered in time, and forget those of sessions that have ended."""
        for question in self._questions.expire():
            self._answered(question)
        kept = self._questions.all()
        sessions = {(one.subsystem, one.subject.session) for one in kept}
        over = {each for each in sessions if not self._context.lives(*each)}
        ended = [one for one in kept if (one.subsystem, one.subject.session) in over]
        for question in ended:
            if question.state is State.OPEN:
                question.state = State.WITHDRAWN
                self._answered(question)
        self._questions.drop(ended)

    def _tell(self, question: Question[ToolSubject], wanted: Wanted) -> None:
        """Put a question on record: its arguments stay with the question."""
        fields = {"question": question.number, "tool": question.subject.tool, "asks": question.line}
        self._context.log.info("tool.asked", subsystem=question.subsystem, **fields)
        self._context.emit(
            EventKind.TOOL_ASKED,
            question.subsystem,
            **fields,
            session=question.subject.session,
            turn=wanted.turn,
        )

    def _answered(self, question: Question[ToolSubject]) -> Question[ToolSubject]:
        """Put the end of a question on record, and wake the calls that wait."""
        self._context.emit(
            EventKind.TOOL_DECIDED,
            question.subsystem,
            question=question.number,
            tool=question.subject.tool,
            covers=question.subject.covers,
            answer=question.state,
            once=question.once,
            reason=question.reason,
        )
        for waiter in list(self._waiting):
            _wake(waiter)
        return question


def _asks(wanted: Wanted, target: Target, *, knowing: bool) -> Asks:
    told = f"; {read_in_words(wanted.session)}" if knowing else ""
    return Asks(
        line=f"{wanted.definition.name} on {target.place}{told}",
        details=shown_arguments(wanted.arguments),
        exact=wanted.digest,
        about_tool=True,
        labels=labels_in_words(wanted.session) if knowing else (),
    )


def _without_consent(decision: Decision, question: Question[ToolSubject] | None, wanted: Wanted) -> Settled:
    """Word the refusal of a call that nobody has consented to."""
    if not decision.needs_consent:
        return Settled(decision)
    if question is None:
        why = f"{MOST_OPEN} questions about tools of {wanted.session.subsystem} are open already"
        hint = "call again when a person has answered them: `epactl approvals`"
        return Settled(decision, "too_many_questions", why, hint)
    number = question.number
    match question.state:
        case State.DENIED:
            why = f"a person has refused {question.subject} (question {number})"
            return Settled(
                decision, "consent_refused", why, "do without it; it is not asked again for an hour"
            )
        case State.UNANSWERED:
            why = f"nobody answered question {number} within {ANSWER_SECONDS:g} s, which is a no"
            return Settled(decision, "consent_refused", why, "a later call asks again, or do without it")
        case _:
            hint = (
                f"question {number} asks a person (`epactl approve {number}`); "
                "call again with the same arguments once it is approved"
            )
            return Settled(decision, "consent_needed", decision.sentence, hint)


def labels_in_words(session: Session) -> tuple[tuple[str, str, str], ...]:
    """Return each label of a session with what brought it, and the turn that did."""
    known = ((in_words(label), session.origins[label]) for label in each(session.taint))
    return tuple((label, origin.source, origin.turn) for label, origin in known)


def read_in_words(session: Session) -> str:
    """Say which labels a session has, and what brought each."""
    read = " and ".join(f"{_LABEL_WORDS[label]} ({session.origins[label]})" for label in each(session.taint))
    return f"its session has read {read}"


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


__all__ = ["ApprovalError", "ConsentContext", "Consents", "Settled", "ToolSubject", "Wanted"]
