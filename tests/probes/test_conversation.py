"""Conversation health: what is told of, what is acted upon, and how much is remembered."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from shipped_settings import PROBES, refused

from probes.conversation import (
    LEAST_LOOP,
    LONGEST_PERIOD,
    MAX_OPEN_TURNS,
    REMEMBERED_REPLIES,
    ConversationHealth,
    _Conversation,
)
from probes.turns import MAX_HISTORY_DIGESTS, Last, TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung


class Bench:
    """The probe, and a client that sends whole message lists as digests of their prefixes."""

    def __init__(self, **thresholds: Any) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.probe = ConversationHealth(
            replace(PROBES.conversation, **thresholds), clock=self.clock, push=self.pushed.append
        )
        self.turns = 0

    def send(
        self,
        messages: Sequence[str],
        conversation: str = "c",
        retry: int = 0,
        subsystem: str = "agent",
        last: Last = Last.UNKNOWN,
    ) -> str:
        self.turns += 1
        turn = f"t{self.turns}"
        first = max(1, len(messages) - MAX_HISTORY_DIGESTS + 1)
        history = tuple(str(hash(tuple(messages[:n]))).encode() for n in range(first, len(messages) + 1))
        event = TurnAdmitted(
            subsystem,
            self.clock.monotonic(),
            turn,
            "m",
            100,
            b"p",
            retry,
            conversation=conversation,
            messages=len(messages),
            history=history,
            last_message=messages[-1].encode() if last else b"",
            shape=messages[-1].strip("0123456789").encode() if last else b"",
            last=last,
        )
        self.probe.admitted(event)
        return turn

    def answer(self, turn: str, reply: str = "", subsystem: str = "agent", tokens: int = 1) -> None:
        at = self.clock.monotonic()
        self.probe.finished(TurnFinished(subsystem, at, turn, "done", 1, tokens, 2, 200, reply.encode()))

    def talk(self, replies: Sequence[str], conversation: str = "c") -> None:
        """A conversation that grows: each answer, and a message of its own after it."""
        messages = ["hello"]
        for number, reply in enumerate(replies):
            self.answer(self.send(messages, conversation), reply)
            messages += [reply, f"message {number}"]
            self.clock.advance(5)

    async def faults(self) -> dict[str, int]:
        findings = await self.probe.sample()
        names = ("gap", "duplicate", "orphan", "branch")
        assert not any(finding.bad for finding in findings)
        return {name: f.evidence[name] for f in findings for name in names if name in f.evidence}


LINE = ["a", "A", "b", "B", "c", "C", "d"]


async def test_a_conversation_that_simply_goes_on_is_well() -> None:
    """Also if several messages come at once, or a client's own retry."""
    bench = Bench()
    for length in (1, 3, 7):
        bench.answer(bench.send(LINE[:length]), f"reply {length}")
    bench.answer(bench.send(LINE, retry=1), "reply")
    assert await bench.faults() == {}
    assert bench.pushed == []


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        (["a", "A", "b"], "duplicate"),
        (["a", "A", "other"], "branch"),
        (["a"], "branch"),
        (["summary", "b"], "branch"),
        (["a", "never", "seen", "here", "before"], "branch"),
        (["never", "seen", "here", "before"], "gap"),
        ([f"m{n}" for n in range(40)], "gap"),
    ],
)
async def test_what_does_not_continue_is_told_of(second: list[str], fault: str) -> None:
    """As a warning that names the turn and the conversation, and holds nobody."""
    bench = Bench()
    bench.answer(bench.send(["a"]), "A")
    bench.answer(bench.send(["a", "A", "b"]), "B")
    turn = bench.send(second)
    assert await bench.faults() == {fault: 1}
    finding = (await bench.probe.sample())[0]
    assert finding.severity is Severity.WARNING
    assert finding.evidence["last"]["turn"] == turn
    assert finding.evidence["last"]["conversation"] == "c"
    bench.clock.advance(601)
    assert await bench.faults() == {}
    assert [f.severity for f in await bench.probe.sample()] == [Severity.OK]


