"""Clients on a clock of their own that tell the detectors about their turns, each waiting for its answers.

A client is a generator: it yields what it asks or how long it waits, and is sent the digest of the answer. Several
run at once, as the tasks of one subsystem do.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from epad.configuration.load import load
from epad.control_loop.rules import make_enforcement
from probes.blame import Fault
from probes.conversation import ConversationHealth, ConversationThresholds
from probes.token_burn import SubsystemBudget, TokenBurn, TokenBurnThresholds
from probes.turns import Last, TurnAdmitted, TurnFinished, TurnRefused, TurnStreamed
from statemachine.clock import ManualClock
from statemachine.finding import Finding


@dataclass(frozen=True)
class Ask:
    """One turn, and how it ends."""

    prompt: str
    reply: str = ""
    seconds: float = 1.0
    tokens: int = 50
    prompt_tokens: int = 500
    greedy: bool = False
    drawn: bool | None = False
    sampling: str = ""
    conversation: str = ""
    message: str = ""
    shape: str = ""
    attempt: str = ""
    choices: int = 1
    messages: int = 1
    last: Last = Last.UNKNOWN
    data: bool = False
    outcome: str = "done"
    fault: Fault = Fault.NOBODY
    status: int = 200
    pieces: Sequence[str] = ()


@dataclass(frozen=True)
class Wait:
    """A pause."""

    seconds: float


@dataclass(frozen=True)
class Refused:
    """A request that is turned away: as one more than may be in flight, or by a hold."""

    retry_after: float = 1.0
    code: str = "too_many_in_flight"
    limit: str = "max_in_flight"


ENFORCEMENT = make_enforcement(load())
Step = Ask | Wait | Refused
Client = Generator[Step, None, None]


@dataclass
class Heard:
    """What came of it: how many turns there were, and at which the first bad finding came."""

    turns: int = 0
    tokens: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    at_turn: int | None = None
    at_seconds: float = 0.0
    ended: list[str] = field(default_factory=list)

    @property
    def bad(self) -> list[Finding]:
        """The findings that would hold somebody, as epad is shipped."""
        return [finding for finding in map(ENFORCEMENT.judge, self.findings) if finding.bad]

    @property
    def detectors(self) -> set[str]:
        return {str(finding.evidence.get("detector", finding.probe)) for finding in self.bad}


class Players:
    """Plays clients to the detectors of one subsystem."""

    def __init__(self, thresholds: TokenBurnThresholds | None = None, **budget: Any) -> None:
        self.clock = ManualClock(0.0)
        self.heard = Heard()
        self.burn = TokenBurn(
            thresholds or TokenBurnThresholds(),
            budget=lambda _: SubsystemBudget(**budget),
            clock=self.clock,
            push=self._push,
            progressed_at=lambda _: self.progress(),
        )
        self.progress: Callable[[], float] = lambda: float("-inf")
        self.talk = ConversationHealth(ConversationThresholds(), clock=self.clock, push=self._push)
        self._ids = itertools.count(1)
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def play(self, *clients: Client, most_turns: int = 100_000, stop: bool = False) -> Heard:
        """Run the clients to their end; told to stop, to the first bad finding."""
        for client in clients:
            self._go_on(client)
        while self._due and self.heard.turns < most_turns and not (stop and self.heard.bad):
            at, _, then = heapq.heappop(self._due)
            self.clock.advance(max(0.0, at - self.clock.monotonic()))
            then()
        self.heard.seconds = self.clock.monotonic()
        return self.heard

    def _push(self, finding: Finding) -> None:
        self.heard.findings.append(finding)
        if ENFORCEMENT.judge(finding).bad and self.heard.at_turn is None:
            self.heard.at_turn, self.heard.at_seconds = self.heard.turns, self.clock.monotonic()

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.clock.monotonic() + seconds, next(self._numbers), then))

    def _go_on(self, client: Client) -> None:
        try:
            step = next(client)
        except StopIteration:
            return
        match step:
            case Wait(seconds):
                self._later(seconds, lambda: self._go_on(client))
            case Refused():
                event = TurnRefused(
                    "agent", self.clock.monotonic(), step.code, step.limit, 8, 8, 1,
                    retry_after_seconds=step.retry_after,
                )  # fmt: skip
                self.burn.refused(event)
                self._later(0.0, lambda: self._go_on(client))
            case Ask():
                turn = f"t{next(self._ids)}"
                self._admit(step, turn)
                for number, piece in enumerate(step.pieces, 1):
                    at = step.seconds * number / (len(step.pieces) + 1)
                    self._later(at, partial(self._stream, turn, piece))
                self._later(step.seconds, lambda: self._finish(step, turn, client))

    def _admit(self, ask: Ask, turn: str) -> None:
        self.heard.turns += 1
        event = TurnAdmitted(
            "agent", self.clock.monotonic(), turn, "m", 4 * ask.prompt_tokens, ask.prompt.encode(),
            prompt_tokens=ask.prompt_tokens, last_message=ask.message.encode(), conversation=ask.conversation,
            messages=ask.messages, history=(ask.prompt.encode(),) if ask.conversation else (),
            sampling=ask.sampling.encode(), random=not ask.greedy, drawn=ask.drawn, shape=ask.shape.encode(),
            attempt=ask.attempt, choices=ask.choices, last=ask.last,
        )  # fmt: skip
        self.burn.admitted(event)
        self.talk.admitted(event)

    def _stream(self, turn: str, piece: str) -> None:
        why = self.burn.streamed(TurnStreamed("agent", self.clock.monotonic(), turn, (piece,)))
        if why:
            self.heard.ended.append(turn)

    def _finish(self, ask: Ask, turn: str, client: Client) -> None:
        tokens = ask.prompt_tokens + ask.tokens if ask.fault is Fault.NOBODY else 0
        self.heard.tokens += tokens
        event = TurnFinished(
            "agent", self.clock.monotonic(), turn, ask.outcome, ask.prompt_tokens, ask.tokens, tokens, ask.status,
            ask.reply.encode(), fault=ask.fault, data=ask.data,
        )  # fmt: skip
        self.burn.finished(event)
        self.talk.finished(event)
        self._go_on(client)
