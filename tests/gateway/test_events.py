"""Whole events out of any cuts, what they hold, and what a stream of them comes to."""

from __future__ import annotations

import pytest

from epad.gateway.dialects.counts import Counts
from epad.gateway.dialects.events import (
    LINE_BOUNDARY,
    MAX_EVENT_BYTES,
    SSE_BOUNDARY,
    EventSplitter,
    EventStream,
    names_error,
    sse_event,
    sse_payloads,
)
from epad.gateway.dialects.seen import Seen
from epad.gateway.dialects.usage import TokenUsage


@pytest.mark.parametrize(
    "events",
    [
        [b"data: a\n\n", b"data: b\n\n"],
        [b"data: a\r\n\r\n", b"data: b\r\n\r\n"],
        [b"data: a\r\r", b"data: b\r\r"],
        [b"data: a\n\r\n", b"data: b\n\n"],
        [b"\n\n", b"\n\n"],
    ],
)
def test_events_are_whole_however_they_are_cut(events: list[bytes]) -> None:
    """Each with its boundary, as soon as that has come."""
    data = b"".join(events)
    for cut in range(len(data) + 1):
        splitter = EventSplitter(SSE_BOUNDARY)
        assert splitter.feed(data[:cut]) + splitter.feed(data[cut:]) == events
        assert not splitter.pending
    splitter = EventSplitter(SSE_BOUNDARY)
    assert [event for n in range(len(data)) for event in splitter.feed(data[n : n + 1])] == events
    assert splitter.rest() == b""


def test_what_never_became_an_event_is_the_rest_and_told_once() -> None:
    splitter = EventSplitter(LINE_BOUNDARY)
    assert splitter.feed(b"a\nb") == [b"a\n"]
    assert splitter.pending
    assert splitter.rest() == b"b"
    assert not splitter.pending
    assert splitter.rest() == b""
    assert splitter.feed(b"\nc\n") == [b"\n", b"c\n"]


def test_an_event_that_is_too_long_goes_on_in_pieces() -> None:
    assert MAX_EVENT_BYTES == 1_048_576
    splitter = EventSplitter(LINE_BOUNDARY, 4)
    assert splitter.feed(b"abcd") == []
    assert splitter.feed(b"e") == [b"abcde"]
    assert not splitter.pending
    assert splitter.feed(b"f\ng\n") == [b"f\n", b"g\n"]
    assert splitter.feed(b"h\nabcde") == [b"h\n", b"abcde"]


@pytest.mark.parametrize(
    ("event", "payloads"),
    [
        (b"data: {}\n\n", [b"{}"]),
        (b"data:{}\n\n", [b"{}"]),
        (b"data:  {} \r\n\r\n", [b"{}"]),
        (b"data: \n\n", []),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b'data: {"a":1}\ndata: {"b":2}\n\n', [b'{"a":1}', b'{"b":2}']),
        (b'data: {"a":1}\ndata: [DONE]\n\n', [b'{"a":1}', b"[DONE]"]),
        (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
        (b"event: x\ndata: {}\n\n", [b"{}"]),
        (b": comment\ndata: {}\nid: 3\n\n", [b"{}"]),
        (b": comment\n\n", []),
        (b"event: ping\n\n", []),
        (b"\n\n", []),
        (b'{"a":1}\n', [b'{"a":1}']),
        (b" [1]\n", [b"[1]"]),
        (b"text\n", []),
    ],
)
def test_an_event_holds_its_documents(event: bytes, payloads: list[bytes]) -> None:
    assert sse_payloads(event) == payloads


@pytest.mark.parametrize(
    ("event", "named"),
    [
        (b"event: error\ndata: {}\n\n", True), (b"event:error\n\n", True), (b"event: error \t\r\n\r\n", True),
        (b"event: error", True), (b"event: x\nevent: error\n\n", True), (b"event: errors\n\n", False),
        (b"event: an error\n\n", False), (b"event: message\ndata: event: error\n\n", False), (b"data: {}\n\n", False),
    ],
)  # fmt: skip
def test_an_event_called_error_is_one(event: bytes, named: bool) -> None:
    assert names_error(event) is named


def test_an_event_is_written_with_its_name() -> None:
    assert sse_event("error", b"{}") == b"event: error\ndata: {}\n\n"


class Lines(EventStream):
    """A word a line is said; `N` alone is a count of the output, `?` is strange, `!` an error, `.` the end."""

    def __init__(self) -> None:
        super().__init__(LINE_BOUNDARY)

    def _pass(self, event: bytes) -> bytes:
        word = event.strip()
        if word.isdigit():
            self._count(Counts(7, int(word)))
        elif word.startswith(b"total "):
            self._count(Counts(total=int(word[6:])))
        elif word.startswith(b"begun "):
            self._count_begun(Counts(7, int(word[6:]), 99, reasoning=99))
        elif word.startswith(b"w"):
            self._weigh(word[1:])
        elif word == b"?":
            self._strange = True
        elif word == b"!":
            self.failed = True
        elif word == b".":
            self.complete = True
        elif word == b"none":
            self._count(None)
            self._count_begun(None)
        else:
            self.chunks += 1
            self.reply.say(word.decode())
        return event


