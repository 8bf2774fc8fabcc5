"""What each route's stream comes to: what is heard of every kind of event, its counts, its end, what goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.dialect import StreamMeter
from epad.gateway.dialects.routes import Routes
from epad.gateway.dialects.usage import TokenUsage

ROUTES = Routes(LIMITS)
CHAT, RESPONSES, MESSAGES, O_CHAT = "/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat"
COUNTED = {"prompt_tokens": 3, "completion_tokens": 4}
BOTH = {"input_tokens": 3, "output_tokens": 4}
USAGE = TokenUsage(3, 4)
LAST = {"done": True, "prompt_eval_count": 3, "eval_count": 4}
OUTPUT = [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]


def meter(path: str, **more: Any) -> StreamMeter:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    body = {"model": "m", "messages": [], "input": "x", "stream": True, **more}
    return endpoint.meter(endpoint.parse(json.dumps(body).encode()))


def written(path: str, events: list[Any]) -> bytes:
    lines = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    if path == O_CHAT:
        return b"".join(line + b"\n" for line in lines)
    return b"".join(line if line.startswith(b"event:") else b"data: " + line + b"\n\n" for line in lines)


def delta(**said: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": said}


def piece(
    content: str | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> dict[str, Any]:
    choice = {"index": index, "delta": {"content": content}, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice], **more}


def usage(**more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": COUNTED, **more}


# path, events, (chunks, choice bytes, unread bytes), usage, final, complete, failed, pieces
Case = tuple[str, list[Any], tuple[int, tuple[int, ...], int], TokenUsage | None, bool, bool, bool, list[str]]
CASES: list[Case] = [
    # Messages
    (
        MESSAGES,
        [
            {
                "type": "message_start",
                "message": {"content": [], "usage": {"input_tokens": 3, "output_tokens": 1}},
            },
            {"type": "ping"},
            {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
            delta(type="text_delta", text="hi"),
            {"type": "content_block_stop"},
            {"type": "message_delta", "usage": {"output_tokens": 4}},
            {"type": "message_stop"},
        ],
        (1, (2,), 0),
        USAGE,
        True,
        True,
        False,
        ["hi"],
    ),
    (
        MESSAGES,
        [
            delta(thinking="hm"),
            delta(partial_json="{}"),
            delta(text="hi", new="abc"),
            {"type": "message_delta"},
        ],
        (3, (9,), 0),
        None,
        False,
        False,
        False,
        ["hm", "{}", "hi"],
    ),
    (
        MESSAGES,
        [
            {
                "type": "message_start",
                "message": {"content": "so", "usage": {"input_tokens": 3, "output_tokens": 1}},
            }
        ],
        (0, (2,), 0),
        TokenUsage(3, None),
        False,
        False,
        False,
        ["so"],
    ),
    (
        MESSAGES,
        [{"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f", "input": {}}}],
        (0, (1,), 0),
        None,
        False,
        False,
        False,
        [],
    ),
    (
        MESSAGES,
        [{"type": "message", "content": "hi", "usage": BOTH}],
        (0, (2,), 0),
        USAGE,
        True,
        True,
        False,
        ["hi"],
    ),
    (MESSAGES, [{"type": "error", "error": {"message": "no"}}], (0, (0,), 0), None, False, False, True, []),
    (MESSAGES, [b"event: error\ndata: x\n\n"], (0, (0,), 1), None, False, False, True, []),
    (MESSAGES, [{"type": "new_event"}], (0, (0,), 21), None, False, False, False, []),
    (MESSAGES, [b"text", b"[DONE]"], (0, (0,), 4), None, False, False, False, []),
    (MESSAGES, [{"x": 1}], (0, (0,), 0), None, False, False, True, []),
    (MESSAGES, [b'{"type": "content_block_delta", '], (1, (0,), 31), None, False, False, False, []),
    # Responses
    (
        RESPONSES,
        [
            {"type": "response.created", "response": {"id": "r"}},
            {"type": "response.in_progress"},
            {"type": "response.output_item.added"},
            {"type": "response.content_part.added"},
            {"type": "response.output_text.delta", "delta": "h"},
            {"type": "response.output_text.delta", "delta": "i"},
            {"type": "response.output_text.done", "text": "hi"},
            {"type": "response.output_item.done", "item": {"type": "message", "content": "hi"}},
            {"type": "response.completed", "response": {"output": OUTPUT, "usage": BOTH}},
        ],
        (2, (2,), 0),
        USAGE,
        True,
        True,
        False,
        ["h", "i"],
    ),
    (
        RESPONSES,
        [{"type": "response.completed", "response": {"output": OUTPUT, "usage": BOTH}}],
        (0, (2,), 0),
        USAGE,
        True,
        True,
        False,
        [],
    ),
    (
        RESPONSES,
        [{"object": "response", "output": OUTPUT, "usage": BOTH}],
        (0, (2,), 0),
        USAGE,
        True,
        True,
        False,
        [],
    ),
    (
        RESPONSES,
        [{"type": "response.incomplete", "response": {"usage": BOTH}}],
        (0, (0,), 0),
        USAGE,
        True,
        True,
        False,
        [],
    ),
    (
        RESPONSES,
        [{"type": "response.failed", "response": {"error": {"message": "no"}}}],
        (0, (0,), 0),
        None,
        False,
        True,
        True,
        [],
    ),
    (RESPONSES, [{"type": "response.failed", "response": {}}], (0, (0,), 0), None, False, True, True, []),
    (RESPONSES, [{"type": "error", "message": "no"}], (0, (0,), 0), None, False, False, True, []),
    (RESPONSES, [{"x": 1}], (0, (0,), 0), None, False, False, True, []),
    *(
        (RESPONSES, [{"type": "response.x.done", name: "abc"}], (0, (3,), 0), None, False, False, False, [])
        for name in ("text", "arguments", "input", "refusal", "code", "transcript")
    ),
    (
        RESPONSES,
        [
            {"type": "response.x.done", "item": {"content": "abcd"}},
            {"type": "response.y.done", "item": {"content": "e"}},
            {"type": "response.z.done", "text": "abc"},
        ],
        (0, (5,), 0),
        None,
        False,
        False,
        False,
        [],
    ),
    *(
        (RESPONSES, [{"type": f"response.{name}"}], (0, (0,), 0), None, False, False, False, [])
        for name in (
            "queued",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "reasoning_summary_part.added",
            "output_text.annotation.added",
            "web_search_call.in_progress",
            "web_search_call.completed",
            "web_search_call.searching",
            "code_interpreter_call.interpreting",
            "image_generation_call.generating",
        )
    ),
    (RESPONSES, [{"type": "response.new"}], (0, (0,), 24), None, False, False, False, []),
    (RESPONSES, [b"text"], (0, (0,), 4), None, False, False, False, []),
    (RESPONSES, [b"[DONE]"], (0, (0,), 0), None, False, True, False, []),
    (
        RESPONSES,
        [{"type": "x", "delta": {"text": "hi", "new": "abc"}}],
        (1, (5,), 0),
        None,
        False,
        False,
        False,
        ["hi"],
    ),
    (RESPONSES, [b'{"delta": '], (1, (0,), 9), None, False, False, False, []),
    # Ollama
    (
        O_CHAT,
        [
            {"message": {"content": "h"}, "done": False},
            {"message": {"content": "i"}},
            {"message": {"content": ""}, **LAST},
        ],
        (2, (2,), 0),
        USAGE,
        True,
        True,
        False,
        ["h", "i"],
    ),
    (
        O_CHAT,
        [{"response": "hi", "thinking": "hm"}, {"message": {"content": "so", "thinking": "h"}}, LAST],
        (2, (7,), 0),
        USAGE,
        True,
        True,
        False,
        ["hm", "hi", "h", "so"],
    ),
    (
        O_CHAT,
        [{"message": {"content": "hi", "new": "abc"}}, LAST],
        (1, (5,), 0),
        USAGE,
        True,
        True,
        False,
        ["hi"],
    ),
    (O_CHAT, [{"error": "no"}], (0, (0,), 0), None, False, False, True, []),
    (O_CHAT, [{"x": 1}], (0, (0,), 0), None, False, False, True, []),
    (
        O_CHAT,
        [{"message": {"content": "hi"}}, {"message": {"content": ""}, "done": True}],
        (1, (2,), 0),
        None,
        False,
        True,
        False,
        ["hi"],
    ),
    (
        O_CHAT,
        [b": comment", b"event: x", b"id: 1", b"retry: 3", b"", b"data: [DONE]"],
        (0, (0,), 0),
        None,
        False,
        True,
        False,
        [],
    ),
    (
        O_CHAT,
        [b'data: {"message": {"content": "hi", "new": ""}}', b"text"],
        (1, (2,), 5),
        None,
        False,
        False,
        False,
        ["hi"],
    ),
    (
        O_CHAT,
        [
            b"{",
            b'"message": {"content": "hi"},',
            b'"done": true, "prompt_eval_count": 3, "eval_count": 4',
            b"}",
        ],
        (0, (2,), 0),
        USAGE,
        True,
        True,
        False,
        ["hi"],
    ),
    # Chat
    (
        CHAT,
        [piece("h"), piece("i"), piece(finish="stop"), usage(), b"[DONE]"],
        (3, (2,), 0),
        USAGE,
        True,
        True,
        False,
        ["h", "i"],
    ),
    (
        CHAT,
        [piece("h"), piece("i"), piece(finish="stop"), b"[DONE]"],
        (3, (2,), 0),
        None,
        False,
        True,
        False,
        ["h", "i"],
    ),
    (CHAT, [piece("hi"), piece(finish="stop")], (2, (2,), 0), None, False, True, False, ["hi"]),
    (CHAT, [piece("hi"), usage()], (1, (2,), 0), USAGE, True, True, False, ["hi"]),
    (CHAT, [piece("hi"), usage(), piece("so")], (2, (4,), 0), USAGE, False, False, False, ["hi", "so"]),
    (
        CHAT,
        [piece("hi"), piece("abc", index=1), piece(finish="stop"), usage()],
        (3, (2, 3), 0),
        USAGE,
        True,
        True,
        False,
        ["hi"],
    ),
    (
        CHAT,
        [piece("hi"), piece("abc", index=1), piece(finish="stop")],
        (3, (2, 3), 0),
        None,
        False,
        False,
        False,
        ["hi"],
    ),
    (
        CHAT,
        [piece("hi", usage=COUNTED), piece(finish="stop", usage=COUNTED)],
        (2, (2,), 0),
        USAGE,
        True,
        True,
        False,
        ["hi"],
    ),
    (CHAT, [piece("hi"), {"error": {"message": "no"}}], (1, (2,), 0), None, False, False, True, ["hi"]),
    (CHAT, [{"error": {"message": "no"}}], (0, (0,), 0), None, False, False, True, []),
    (CHAT, [{"x": 1}], (0, (0,), 0), None, False, False, True, []),
    (CHAT, [piece("hi", error={"message": "no"})], (1, (2,), 0), None, False, False, True, ["hi"]),
    (CHAT, [b"text"], (0, (0,), 4), None, False, False, False, []),
    (
        CHAT,
        [{"choices": [{"index": 0, "message": {"content": "hi"}}]}],
        (1, (2,), 0),
        None,
        False,
        False,
        False,
        ["hi"],
    ),
    (CHAT, [piece("x")] * 40, (40, (40,), 0), None, False, False, False, ["x"] * 40),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_stream_comes_to_what_came(case: Case, at_once: bool) -> None:
    path, events, sizes, counts, final, complete, failed, pieces = case
    stream, data = meter(path), written(path, events)
    if at_once:
        stream.feed(data)
    else:
        for byte in data:
            stream.feed(bytes([byte]))
    stream.finish()
    seen = stream.seen()
    assert (seen.chunks, seen.choice_bytes, seen.unread_bytes) == sizes
    assert (seen.usage, seen.final) == (counts, final)
    assert (stream.complete, stream.failed) == (complete, failed)
    assert stream.reply.take() == pieces
    assert stream.most_tokens() == max(sizes[0], sum(sizes[1]) + sizes[2])