async def test_going_on_from_a_branch_is_well_again() -> None:
    """The branch is one fault, not one with every turn that follows it."""
    bench = Bench()
    for messages in (["a"], ["a", "A", "b"], ["a", "A", "x"], ["a", "A", "x", "X", "y"]):
        bench.send(messages)
    assert await bench.faults() == {"branch": 1}


async def test_an_answer_to_a_turn_that_nobody_knows_is_an_orphan() -> None:
    """One that came twice is one too; one without a conversation is not."""
    bench = Bench()
    turn = bench.send(["a"])
    plain = bench.send([], conversation="")
    bench.answer(turn)
    bench.answer(plain)
    assert await bench.faults() == {}
    bench.answer(turn)
    bench.answer("never admitted")
    assert await bench.faults() == {"orphan": 2}


async def test_conversations_and_subsystems_are_kept_apart() -> None:
    """The same name, or the same messages, in another's hands are another's."""
    bench = Bench()
    for subsystem, conversation in (("one", "c"), ("two", "c"), ("one", "d")):
        for length in (1, 3):
            turn = bench.send(LINE[:length], conversation, subsystem=subsystem)
            bench.answer(turn, "r", subsystem)
    assert await bench.faults() == {}


@pytest.mark.parametrize(
    ("period", "answers"), [(1, 6), (2, 8), (3, 12)], ids=["one answer", "two in turn", "three in turn"]
)
def test_answers_in_a_circle_are_stated_at_once(period: int, answers: int) -> None:
    """Four rounds of it, and at least six answers; the finding names the conversation and the rung."""
    bench = Bench(stale_turns=12)
    opening = ["x", "y"]
    bench.talk([*opening, *(str(n % period) for n in range(answers - 1))])
    assert bench.pushed == []
    bench.talk([*opening, *(str(n % period) for n in range(answers))], "other")
    finding = bench.pushed[0]
    assert (finding.severity, finding.hard, finding.subsystem) == (Severity.ANOMALY, True, "agent")
    assert finding.evidence["period"] == period
    assert (finding.evidence["conversation"], finding.rung) == ("other", Rung.THROTTLE)
    assert "other" in finding.reason


@pytest.mark.parametrize(
    ("period", "tokens", "pause", "is_found"),
    [
        (1, 40, 1.0, False),
        (1, 100, 1.0, True),
        (2, 31, 1.0, False),
        (2, 32, 1.0, True),
        (3, 32, 1.0, True),
        (3, 99, 5.0, False),
        (3, 100, 5.0, True),
    ],
)
def test_answers_in_turn_to_new_questions_are_a_circle_sooner_than_one_answer(
    period: int, tokens: int, pause: float, *, is_found: bool
) -> None:
    """One of forty tokens may be a refusal, and what is asked after a pause may be a poll."""
    bench, messages = Bench(stale_turns=12), ["do it"]
    for number in range(14):
        reply = f"answer {number % period}"
        bench.answer(bench.send(messages, last=Last.SAID), reply, tokens=tokens)
        messages += [reply, f"{chr(97 + number)} is new"]
        bench.clock.advance(pause)
    assert bool(bench.pushed) is is_found


def test_growing_without_a_new_answer_is_stated() -> None:
    """Eight turns with answers that were all given before, in no order at all."""
    bench = Bench()
    bench.talk(["a", "b", "c", "d", "a", "c", "b", "b", "d", "a", "c"])
    assert bench.pushed == []
    bench.talk(["a", "b", "c", "d", "a", "c", "b", "b", "d", "a", "c", "d"], "other")
    assert [finding.evidence["detector"] for finding in bench.pushed] == ["stale"]


def test_asking_the_same_again_is_not_a_circle() -> None:
    """At temperature 0 the same question has the same answer; that is a duplicate, told of elsewhere."""
    bench = Bench()
    for _ in range(30):
        bench.answer(bench.send(["a"]), "A")
    assert bench.pushed == []


def test_answers_unknown_are_never_alike() -> None:
    """Without a digest there is nothing to compare; nor without a conversation."""
    bench = Bench()
    bench.talk([""] * 30)
    bench.talk(["same"] * 30, "")
    bench.probe.refused(TurnRefused("agent", 0.0, "budget_exceeded"))
    assert bench.pushed == []


