"""Text in any shape is counted and digested; a stream's end is known; what is not epad's reaches the client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from raw_bytes import CHAT, DEFAULT_CAP, NDJSON, RawServer, before, chunks, cost_of, end, event, piece

from epad.gateway.dialects.dialect import OutputLimits
from epad.gateway.dialects.openai import usage_of
from epad.gateway.dialects.routes import Routes

TEXT = "word " * 160
PARTS = [{"type": "text", "text": TEXT}]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
ROUTES = Routes(OutputLimits(DEFAULT_CAP, 4 * DEFAULT_CAP, 16))
# Enough for the text, its quotes, its escapes and a tool's name; far from one token a chunk.
ROOM = 300


def called(arguments: Any, **more: Any) -> dict[str, Any]:
    return {
        "tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": arguments}, **more}]
    }


SHAPES = [
    {"content": TEXT},
    {"content": PARTS},
    {"content": [TEXT]},
    {"content": [{"type": "thinking", "thinking": PARTS, "closed": True}]},
    {"reasoning_content": TEXT},
    {"reasoning": TEXT, "reasoning_details": [{"type": "reasoning.text", "text": TEXT, "index": 0}]},
    {"reasoning_details": [{"type": "reasoning.encrypted", "data": TEXT}]},
    {"refusal": TEXT},
    {"audio": {"id": "a", "transcript": TEXT}},
    {"function_call": {"name": "f", "arguments": TEXT}},
    called(json.dumps({"text": TEXT})),
    called({"text": TEXT}),
    called("", custom={"name": "f", "input": TEXT}),
    {"tool_calls": {"function": {"name": "f", "arguments": {"text": TEXT}}}},
    {"something_new": {"deep": [TEXT]}},
]


@pytest.mark.parametrize("said", SHAPES)
@pytest.mark.parametrize("pieces", [1, 40])
async def test_a_stream_without_a_count_costs_the_bytes_of_what_came(
    tmp_path: Path, said: dict[str, Any], pieces: int
) -> None:
    """However it is written, alone or among others; of a server that shows all that it makes."""
    others = [piece(content="x")] * (pieces - 1)
    async with before(tmp_path, RawServer([chunks(*others, piece(**said), end())]), server="vllm") as w:
        outcome, _, output = await cost_of(w, stream=True)
        assert outcome == "done"
        assert len(TEXT) <= output <= len(TEXT) + ROOM


MESSAGES = [
    [event("content_block_delta", delta={"type": "text_delta", "text": TEXT})],
    [event("content_block_delta", delta={"type": "input_json_delta", "partial_json": TEXT})],
    [event("content_block_delta", delta={"type": "signature_delta", "signature": TEXT})],
    [event("content_block_start", content_block={"type": "redacted_thinking", "data": TEXT})],
    [
        event(
            "content_block_start",
            content_block={"type": "server_tool_use", "name": "s", "input": {"q": TEXT}},
        )
    ],
    [event("content_block_delta", delta={"type": "new_delta", "parts": [TEXT]})],
    [event("vendor_event", said=TEXT)],
]


@pytest.mark.parametrize("events", MESSAGES)
async def test_blocks_of_messages_are_heard_whatever_they_are(tmp_path: Path, events: list[bytes]) -> None:
    """Thinking, signatures, calls, and what nobody knows yet."""
    raw = RawServer([*events, event("message_stop")])
    async with before(tmp_path, raw, server="vllm") as w:
        _, _, output = await cost_of(w, "/v1/messages", stream=True, max_tokens=DEFAULT_CAP)
        assert len(TEXT) <= output <= len(TEXT) + ROOM


@pytest.mark.parametrize(
    "line",
    [
        {"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"t": TEXT}}}]}},
        {"message": {"content": [{"type": "text", "text": TEXT}]}},
        {"message": {"content": "", "thinking": TEXT}},
    ],
)
async def test_lines_of_ollama_are_heard_whatever_they_are(tmp_path: Path, line: dict[str, Any]) -> None:
    """Calls have objects for arguments there."""
    body = b"".join(json.dumps({"done": False, **each}).encode() + b"\n" for each in (line, {"done": True}))
    async with before(tmp_path, RawServer([body], NDJSON), server="ollama") as w:
        _, _, output = await cost_of(w, "/api/chat", stream=True)
        assert len(TEXT) <= output <= len(TEXT) + ROOM


@pytest.mark.parametrize(
    "kind",
    ["response.output_text.delta", "response.new.delta", "response.output_item.done", "response.new_event"],
)
async def test_events_of_responses_are_heard_whatever_they_are(tmp_path: Path, kind: str) -> None:
    """In pieces, or whole and in no pieces."""
    item = {"type": "function_call", "name": "f", "arguments": TEXT}
    said = {"delta": {"x": TEXT} if "new" in kind else TEXT} if kind.endswith("delta") else {"item": item}
    raw = RawServer(
        [event(kind, **said) + event("response.completed", response={"id": "r", "status": "completed"})]
    )
    async with before(tmp_path, raw, server="vllm") as w:
        _, _, output = await cost_of(w, "/v1/responses", input="x", stream=True)
        assert len(TEXT) <= output <= len(TEXT) + ROOM


@pytest.mark.parametrize("said", [TEXT.encode(), b'{"choices":[{"delta":{"content":"' + TEXT.encode()])
async def test_what_cannot_be_read_is_bounded_by_its_bytes(tmp_path: Path, said: bytes) -> None:
    """Never one token for 800 bytes; and where it is no text, by the reservation alone."""
    for data, least, most in ((said, len(TEXT) - 1, len(said)), (b"\xff" + said, DEFAULT_CAP, DEFAULT_CAP)):
        raw = RawServer([b"data: " + data + b"\n\n" + chunks(end())])
        (directory := tmp_path / str(least)).mkdir()
        async with before(directory, raw, server="vllm") as w:
            _, _, output = await cost_of(w, stream=True)
            assert least <= output <= most + 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"content": TEXT}, {"content": PARTS}),
        (called('{"a":1}'), called({"a": 1})),
        (called('{"a":1}'), {"function_call": {"name": "f", "arguments": '{"a":1}'}}),
    ],
)
def test_a_reply_is_the_same_in_every_shape(one: dict[str, Any], other: dict[str, Any]) -> None:
    """So that a loop of such answers is a loop to those who look for one."""
    chat = ROUTES.endpoint("POST", CHAT)
    assert chat is not None
    digests = set()
    for said in (one, other):
        meter = chat.meter(chat.parse(b'{"model":"m","messages":[],"stream":true}'))
        meter.feed(chunks(piece(**said), end()))
        digests.add(meter.reply.digest())
        body = json.dumps({"choices": [{"index": 0, "message": said}]}).encode()
        digests.add(chat.reply(body).digest())
    assert len(digests) == 1
    assert b"" not in digests


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        (chunks(piece(content="hi"), end(), done=False), "done"),
        (chunks(piece(content="hi"), end(reason="tool_calls"), done=False).rstrip(), "done"),
        (chunks(piece(content="hi"), {"choices": [], "usage": USAGE}, done=False), "done"),
        (chunks(piece(0, content="a"), piece(1, content="b"), end(0), end(1), done=False), "done"),
        (chunks(piece(0, content="a"), piece(1, content="b"), end(0), done=False), "failed"),
        (chunks(piece(content="hi"), done=False), "failed"),
        (chunks({**piece(content="hi"), "usage": USAGE}, done=False), "failed"),
        (chunks(piece(content="hi"), end(reason=""), done=False), "failed"),
    ],
)
async def test_a_stream_ends_with_every_choice(tmp_path: Path, events: bytes, outcome: str) -> None:
    """Or with its usage; one that is broken off is told so."""
    async with before(tmp_path, RawServer([events])) as w:
        _, _, body = await w.chat(stream=True)
        [closed] = await w.closings(1)
        assert closed.outcome.value == outcome
        assert (b"upstream_error" in body) == (outcome == "failed")


@pytest.mark.parametrize("last", [{"choices": []}, {"choices": None}, {}])
@pytest.mark.parametrize("size", [0, 7])
async def test_what_stands_beside_the_usage_reaches_the_client(
    tmp_path: Path, last: dict[str, Any], size: int
) -> None:
    """In the chunk before, where it would have been had epad not asked; the usage itself does not."""
    beside = {
        "timings": {"predicted_ms": 1.50},
        "system_fingerprint": "b1",
        "id": "other",
        "service_tier": None,
    }
    stream = chunks(piece(content="hi"), end(system_fingerprint=None), {**last, "usage": USAGE, **beside})
    raw = RawServer([stream[at : at + size] for at in range(0, len(stream), size)] if size else [stream])
    async with before(tmp_path, raw) as w:
        _, _, body = await w.chat(stream=True)
        [closed] = await w.closings(1)
        assert closed.charged_tokens == 5
    assert b'"usage"' not in body
    ended = {"timings": {"predicted_ms": 1.5}, "system_fingerprint": "b1"}
    assert [json.loads(each[6:]) for each in body.split(b"\n\n")[:-2]] == [
        piece(content="hi"),
        {**end(), **ended},
    ]
    assert body.endswith(b"data: [DONE]\n\n")


async def test_who_asked_for_usage_gets_every_byte(tmp_path: Path) -> None:
    """Nothing is moved, nothing is held back."""
    stream = chunks(piece(content="hi"), end(), {"choices": None, "usage": USAGE, "timings": {}})
    async with before(tmp_path, RawServer([stream])) as w:
        _, _, body = await w.chat(stream=True, stream_options={"include_usage": True})
        assert body == stream


async def test_what_is_held_back_comes_before_an_error_of_ours(tmp_path: Path) -> None:
    """The end of a choice is the client's, whatever follows."""
    raw = RawServer([chunks(piece(content="hi"), end(), done=False)], then="close")
    async with before(tmp_path, raw) as w:
        _, _, body = await w.chat(stream=True)
        assert b'"finish_reason": "stop"' in body
        assert body.index(b"stop") < body.index(b"upstream_error")


