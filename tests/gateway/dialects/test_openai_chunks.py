"""Chunks of a chat, in any order and any cuts: what is counted of them, what is held back, and what goes on."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.dialect import StreamMeter
from epad.gateway.dialects.routes import Routes
from epad.gateway.dialects.usage import TokenUsage

ROUTES = Routes(LIMITS)
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USAGE = TokenUsage(3, 4)


def meter(path: str = CHAT, **more: Any) -> StreamMeter:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    asked = {"model": "m", "messages": [], "prompt": "x", "stream": True, **more}
    return endpoint.meter(endpoint.parse(json.dumps(asked).encode()))


def sse(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def said(text: bytes = b"hi", index: int = 0, more: bytes = b"") -> bytes:
    return sse(
        b'{"choices":[{"index":%d,"delta":{"content":"%b"},"finish_reason":null}]%b}' % (index, text, more)
    )


def ended(index: int = 0, more: bytes = b"") -> bytes:
    return sse(b'{"choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]%b}' % (index, more))


COUNTED = b'"usage":{"prompt_tokens":3,"completion_tokens":4}'
ALONE = sse(b'{"choices":[],%b}' % COUNTED)
DONE = sse(b"[DONE]")
KINDS = {
    "text": said(),
    "text of another": said(b"abc", 1),
    "text and null": said(more=b',"usage":null'),
    "text and usage": said(more=b"," + COUNTED),
    "text and error": said(more=b',"error":{"message":"no"}'),
    "odd text": sse(b'{"choices":[{"index":0,"delta":{"content":5}}]}'),
    "broken text": sse(b'{"choices":[{"delta":'),
    "text in two lines": said().replace(b'"delta"', b'\ndata: "delta"'),
    "two texts in an event": b"data: " + said()[6:-2] + b"\n" + said(b"so"),
    "text with returns": said().replace(b"\n", b"\r\n"),
    "text behind a comment": b": x\n" + said(),
    "text that quotes": said(rb"\"usage\": null, [done], \n\ndata: x"),
    "three blank lines": said() + b"\n",
    "end": ended(),
    "end of another": ended(1),
    "end and usage": ended(more=b"," + COUNTED),
    "usage": ALONE,
    "usage and more": sse(b'{"choices":[],%b,"timings":{"ms":1}}' % COUNTED),
    "usage of null": sse(b'{"choices":[],"usage":null}'),
    "done": DONE,
    "comment": b": ping\n\n",
    "error": sse(b'{"error":"no"}'),
    "named error": b"event: error\ndata: x\n\n",
    "strange": sse(b'{"x":1}'),
    "no JSON": sse(b"text"),
    "no text": sse(b"\xff"),
}


def outcome(stream: StreamMeter, pieces: list[bytes]) -> tuple[Any, ...]:
    passed = b"".join(stream.feed(piece) for piece in pieces) + stream.finish()
    return passed, stream.seen(), stream.complete, stream.failed, stream.reply.take(), stream.reply.digest()


@pytest.mark.parametrize("first", KINDS)
def test_any_two_kinds_of_events_come_to_the_same_however_they_are_cut(first: str) -> None:
    """At once, with text before and after, event by event, and byte by byte; who asked for usage gets every byte."""
    for second, asked in product(KINDS, [False, True]):
        events = [said(b"one"), KINDS[first], KINDS[second], said(b"two")]
        data = b"".join(events)
        options: dict[str, Any] = {"stream_options": {"include_usage": asked}}
        ways = [
            outcome(meter(**options), pieces)
            for pieces in (
                [data],
                events,
                [b"".join(events[:2]), b"".join(events[2:])],
                [data[:70], data[70:]],
            )
        ]
        ways.append(outcome(meter(**options), [data[at : at + 1] for at in range(len(data))]))
        assert all(way == ways[0] for way in ways), second
        assert not asked or ways[0][0] == data


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_of_json_before_an_event_counts_no_less_in_any_cut(kind: str) -> None:
    """It stands in the same event where both come at once, since no blank line is between them."""
    line, event = said(b"alone")[6:-1], KINDS[kind]
    alone = meter(stream_options={"include_usage": True})
    alone.feed(event)
    for pieces in ([line + event], [line, event], [line[:30], line[30:] + event]):
        stream = meter(stream_options={"include_usage": True})
        assert b"".join(map(stream.feed, pieces)) + stream.finish() == line + event
        assert stream.seen().said_bytes >= alone.seen().said_bytes + 5
        assert stream.chunks > alone.chunks or stream.seen().unread_bytes


ENVELOPE = b'"id":"y","object":"o","created":7,"model":"n"'


@pytest.mark.parametrize(
    ("events", "passed"),
    [
        # What a chunk is made of is no news; what stands beside it is, unless the chunk has it or it is null.
        ([ended(), sse(b'{%b,"choices":[],%b}' % (ENVELOPE, COUNTED))], ended()),
        (
            [ended(), sse(b'{%b,"choices":[],%b,"timings":{"ms":1},"x":null}' % (ENVELOPE, COUNTED))],
            ended(more=b',"timings":{"ms":1}'),
        ),
        (
            [ended(more=b',"timings":1'), sse(b'{"choices":[],%b,"timings":2,"a":3}' % COUNTED)],
            ended(more=b',"timings":1,"a":3'),
        ),
        ([ended(more=b',"timings":1'), sse(b'{"choices":[],%b,"timings":2}' % COUNTED)], ended(more=b',"timings":1')),
        # Where one of the two is not JSON as everybody reads it, the chunk goes on as it came.
        ([ended(), sse(b'{"choices":[],%b,"timings":NaN}' % COUNTED)], ended()),
        ([ended(more=b',"a":1,"a":2'), sse(b'{"choices":[],%b,"b":3}' % COUNTED)], ended(more=b',"a":1,"a":2')),
        # An event of a name, or of two lines, keeps it.
        (
            [b"event: x\n" + ended(), sse(b'{"choices":[],%b,"b":3}' % COUNTED)],
            b"event: x\n" + ended(more=b',"b":3'),
        ),
        # Nothing is held back for a usage of null, nor for one that comes with text, or with others in its event.
        ([ended(), sse(b'{"choices":[],"usage":null}')], ended() + sse(b'{"choices":[],"usage":null}')),
        ([ended(), said(more=b"," + COUNTED)], ended() + said(more=b"," + COUNTED)),
        (
            [ended(), b"data: " + ALONE[6:-1] + b"data: [DONE]\n\n"],
            ended() + b"data: " + ALONE[6:-1] + b"data: [DONE]\n\n",
        ),
        ([ended(), said(), ALONE], ended() + said()),
        ([ended(), ended(1), ALONE, DONE], ended() + ended(1) + DONE),
        ([ended(), sse(b"text"), ALONE], ended() + sse(b"text")),
        ([ended(more=b',"usage":null'), ALONE, DONE], ended() + DONE),
        ([sse(b'{"choices":[],"x":1}'), ALONE], sse(b'{"choices":[],"x":1}')),
        ([sse(b'{"usage":{"prompt_tokens":3}}'), DONE], DONE),
    ],
)  # fmt: skip
def test_what_stands_beside_the_usage_that_is_taken_out_goes_on(events: list[bytes], passed: bytes) -> None:
    assert outcome(meter(), events)[0] == outcome(meter(), [b"".join(events)])[0] == passed


def test_an_end_is_held_back_until_the_next_event_where_nobody_asked_for_usage() -> None:
    stream, asked = meter(), meter(stream_options={"include_usage": True})
    assert (stream.feed(ended()), asked.feed(ended())) == (b"", ended())
    assert stream.feed(b": ping\n\n") == b": ping\n\n"
    assert stream.feed(said()) == ended() + said()
    assert stream.feed(said()) == said()
    stream.feed(ended())
    assert stream.finish() == ended()
    assert stream.finish() == b""


# events, (chunks, bytes of each choice, unread bytes), complete, failed
COMES_TO: list[tuple[list[bytes], tuple[int, tuple[int, ...], int], bool, bool]] = [
    ([sse(b'{"delta": ')], (1, (0,), 9), False, False),
    ([sse(b'["delta"')], (1, (0,), 8), False, False),
    ([sse(b'{"choices": {"a": "b"}}')], (1, (9,), 0), False, False),
    ([sse(b'{"choices": ["abc"]}')], (1, (3,), 0), False, False),
    ([sse(b'{"choices": []}')], (0, (0,), 0), False, False),
    ([sse(b'{"usage": null}')], (0, (0,), 0), False, False),
    ([sse(b'{"error": {"message": "no"}, "message": {"text": "hi"}}')], (0, (0,), 0), False, True),
    ([sse(b'{"error": {"message": "no"}, "choices": [{"text": "hi"}]}')], (1, (2,), 0), False, True),
    ([said(), sse(b'{"choices":[],"usage":{}}')], (1, (2,), 0), False, False),
    ([said(), sse(b'{"choices":[],"usage":{"prompt_tokens":0}}')], (1, (2,), 0), False, False),
    ([said(more=b"," + COUNTED)], (1, (2,), 0), False, False),
    ([said(), ALONE], (1, (2,), 0), True, False),
    ([said(), ALONE, said()], (2, (4,), 0), False, False),
    ([said(), DONE], (1, (2,), 0), True, False),
    ([said(), sse(b"[done]")], (1, (2,), 6), False, False),
    ([said(index=1), ended(1)], (2, (0, 2), 0), True, False),
    ([said(), said(index=1), ended(0)], (3, (2, 2), 0), False, False),
    ([said(), said(index=1), ended(0), ended(1)], (4, (2, 2), 0), True, False),
    ([sse(b'{"choices":[{"index":0,"finish_reason":""}]}')], (1, (0,), 0), False, False),
    ([sse(b'{"choices":["x",{"index":0,"finish_reason":"stop"}]}')], (1, (1,), 0), True, False),
    ([said(b"x" * 70_000)], (1, (70_000,), 0), False, False),
]


@pytest.mark.parametrize("case", COMES_TO, ids=range(len(COMES_TO)))
def test_a_stream_of_chunks_comes_to(case: Any) -> None:
    events, sizes, complete, failed = case
    stream = meter(n=2)
    for event in events:
        stream.feed(event)
    stream.finish()
    seen = stream.seen()
    assert (seen.chunks, seen.choice_bytes, seen.unread_bytes) == sizes
    assert (stream.complete, stream.failed) == (complete, failed)
    assert stream.most_tokens() == max(sizes[0], sum(sizes[1]) + sizes[2])


@pytest.mark.parametrize(
    ("path", "name"), [(TEXT, b'"text":"hi"'), (CHAT, b'"delta":{"content":"hi"}'), (CHAT, b'"text":"hi"')]
)
def test_text_is_listened_to_16_chunks_later_at_most(path: str, name: bytes) -> None:
    """Or at its end, or when somebody asks how much came; an answer that loops is noticed that much later."""
    chunk = sse(b'{"choices":[{"index":0,%b}]}' % name)
    stream = meter(path)
    for number in range(1, 40):
        stream.feed(chunk)
        assert stream.reply.take() == (["hi"] * 16 if number % 16 == 0 else [])
        assert stream.chunks == number
    assert stream.most_tokens() == 2 * 39
    assert stream.reply.take() == ["hi"] * 7
    stream.feed(chunk)
    stream.feed(DONE)
    assert stream.reply.take() == ["hi"]


@pytest.mark.parametrize("size", [32 << 10, (64 << 10) - 200, 64 << 10])
def test_much_text_is_listened_to_from_64_kib_on(size: int) -> None:
    stream = meter()
    stream.feed(said(b"x" * (size - 100)))
    heard = stream.reply.take()
    assert bool(heard) is (size - 100 + len(said(b"")) >= 64 << 10)
    stream.feed(said(b"y" * (64 << 10)))
    assert [len(text) for text in stream.reply.take()] == ([] if heard else [size - 100]) + [64 << 10]
    stream.feed(said())
    assert stream.reply.take() == []
    stream.feed(said(b"z" * ((64 << 10) - 2 * len(said(b"")) - 3)))
    assert stream.reply.take() == []
    stream.feed(said(b"zzzz"))
    assert len(stream.reply.take()) == 3


@pytest.mark.parametrize(
    ("path", "name"), [(CHAT, b'"delta"'), (TEXT, b'"text"'), ("/v1/embeddings", b'"embedding"')]
)
def test_a_chunk_that_cannot_be_read_is_one_by_the_name_of_what_it_brings(path: str, name: bytes) -> None:
    """It is a token at least, and as many as it has bytes at most; what has not even that name is no chunk."""
    for written, chunks in ((name, 1), (name.upper(), 0)):
        stream = meter(path, **({"input": "x", "messages": None} if path == "/v1/embeddings" else {}))
        stream.feed(sse(b"{%b: " % written))
        seen = stream.seen()
        assert (seen.chunks, seen.choice_bytes, seen.unread_bytes) == (chunks, (0,), len(name) + 2)


def test_a_count_is_final_when_every_choice_that_was_asked_for_has_ended() -> None:
    for choices in (1, 2, 3):
        stream = meter(n=choices)
        for index in range(2):
            stream.feed(said(index=index) + ended(index))
        stream.feed(ALONE)
        assert (stream.seen().usage, stream.seen().final) == (USAGE, choices <= 2)
        stream.feed(DONE)
        assert stream.seen().final
