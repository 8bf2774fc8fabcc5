"""Judge conversations: turns that went missing, came twice, or belong nowhere; and talk that goes round in circles.

A request carries its conversation with it, so each one can be compared with the earlier ones: it continues from the
last state, from an earlier one (a branch), or from one that never passed here (a gap). These are reported, not acted
upon: people edit, agents compact. Answers that repeat while the conversation grows are acted upon if that is telling: a
short answer to a new question is a "yes" like any other, and one to a question that was asked after a pause is a poll.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from probes.bounds import Bound
from probes.probe import Push
from probes.settings import EnforcedSettings
from probes.token_burn.rounds import AT_ONCE_SECONDS
from probes.token_burn.window import WindowSum
from probes.turns import Last, TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import Clock
from statemachine.containment import Rung
from statemachine.finding import Finding, Severity
from statemachine.rung import RungName
from statemachine.value_types import WHY, Count, Seconds

NAME = "conversation"
LOOPS = frozenset({"loop", "stale"})
"""What it acts upon: answers in a circle, and nothing new for many turns."""

REMEMBERED_STATES = 12
REMEMBERED_REPLIES = 12
LONGEST_PERIOD = 3
LEAST_LOOP = 6
"""Answers; so one answer alone must come six times. Four in a row were a plain "done" twice in 26 days of
bench/detectors.py, and no loop."""

LEAST_STUCK = 5
"""Of one answer, if each is to the same words, and these are an error or were said: neither is a poll's."""

LONG_TOKENS = 100
"""An answer of so many is not given twice to two different questions: a label, a vote, a refusal is shorter."""

CIRCLE_TOKENS = 32
"""Nor are two or three answers of so many given in turn, four times over, to questions that are all different."""

WORD_TOKENS = 4
"""Fewer are a yes, a no, a label: those are honest answers to questions that differ in their numbers alone."""

WAIT_FOR_NOTHING = frozenset({Last.SAID, Last.ERROR})

REMEMBERED_QUESTIONS = 32
"""Each by its digest and by that without its numbers."""

MAX_OPEN_TURNS = 4_096
"""Turns whose answer is awaited; the gateway lets far fewer be in flight, so what is above was lost."""


_NO_MORE = f"of {REMEMBERED_REPLIES} answers a loop of {LONGEST_PERIOD} has no more"


class Fault(StrEnum):
    """Names the faults in the order of a conversation."""

    GAP = "gap"
    DUPLICATE = "duplicate"
    ORPHAN = "orphan"
    BRANCH = "branch"


class ConversationSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of a conversation that is unwell, or goes round in a loop."""

    window_seconds: Seconds
    loop_repeats: Annotated[int, Meta(ge=2, le=REMEMBERED_REPLIES // LONGEST_PERIOD, extra={WHY: _NO_MORE})]
    stale_turns: Annotated[
        int, Meta(ge=2, le=REMEMBERED_REPLIES, extra={WHY: "no more answers are remembered"})
    ]
    max_conversations: Count
    rung: RungName

    BOUNDS: ClassVar[tuple[Bound, ...]] = (
        Bound(
            "window_seconds",
            least="interval_seconds",
            why="a fault between two samples would never be told of",
        ),
    )
    DETECTORS: ClassVar[frozenset[str]] = LOOPS


class _Conversation(Struct, gc=False):
    """The last states of one conversation, newest last, and the last answers.

    Tuples, for most conversations are short: four empty deques took 2.5 KiB, of each of thousands.
    """

    states: tuple[bytes, ...] = ()
    questions: tuple[bytes, ...] = ()
    answered_at: float = float("-inf")
    replies: tuple[bytes, ...] = ()
    telling: tuple[bool, ...] = ()
    circling: tuple[bool, ...] = ()
    messages: int = 0
    stale: int = 0
    answered_state: bytes = b""
    stuck: int = 0

    def place(self, event: TurnAdmitted) -> Fault | None:
        """Compare a request with the earlier ones; None if it continues from the last state, or is new."""
        if not self.states:
            return None
        head = event.history[-1]
        if head == self.states[-1]:
            return None if event.retry else Fault.DUPLICATE
        if self.states[-1] in event.history:
            return None
        if head in self.states or any(state in event.history for state in self.states):
            return Fault.BRANCH
        return Fault.GAP if event.messages > self.messages else Fault.BRANCH

    def follow(self, event: TurnAdmitted) -> bool:
        """Take in where it stands now; say whether it has grown."""
        grown = event.messages > self.messages
        self.states = (*self.states, event.history[-1])[-REMEMBERED_STATES:]
        self.messages = event.messages
        return grown

    def is_at_once(self, event: TurnAdmitted) -> bool:
        """Tell whether it is asked as soon as the last answer is there: after a pause it may be a poll."""
        return event.at - self.answered_at < AT_ONCE_SECONDS

    def least_telling(self, event: TurnAdmitted) -> int:
        """Return how many tokens a repeated answer needs to be evidence of a loop.

        Any does where the question was asked before, at once after an answer, or is not known; where it was but for
        its numbers, any but a word; else only a long one.
        """
        if not event.last_message:
            return 0
        again, numbered = event.last_message in self.questions, event.shape and event.shape in self.questions
        self.stuck = self.stuck + 1 if self._says_the_same(event) else 0
        self.questions = (*self.questions, event.last_message, event.shape)[-REMEMBERED_QUESTIONS:]
        if not (self.is_at_once(event) and (again or numbered)):
            return LONG_TOKENS
        return 0 if again else WORD_TOKENS

    def _says_the_same(self, event: TurnAdmitted) -> bool:
        """Tell if it repeats the last answer, and waits for nothing: the same words, or an error of another time."""
        before = self.questions[-2:]
        if event.shape and before[1:] == (event.shape,) and event.last is Last.ERROR:
            return True
        return event.last in WAIT_FOR_NOTHING and before[:1] == (event.last_message,)

    def answered(
        self, reply: bytes, state: bytes, *, grown: bool, telling: bool = True, circling: bool = True
    ) -> None:
        """Take in an answer. Only a conversation that grows can stall; a repeated question is not one more turn.

        That one was given before says something for a loop only if it is `telling`; that several come in turn, if each
        is `circling`.
        """
        if state == self.answered_state:
            return
        self.answered_state = state
        if reply not in self.replies:
            self.stale = 0
        elif grown and telling:
            self.stale += 1
        self.replies = (*self.replies, reply)[-REMEMBERED_REPLIES:]
        self.telling = (*self.telling, telling)[-REMEMBERED_REPLIES:]
        self.circling = (*self.circling, circling)[-REMEMBERED_REPLIES:]

    def least(self, period: int, repeats: int) -> int:
        """Return how many answers make a loop of this period."""
        least = LEAST_STUCK if period == 1 and self.stuck >= LEAST_STUCK - 1 else LEAST_LOOP
        return max(period * repeats, least)

    def period(self, repeats: int) -> int:
        """Return the shortest period with which the last answers repeat so often; 0 if none."""
        replies = self.replies
        if not replies or replies[-1] not in replies[:-1]:
            return 0
        for period in range(1, LONGEST_PERIOD + 1):
            length = self.least(period, repeats)
            if len(replies) < length or replies[-1] != replies[-1 - period]:
                continue
            # One answer again and again is no circle of two.
            signs = self.telling if len(set(replies[-period:])) == 1 else self.circling
            last, repeated = replies[-length:], signs[period - length :]
            if last[period:] == last[:-period] and all(repeated):
                return period
        return 0


class _OpenTurn(Struct, frozen=True, gc=False):
    key: tuple[str, str]
    state: bytes
    grown: bool
    telling: int
    circling: int


class _Counts:
    """The faults of one subsystem within the window."""

    def __init__(self, seconds: float) -> None:
        self._sums = {fault: WindowSum(seconds) for fault in Fault}
        self.last: dict[str, Any] = {}

    def add(self, fault: Fault, at: float, **evidence: Any) -> None:
        self._sums[fault].add(at, 1)
        self.last = {"fault": fault.value, **evidence}

    def totals(self, now: float) -> dict[str, int]:
        return {fault.value: total for fault, sums in self._sums.items() if (total := sums.total(now))}


class ConversationHealth:
    """Told about turns; states a loop at once, and the other faults on schedule.

    Requests without a conversation (completions, embeddings) are none of its business.
    """

    def __init__(self, settings: ConversationSettings, *, clock: Clock, push: Push) -> None:
        self._settings = settings
        self._clock = clock
        self._push = push
        self._conversations: OrderedDict[tuple[str, str], _Conversation] = OrderedDict()
        self._open: OrderedDict[tuple[str, str], _OpenTurn | None] = OrderedDict()
        self._counts: dict[str, _Counts] = {}

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    def admitted(self, event: TurnAdmitted) -> None:
        turn = (event.subsystem, event.turn)
        self._open[turn] = None
        if len(self._open) > MAX_OPEN_TURNS:
            self._open.popitem(last=False)
        if not event.conversation or not event.history:
            return
        key = (event.subsystem, event.conversation)
        conversation = self._conversation(key)
        fault = conversation.place(event)
        if fault is not None:
            self._of(event.subsystem).add(
                fault, event.at, turn=event.turn, conversation=event.conversation, messages=event.messages
            )
        telling = conversation.least_telling(event)
        circling = min(telling, CIRCLE_TOKENS) if conversation.is_at_once(event) else telling
        self._open[turn] = _OpenTurn(key, event.history[-1], conversation.follow(event), telling, circling)

    def refused(self, event: TurnRefused) -> None:
        """Do nothing: a refused turn is not missing."""

    def finished(self, event: TurnFinished) -> None:
        turn = (event.subsystem, event.turn)
        if turn not in self._open:
            self._of(event.subsystem).add(Fault.ORPHAN, event.at, turn=event.turn)
            return
        opened = self._open.pop(turn)
        conversation = self._conversations.get(opened.key) if opened is not None else None
        if opened is None or conversation is None or not event.reply:
            return
        conversation.answered(
            event.reply,
            opened.state,
            grown=opened.grown,
            telling=event.output_tokens >= opened.telling,
            circling=event.output_tokens >= opened.circling,
        )
        conversation.answered_at = event.at
        looping = self._looping(event, opened.key[1], conversation)
        if looping is not None:
            self._push(looping)

    async def sample(self) -> Sequence[Finding]:
        now = self._clock.monotonic()
        return [self._judge(subsystem, counts, now) for subsystem, counts in self._counts.items()]

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released. Its turns in flight stay known: they will end."""
        self._counts.pop(subsystem, None)
        for key in [key for key in self._conversations if key[0] == subsystem]:
            del self._conversations[key]

    def _conversation(self, key: tuple[str, str]) -> _Conversation:
        conversation = self._conversations.pop(key, None) or _Conversation()
        self._conversations[key] = conversation
        if len(self._conversations) > self._settings.max_conversations:
            self._conversations.popitem(last=False)
        return conversation

    def _of(self, subsystem: str) -> _Counts:
        counts = self._counts.get(subsystem)
        if counts is None:
            counts = self._counts[subsystem] = _Counts(self._settings.window_seconds)
        return counts

    def _looping(self, event: TurnFinished, name: str, conversation: _Conversation) -> Finding | None:
        t = self._settings
        period = conversation.period(t.loop_repeats)
        if period:
            times = -(-conversation.least(period, t.loop_repeats) // period)
            what = "the same answer" if period == 1 else f"the same {period} answers in turn"
            reason, value, limit, unit = f"{what}, {times} times", times, times, "times"
        elif conversation.stale >= t.stale_turns:
            reason = f"{conversation.stale} turns on, nothing has been answered that was not answered before"
            value, limit, unit = conversation.stale, t.stale_turns, "turns"
        else:
            return None
        evidence = {
            "detector": "loop" if period else "stale",
            "conversation": name,
            "turn": event.turn,
            "period": period,
            "messages": conversation.messages,
        }
        return Finding(
            NAME,
            event.subsystem,
            Severity.ANOMALY,
            event.at,
            f"conversation {name}: {reason}",
            value=value,
            limit=limit,
            unit=unit,
            evidence=evidence,
            hard=True,
            rung=Rung.labelled(t.rung),
        )

    def _judge(self, subsystem: str, counts: _Counts, now: float) -> Finding:
        totals = counts.totals(now)
        seconds = self._settings.window_seconds
        if not totals:
            return Finding(NAME, subsystem, Severity.OK, now, f"nothing amiss for {seconds:.0f} s")
        told = ", ".join(f"{count} {fault}{'s' if count > 1 else ''}" for fault, count in totals.items())
        return Finding(
            NAME,
            subsystem,
            Severity.WARNING,
            now,
            f"{told.replace('branchs', 'branches')} in its conversations in {seconds:.0f} s",
            value=sum(totals.values()),
            unit="faults",
            evidence={**totals, "last": counts.last},
        )