@pytest.mark.parametrize(
    ("more", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 16}, "prompt_cache_hit_tokens": 9}, 16),
        ({"prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 4}, 16),
        ({"prompt_tokens_details": None, "prompt_cache_hit_tokens": 16}, 16),
        ({"prompt_tokens_details": [], "cached_tokens": 16}, 16),
        ({"cached_tokens": 16}, 16),
        ({"cache_read_input_tokens": 16}, 16),
        ({"cachedContentTokenCount": 16}, 16),
        ({"input_tokens_details": {"cached_tokens": 16}}, 16),
        ({"cached_tokens": 999}, 20),
        ({"cached_tokens": -1}, 0),
    ],
)
def test_cached_input_is_found_wherever_it_stands(more: dict[str, Any], cached: int) -> None:
    """It is among the prompt's tokens, and never more than these."""
    usage = usage_of(json.dumps({"usage": {"prompt_tokens": 20, "completion_tokens": 2, **more}}).encode())
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cached_read_tokens) == (20, 2, cached)


def test_what_is_cached_for_an_hour_is_told_apart() -> None:
    """It costs another rate; it is among what was written, counted beside the input."""
    messages = ROUTES.endpoint("POST", "/v1/messages")
    assert messages is not None
    written = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}
    for more in ({"cache_creation_input_tokens": 7}, {}):
        usage = {"input_tokens": 3, "output_tokens": 1, "cache_creation": written, **more}
        read = messages.usage(json.dumps({"type": "message", "content": [], "usage": usage}).encode())
        assert read is not None
        assert (read.input_tokens, read.cache_write_tokens, read.cache_write_hour_tokens) == (10, 7, 5)