def seen(lines: str) -> Seen:
    stream = Lines()
    data = "".join(f"{line}\n" for line in lines.split("|") if line).encode()
    assert stream.feed(data) + stream.finish() == data
    return stream.seen()


@pytest.mark.parametrize(
    ("lines", "usage", "final"),
    [
        ("ab|.", None, False),
        ("ab|5|.", TokenUsage(7, 5), True),
        ("ab|5", TokenUsage(7, 5), False),  # it has not come to its end
        ("ab|.|5", TokenUsage(7, 5), True),
        ("ab|5|cd|.", TokenUsage(7, 5), False),  # something was said after it
        ("ab|5|wx|.", TokenUsage(7, 5), False),
        ("ab|5|cd|6|.", TokenUsage(7, 6), True),
        ("ab|5|4|.", TokenUsage(7, 5), False),  # a count that falls is none
        ("ab|5|5|.", TokenUsage(7, 5), True),
        ("ab|5|4|5|.", TokenUsage(7, 5), True),
        ("ab|5|0|.", TokenUsage(7, 5), True),  # a count of 0 beside text is none
        ("ab|0|.", TokenUsage(7, 0), False),
        ("0|.", TokenUsage(7, 0), True),
        ("none|.", None, False),
        ("begun 3|ab|.", TokenUsage(7, None), False),
        ("begun 3|ab|5|.", TokenUsage(7, 5), True),
        ("begun 3|ab|2|.", TokenUsage(7, 3), True),  # no less came than it began with
        ("begun 3|0|.", TokenUsage(7, 0), True),
        ("ab|total 9|.", TokenUsage(), True),
        ("ab|total 9|cd|.", TokenUsage(), False),
        ("ab|total 9|total 8|.", TokenUsage(), False),
        ("ab|total 0|.", TokenUsage(), False),
    ],
)
def test_a_count_is_final_that_nothing_came_after(lines: str, usage: TokenUsage | None, final: bool) -> None:
    assert (seen(lines).usage, seen(lines).final) == (usage, final)


def test_what_came_is_summed_up() -> None:
    summed = seen("ab|wxyz|cde|total 9|.")
    assert summed == Seen(
        TokenUsage(), final=True, total_tokens=9, streamed=True, chunks=2, choice_bytes=(5,), unread_bytes=3
    )
    assert seen("total 9|5").total_tokens is None
    stream = Lines()
    assert stream.seen() == Seen(streamed=True, choice_bytes=(0,))
    assert (stream.usage, stream.chunks, stream.complete, stream.failed) == (None, 0, False, False)
    stream.feed(b"abc\nwd\n")
    assert stream.most_tokens() == 4
    stream.feed(b"\n\n\n\n")
    assert stream.most_tokens() == stream.chunks == 5


def test_bytes_that_are_no_text_bound_nothing() -> None:
    stream = Lines()
    stream.feed(b"w\xc3\xa9\n")
    assert (stream.seen().unread_bytes, stream.seen().bounded) == (2, True)
    stream.feed(b"w\xff\n")
    assert (stream.seen().unread_bytes, stream.seen().bounded) == (3, False)
    stream.feed(b"wx\n")
    assert (stream.seen().unread_bytes, stream.seen().bounded) == (4, False)


@pytest.mark.parametrize(
    ("lines", "none"),
    [
        ("", False), (".", False), ("!", True), ("?", True), ("!|ab", False), ("?|ab", False), ("!|wx", False),
        ("!|0", False), ("!|total 0", True), ("!|5", False), ("!|total 5", False), ("ab", False), ("!|?|.", True),
    ],
)  # fmt: skip
def test_a_stream_that_is_an_error_and_nothing_else_is_none(lines: str, none: bool) -> None:
    stream = Lines()
    stream.feed("".join(f"{line}\n" for line in lines.split("|") if line).encode())
    assert stream.seen().nothing_came is none
    told = stream.failed
    stream.finish()
    assert stream.failed is (told or none)


def test_the_end_of_a_stream_is_read_without_its_boundary() -> None:
    stream = Lines()
    assert stream.feed(b"ab\ncd") == b"ab\n"
    assert stream.finish() == b"cd"
    assert (stream.chunks, stream.reply.size, stream.finish()) == (2, 4, b"")


def test_lines_are_events_where_a_stream_is_of_lines() -> None:
    stream = Lines()
    stream._events = EventSplitter(SSE_BOUNDARY)
    assert stream.feed(b"ab\n") == b""
    stream.read_lines()
    assert stream.feed(b"cd\n") == b"cd\n"
