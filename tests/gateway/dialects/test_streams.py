"""Streams of responses, messages and lines that repeat, contradict or break off what they said before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.dialect import StreamMeter
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.routes import Routes
from epad.gateway.dialects.usage import TokenUsage

ROUTES = Routes(LIMITS)
RESPONSES, MESSAGES, O_CHAT = "/v1/responses", "/v1/messages", "/api/chat"
BOTH, USAGE = {"input_tokens": 3, "output_tokens": 4}, TokenUsage(3, 4)
LAST = {"done": True, "prompt_eval_count": 3, "eval_count": 4}
NAMED_ERROR = b'event: error\ndata: {"x": 1}\n\n'


def meter(path: str) -> StreamMeter:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    body = {"model": "m", "messages": [], "input": "x", "stream": True}
    return endpoint.meter(endpoint.parse(json.dumps(body).encode()))


def written(path: str, event: Any) -> bytes:
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    if path == O_CHAT:
        return data + b"\n"
    return data if data.startswith(b"event:") else b"data: " + data + b"\n\n"


def digest_of(*said: str) -> bytes:
    reply = Reply()
    for text in said:
        reply.say(text)
    return reply.digest()


def delta(text: Any, **more: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": text, **more}


def last(*texts: str, kind: str = "completed", **more: Any) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text} for text in texts]
    return {
        "type": f"response.{kind}",
        "response": {"output": [{"type": "message", "content": parts}], "usage": BOTH, **more},
    }


# path, events, (chunks, bytes, unread bytes), usage, final, (complete, failed, nothing came), what is digested, pieces
CASES: list[tuple[Any, ...]] = [
    # What came in pieces and what comes whole at the end are the same: the longer of the two counts.
    (RESPONSES, [delta("h"), delta("i"), last("hi")], (2, (2,), 0), USAGE, True, "c..", ["hi"], ["h", "i"]),
    (RESPONSES, [delta("hello"), last("hi")], (1, (5,), 0), USAGE, True, "c..", ["hi"], ["hello"]),
    (RESPONSES, [delta("h"), last("hi there")], (1, (8,), 0), USAGE, True, "c..", ["hi there"], ["h"]),
    (RESPONSES, [delta("hi"), last(kind="incomplete")], (1, (2,), 0), USAGE, True, "c..", [], ["hi"]),
    (RESPONSES, [last("a", "b")], (0, (2,), 0), USAGE, True, "c..", ["ab"], []),
    (RESPONSES, [last("hi"), last("hi")], (0, (2,), 0), USAGE, True, "c..", ["hi"], []),
    (RESPONSES, [last("hi"), delta("so")], (1, (4,), 0), USAGE, False, "c..", ["hi"], ["so"]),
    (RESPONSES, [{"type": "response.completed"}], (0, (0,), 0), None, False, "c..", [], []),
    (RESPONSES, [{"type": "response.completed", "response": ["x"]}], (0, (0,), 0), None, False, "c..", [], []),
    (RESPONSES, [delta("hi"), {"type": "response.completed", "response": {"usage": BOTH}}],
     (1, (2,), 0), USAGE, True, "c..", [], ["hi"]),
    # A response that failed: it has ended, and says so in one of three ways.
    (RESPONSES, [delta("hi"), last("hi", kind="failed")], (1, (2,), 0), USAGE, True, "cf.", ["hi"], ["hi"]),
    (RESPONSES, [delta("hi"), last("hi", error={"message": "no"})], (1, (2,), 0), USAGE, True, "cf.", ["hi"], ["hi"]),
    (RESPONSES, [delta("hi"), last("hi", status="failed")], (1, (2,), 0), USAGE, True, "cf.", ["hi"], ["hi"]),
    (RESPONSES, [delta("hi"), {"type": "error", "message": "no"}], (1, (2,), 0), None, False, ".f.", [], ["hi"]),
    (RESPONSES, [NAMED_ERROR], (0, (0,), 0), None, False, ".fn", [], []),
    (RESPONSES, [NAMED_ERROR, delta("hi")], (1, (2,), 0), None, False, ".f.", [], ["hi"]),
    (RESPONSES, [{"error": "no"}], (0, (0,), 0), None, False, ".fn", [], []),
    (RESPONSES, [{"type": 7}], (0, (0,), 0), None, False, ".fn", [], []),
    (RESPONSES, [{"type": 7}, delta("hi")], (1, (2,), 0), None, False, "...", [], ["hi"]),
    # Items and texts that come whole are mostly the same that came in pieces.
    (RESPONSES, [delta("hello"), {"type": "response.x.done", "text": "hi"}], (1, (5,), 0), None, False, "...", [],
     ["hello"]),
    (RESPONSES, [delta("hi"), {"type": "response.x.done", "item": {"content": "hello"}, "text": "much more"}],
     (1, (5,), 0), None, False, "...", [], ["hi"]),
    (RESPONSES, [{"type": "response.x.done", "text": "abc"}, {"type": "response.y.done", "arguments": "de"}],
     (0, (5,), 0), None, False, "...", [], []),
    (RESPONSES, [{"type": "response.x.done", "text": "ab", "code": "cd", "other": "e"}],
     (0, (4,), 0), None, False, "...", [], []),
    (RESPONSES, [delta(["a", {"text": "b"}], new="cd")], (1, (4,), 0), None, False, "...", [], ["a", "b"]),
    # Messages
    (MESSAGES, [{"type": "message_start"}], (0, (0,), 0), None, False, "...", [], []),
    (MESSAGES, [{"type": "message_start", "message": {"usage": {"input_tokens": 3}}}],
     (0, (0,), 0), TokenUsage(3, None), False, "...", [], []),
    (MESSAGES,
     [{"type": "content_block_start", "content_block": {"type": "text", "text": "hi"}}, {"type": "message_stop"}],
     (0, (2,), 0), None, False, "c..", ["hi"], ["hi"]),
    (MESSAGES, [{"type": "message", "content": "hi", "usage": BOTH}, {"type": "ping"}],
     (0, (2,), 0), USAGE, True, "c..", ["hi"], ["hi"]),
    (MESSAGES, [{"type": "message_delta", "usage": BOTH}, {"type": "message_stop"}],
     (0, (0,), 0), USAGE, True, "c..", [], []),
    (MESSAGES, [{"type": "message_stop"}, {"type": "message_delta", "usage": BOTH}],
     (0, (0,), 0), USAGE, True, "c..", [], []),
    (MESSAGES, [{"type": "message_stop"}, {"type": "error"}], (0, (0,), 0), None, False, "cfn", [], []),
    (MESSAGES, [{"error": {"message": "no"}}], (0, (0,), 0), None, False, ".fn", [], []),
    (MESSAGES, [NAMED_ERROR, {"type": "ping"}], (0, (0,), 0), None, False, ".fn", [], []),
    (MESSAGES, [{"type": "content_block_delta", "delta": {"text": "hi", "thinking": "hm"}}],
     (1, (4,), 0), None, False, "...", ["hi"], ["hm", "hi"]),
    (MESSAGES, [{"type": "content_block_delta", "delta": {"text": "hi"}, "new": "abc"}],
     (1, (5,), 0), None, False, "...", ["hi"], ["hi"]),
    (MESSAGES, [b"[1]"], (0, (0,), 3), None, False, "...", [], []),
    # Lines
    (O_CHAT, [{"message": {"content": "hi"}, "error": "no"}], (0, (2,), 0), None, False, ".f.", ["hi"], ["hi"]),
    (O_CHAT, [{"error": "no"}, {"message": {"content": "hi"}}], (1, (2,), 0), None, False, ".f.", ["hi"], ["hi"]),
    (O_CHAT, [{"message": {"content": "hi"}, "done": False, "new": 7}],
     (1, (2,), 0), None, False, "...", ["hi"], ["hi"]),
    (O_CHAT, [{"message": {"content": "hi", "new": "a"}, **LAST}], (0, (3,), 0), USAGE, True, "c..", ["hi"], ["hi"]),
    (O_CHAT, [{"done": True, "done_reason": "load"}], (0, (0,), 0), TokenUsage(0, 0), True, "c..", [], []),
    (O_CHAT, [{"done": "yes", "eval_count": 4}], (1, (0,), 0), None, False, "...", [], []),
    (O_CHAT, [b"{", b'"x": 1', b"}"], (0, (0,), 0), None, False, ".fn", [], []),
    (O_CHAT, [b"{", b'"error": "no"', b"}"], (0, (0,), 0), None, False, ".fn", [], []),
    (O_CHAT, [b"{", b'"message": {"content": "hi"}'], (0, (0,), 31), None, False, "...", [], []),
    (O_CHAT, [{"message": {"content": "a"}}, b"{", b'"message": {"content": "b"}', b"}", LAST],
     (2, (2,), 0), USAGE, False, "c..", ["ab"], ["a", "b"]),
    (O_CHAT, [b"text", b" [DONE] "], (0, (0,), 5), None, False, "c..", [], []),
    (O_CHAT, [b'data: {"message": {"content": "hi"}}'], (1, (2,), 0), None, False, "...", ["hi"], ["hi"]),
    (O_CHAT, [b"7"], (0, (0,), 2), None, False, "...", [], []),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("at_once", [True, False])
def test_a_stream_comes_to_what_came_once(case: tuple[Any, ...], at_once: bool) -> None:
    path, events, sizes, usage, final, ended, digested, pieces = case
    stream, data = meter(path), b"".join(written(path, event) for event in events)
    passed = stream.feed(data) if at_once else b"".join(stream.feed(bytes([byte])) for byte in data)
    assert passed + stream.finish() == data
    seen = stream.seen()
    assert (seen.chunks, seen.choice_bytes, seen.unread_bytes) == sizes
    assert (seen.usage, seen.final) == (usage, final)
    states = zip((stream.complete, stream.failed, seen.nothing_came), "cfn", strict=True)
    assert "".join(letter if state else "." for state, letter in states) == ended
    assert stream.reply.take() == pieces
    assert stream.reply.digest() == (digest_of(*digested) if digested else b"")