_LONG = "x" * 150


@pytest.mark.parametrize(
    ("path", "event"),
    [("/v1/chat/completions", {"choices": {"0": {"delta": {"content": _LONG}}}}),
     ("/v1/chat/completions", {"choices": {"content": _LONG}}),
     ("/v1/chat/completions", {"choices": _LONG}),
     ("/v1/chat/completions", {"content": _LONG}),
     ("/v1/chat/completions", {"delta": {"content": _LONG}}),
     ("/v1/completions", {"choices": {"text": _LONG}}),
     ("/v1/completions", {"text": _LONG}),
     ("/v1/messages", {"type": "content_block_delta", "text": _LONG}),
     ("/v1/messages", {"type": "content_block_delta", "delta": _LONG}),
     ("/v1/responses", {"type": "response.output_text.delta", "text": _LONG}),
     ("/v1/responses", {"type": "response.output_text.delta", "delta": {"text": _LONG}}),
     ("/api/chat", {"choices": [{"delta": {"content": _LONG}}]}),
     ("/api/chat", {"content": _LONG}),
     ("/api/generate", {"response": {"text": _LONG}})],
)  # fmt: skip
def test_text_in_a_place_that_is_not_known_counts_as_its_bytes(path: str, event: dict[str, Any]) -> None:
    """In a stream and in a whole answer: whatever container it stands in, or none."""
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    asked = {"model": "m", "messages": [], "prompt": "x", "input": "x", "stream": True}
    meter = endpoint.meter(endpoint.parse(json.dumps(asked).encode()))
    text = json.dumps(event).encode()
    sent = text + b"\n" if path.startswith("/api/") else b"data: " + text + b"\n\n"
    assert meter.feed(sent) == sent
    assert meter.seen().said_bytes >= len(_LONG)
    assert not meter.seen().nothing_came


def test_json_lines_on_a_route_of_events_pass_as_they_come() -> None:
    """Each by itself, whatever the Content-Type; one document over several lines stays whole."""
    endpoint = ROUTES.endpoint("POST", "/v1/chat/completions")
    assert endpoint is not None
    ask = endpoint.parse(b'{"model":"m","messages":[],"stream":true}')
    piece = b'{"choices":[{"index":0,"delta":{"content":"a"}}]}\n'
    meter = endpoint.meter(ask)
    assert meter.feed(b": so\n\n" + piece) == b": so\n\n" + piece
    assert meter.feed(b"\n" + piece + piece[:9]) == b"\n" + piece
    assert meter.feed(piece[9:]) == piece
    assert meter.feed(piece + piece + b"\n") == piece + piece + b"\n"
    assert meter.finish() == b""
    assert (meter.seen().said_bytes, meter.seen().unread_bytes, meter.chunks) == (5, 0, 5)
    written = b'{\n "choices": [{"index": 0, "message": {"content": "abc"}}]\n}\n'
    meter = endpoint.meter(ask)
    assert meter.feed(written[:20]) + meter.feed(written[20:]) + meter.finish() == written
    assert (meter.seen().said_bytes, meter.seen().unread_bytes) == (3, 0)
