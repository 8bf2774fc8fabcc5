"""Hold an answer as far as its cost goes: the values that every dialect's answers are reduced to."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from msgspec import Struct

from epad.gateway.dialects import loose
from epad.gateway.dialects.counts import Counts
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.usage import TokenUsage


class Fault(Enum):
    """Names the fault of a whole answer of status 200. `NO_ANSWER`: an error is in its place."""

    NONE = auto()
    NO_ANSWER = auto()
    UNREADABLE = auto()


class Seen(Struct, frozen=True):
    """Holds the seen part of an answer, whole or so far.

    `usage` is the largest of each count that came, None if none did; it is `final` if it is of the whole answer.
    `total_tokens` is a count of all tokens together, if the server gives no other. `choice_bytes` are the bytes of text
    of each seen choice, `unread_bytes` those of unreadable text; they bound the tokens unless not even that is so
    (`bounded`). `nothing_came`: the upstream failed before any of the answer came. `absurd` names the number that
    cannot be a count, and its field.
    """

    usage: TokenUsage | None = None
    final: bool = False
    total_tokens: int | None = None
    streamed: bool = False
    chunks: int = 0
    choice_bytes: tuple[int, ...] = ()
    unread_bytes: int = 0
    bounded: bool = True
    nothing_came: bool = False
    absurd: str = ""

    @property
    def said_bytes(self) -> int:
        """Return how many bytes came, of all choices."""
        return sum(self.choice_bytes) + self.unread_bytes

    @property
    def counts_something(self) -> bool:
        """Tell if the upstream counted any token at all."""
        usage = self.usage
        return bool(self.total_tokens or (usage is not None and (usage.input_tokens or usage.output_tokens)))


class Whole(Struct, frozen=True):
    """Holds a whole answer as it was read; `failure` is the text of an error in its place."""

    seen: Seen
    reply: Reply
    fault: Fault = Fault.NONE
    failure: str = ""


def seen_whole(
    counts: Counts | None, choice_bytes: tuple[int, ...], *, ended: bool = True, nothing_came: bool = False
) -> Seen:
    """Build the seen part of an answer in one piece; its count is final if it ended and is complete."""
    if counts is None:
        return Seen(choice_bytes=choice_bytes, nothing_came=nothing_came)
    usage = counts.usage()
    total = counts.total if usage.input_tokens is None and usage.output_tokens is None else None
    counted = total if usage.output_tokens is None else usage.output_tokens
    return Seen(
        usage,
        final=ended and counted is not None and (counted > 0 or not any(choice_bytes)),
        total_tokens=total,
        choice_bytes=choice_bytes,
        nothing_came=nothing_came,
        absurd=counts.absurd,
    )


def unreadable(body: bytes) -> Whole:
    """Return a whole answer that is no JSON: an error page if it looks like one, else nobody knows."""
    if body.lstrip()[:1] == b"<":
        return Whole(Seen(nothing_came=True), Reply(), Fault.NO_ANSWER, "a page of HTML or XML")
    return Whole(Seen(bounded=False), Reply(), Fault.UNREADABLE, "what is no JSON")


def no_object(body: bytes, value: Any) -> Whole:
    """Return a body that is no JSON object: a list is an error of Gemini's, anything else nobody knows."""
    if isinstance(value, list):
        said = loose.what_it_says(value[0] if value else "")
        return Whole(Seen(nothing_came=True), Reply(), Fault.NO_ANSWER, said)
    return unreadable(body)


def no_answer(
    answer: loose.JsonDict,
    counts: Counts | None,
    *,
    nothing_came: bool = True,
    reply: Reply | None = None,
    choice_bytes: tuple[int, ...] = (),
) -> Whole:
    """Build the result of an object that is an error, or has no field of an answer; it may still count its cost."""
    seen = seen_whole(counts, choice_bytes, nothing_came=nothing_came)
    said = loose.failure_of(answer) or loose.what_it_says(answer)
    return Whole(seen, reply or Reply(), Fault.NO_ANSWER, said)


def trusted(seen: Seen) -> TokenUsage | None:
    """Return the usage, unless it is absurd."""
    return None if seen.absurd else seen.usage