async def test_forgetting_starts_afresh() -> None:
    """A released subsystem's circles and faults are gone; the turns it has in flight are still its own."""
    bench = Bench()
    bench.talk(["same"] * 5)
    turn = bench.send(["quite", "other", "messages"] * 9)
    bench.probe.forget("agent")
    bench.answer(turn, "same")
    bench.talk(["same"] * 5)
    assert bench.pushed == []
    assert await bench.faults() == {}


@pytest.mark.parametrize(
    ("last", "found_at"), [(Last.ERROR, 6), (Last.SAID, 6), (Last.RESULT, 7), (Last.UNKNOWN, 6)]
)
def test_what_is_no_poll_is_found_an_answer_sooner(last: Last, found_at: int) -> None:
    """The same error, or the same words, after the same answer: five times. A tool's result may be waited for."""
    bench, messages = Bench(), ["do it"]
    while not bench.pushed:
        bench.answer(bench.send(messages, last=last), "call the tool")
        messages += ["call the tool", "it is so"]
        bench.clock.advance(1)
    assert (len(messages) - 1) / 2 == found_at
    times = 6 if last in {Last.RESULT, Last.UNKNOWN} else 5
    assert bench.pushed[0].reason.endswith(f"the same answer, {times} times")


@pytest.mark.parametrize(("last", "found_at"), [(Last.ERROR, 6), (Last.SAID, 7), (Last.RESULT, 7)])
def test_an_error_of_another_time_is_the_same_error(last: Last, found_at: int) -> None:
    """What is said with another number may ask something new."""
    bench, messages = Bench(), ["do it"]
    while not bench.pushed:
        bench.answer(bench.send(messages, last=last), "call the tool", tokens=9)
        messages += ["call the tool", f"it is so {len(messages)}"]
        bench.clock.advance(1)
    assert (len(messages) - 1) / 2 == found_at


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(2, 4))
def test_a_period_is_what_a_naive_reader_sees(replies: list[int], repeats: int) -> None:
    """The shortest of one, two and three with which the end repeats."""
    conversation = _Conversation()
    for place, reply in enumerate(replies):
        conversation.answered(bytes([reply + 1]), place.to_bytes(2, "big"), grown=True)
        heard = replies[max(0, place + 1 - REMEMBERED_REPLIES) : place + 1]
        naive = 0
        for period in range(LONGEST_PERIOD, 0, -1):
            length = max(period * repeats, LEAST_LOOP)
            end = heard[-length:]
            if len(end) == length and all(end[i] == end[i % period] for i in range(length)):
                naive = period
        assert conversation.period(repeats) == naive


@given(st.integers(0, 10_000))
def test_answers_at_random_are_no_circle(seed: int) -> None:
    """Of a hundred different answers, eighty times."""
    bench, rng = Bench(), random.Random(seed)
    bench.talk([str(rng.randrange(100)) for _ in range(80)])
    assert bench.pushed == []


def test_memory_is_bounded() -> None:
    """As many conversations as configured, as many open turns as stated, whatever comes."""
    bench = Bench(max_conversations=50)
    for number in range(2 * MAX_OPEN_TURNS):
        turn = bench.send([str(number), "a", "b"], f"c{number}")
        if number % 2:
            bench.answer(turn, "r")
    probe = bench.probe
    assert len(probe._conversations) == 50
    assert len(probe._open) <= MAX_OPEN_TURNS
    for _ in range(100):
        bench.talk([str(number) for number in range(20)], "kept")
    kept = probe._conversations["agent", "kept"]
    assert max(len(kept.states), len(kept.replies)) <= REMEMBERED_REPLIES
    assert len(gc.get_referents(probe._counts)) <= 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("interval_seconds", 0),
        ("window_seconds", 5),
        ("loop_repeats", 5),
        ("loop_repeats", 1),
        ("stale_turns", 13),
        ("stale_turns", 1),
        ("max_conversations", 0),
        ("rung", "harder"),
    ],
)
def test_a_threshold_that_is_never_or_always_reached_is_refused(key: str, value: Any) -> None:
    """The error names the key to change."""
    assert key in refused(PROBES.conversation, **{key: value})
