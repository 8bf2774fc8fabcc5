"""Replies: one digest for one answer, however it was cut, spaced or streamed."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_server import STREAMS, TEXT, WORDS, answer_of, stream_of

from epad.gateway.dialects.dialect import OutputLimits
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.routes import Routes

ROUTES = Routes(OutputLimits(100, 1_000, 16))
SILENT = ("/v1/embeddings", "/api/embed", "/v1/messages/count_tokens")


def request(path: str, **fields: Any) -> dict[str, Any]:
    asked = {
        "/v1/responses": {"input": "x"},
        "/v1/completions": {"prompt": "x"},
        "/api/generate": {"prompt": "x"},
    }
    return {"model": "tiny", **asked.get(path, {"messages": []}), **fields}


def whole(path: str, **fields: Any) -> Reply:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    return endpoint.reply(json.dumps(answer_of(path, request(path, **fields))).encode())


def streamed(path: str, *, at_once: bool) -> tuple[list[str], bytes]:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    body = request(path, stream=True)
    meter = endpoint.meter(endpoint.parse(json.dumps(body).encode()))
    head, words, tail = stream_of(path, body, list(WORDS))
    pieces: list[str] = []
    for data in [b"".join([*head, *words, *tail])] if at_once else [*head, *words, *tail]:
        meter.feed(data)
        pieces += meter.reply.take()
    return pieces, meter.reply.digest()


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_has_no_more_tokens_than_bytes_of_text(path: str, at_once: bool) -> None:
    """Whoever took the pieces meanwhile, and of a stream that is broken off anywhere."""
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    body = request(path, stream=True)
    meter = endpoint.meter(endpoint.parse(json.dumps(body).encode()))
    head, words, _ = stream_of(path, body, list(WORDS))
    for data in [b"".join([*head, *words])] if at_once else [*head, *words]:
        meter.feed(data)
        meter.reply.take()
    assert meter.most_tokens() == len(TEXT.encode()) > len(TEXT)


def test_a_call_is_as_long_as_its_name_and_arguments() -> None:
    """Pieces of JSON, or Ollama's all at once."""
    reply = Reply()
    reply.call("weather", '{"city":')
    reply.call(arguments=b'"Bern"}')
    assert reply.size == len('weather{"city":"Bern"}')


@given(st.text(alphabet="ab \n\t", max_size=30), st.lists(st.integers(0, 30), max_size=8))
def test_cuts_and_spaces_make_no_difference(text: str, cuts: list[int]) -> None:
    """The digest is that of the words; what is only white space is nothing."""
    one, other = Reply(), Reply()
    one.say(" ".join(text.split()))
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, end in pairwise(places):
        other.say(text[start:end])
    assert one.digest() == other.digest()
    assert (one.digest() == b"") == (not text.split())
    assert "".join(other.take()) == text
    assert other.take() == []


def test_words_and_calls_are_told_apart() -> None:
    """Joined words are another word, and what is said is not what is called or thought."""
    said = {}
    for name, steps in {
        "apart": [("say", "a b")],
        "joined": [("say", "ab")],
        "called": [("call", "ab")],
        "also called": [("say", "ab"), ("call", "f")],
        "otherwise": [("say", "ab"), ("call", "g")],
        "thought": [("think", "ab")],
    }.items():
        reply = Reply()
        for method, text in steps:
            getattr(reply, method)(text)
        said[name] = reply.digest()
    assert len(set(said.values())) == len(said)
    assert said["thought"] == b""


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_says_what_the_whole_answer_says(path: str) -> None:
    """Each delta is one piece for those who listen, even if everything comes at once."""
    for at_once in (False, True):
        pieces, digest = streamed(path, at_once=at_once)
        assert pieces == list(WORDS)
        assert digest == whole(path).digest() != b""
    assert whole(path).take() == [TEXT]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat"])
def test_a_call_of_a_tool_is_an_answer(path: str) -> None:
    """It has no text, and is not the same as the text."""
    called = whole(path, tools=[{"type": "function", "name": "weather"}])
    assert called.digest() not in {b"", whole(path).digest()}


@pytest.mark.parametrize("path", SILENT)
def test_what_says_nothing_has_no_digest(path: str) -> None:
    """A vector or a number is no answer that could repeat itself."""
    assert whole(path, input=["x"]).digest() == b""


def test_streamed_calls_and_thoughts_are_heard() -> None:
    """Two calls are one answer each; what is thought is heard, and no part of the answer."""
    chat, messages = ROUTES.endpoint("POST", "/v1/chat/completions"), ROUTES.endpoint("POST", "/v1/messages")
    assert chat is not None
    assert messages is not None
    meter = chat.meter(chat.parse(b'{"model":"m","messages":[]}'))
    for delta in (
        {"reasoning_content": "hm"},
        {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
    ):
        meter.feed(b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n")
    other = messages.meter(messages.parse(b'{"model":"m","messages":[]}'))
    for event in (
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {
            "type": "content_block_start",
            "content_block": {"type": "tool_use", "id": "2", "name": "f", "input": {}},
        },
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
    ):
        other.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    meter.finish()
    assert meter.reply.take() == other.reply.take() == ["hm", '{"a":1}']
    assert meter.reply.digest() == other.reply.digest() != b""


CHUNKS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"a \\n\\n b"}}]}\n\n',
    b'data:{"choices":[{"index":0,"delta":{"content":" c"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":" d"}}]}\r\n\r\n',
    b': a comment\n\ndata: {"choices":[{"index":0,"delta":{"content":" e"}}]}\n\n',
    b'data: {"choices":[{"index":0,\ndata: "delta":{"content":" f"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":5}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":" h"}}],"usage":null}\n\n',
)


@given(st.lists(st.sampled_from(CHUNKS), max_size=40), st.integers(1, 400))
def test_chunks_read_together_say_what_they_say_one_by_one(chunks: list[bytes], size: int) -> None:
    """Odd ones among them, and cut anywhere: the same bytes, the same count, the same answer."""
    chat = ROUTES.endpoint("POST", "/v1/chat/completions")
    assert chat is not None
    ask = chat.parse(b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}')
    stream = b"".join(chunks)
    said = []
    for pieces in ([stream], [stream[at : at + size] for at in range(0, len(stream), size)], list(stream)):
        meter = chat.meter(ask)
        passed = b"".join(meter.feed(p if isinstance(p, bytes) else bytes([p])) for p in pieces)
        passed += meter.finish()
        assert passed == stream
        said.append((meter.chunks, meter.reply.take(), meter.reply.digest()))
    assert said[0] == said[1] == said[2]


def test_a_space_between_two_pieces_that_are_digested_apart_is_one() -> None:
    """However many there are of it, at the end of the first piece, at the start of the second, or alone between."""
    whole = Reply()
    whole.say("a" * 4_096 + " b")
    for pieces in (["a" * 4_096, " b"], ["a" * 4_096 + " ", "b"], ["a" * 4_096, " " * 4_096, "b"]):
        reply = Reply()
        for piece in pieces:
            reply.say(piece)
        assert reply.digest() == whole.digest()
    apart = Reply()
    apart.say("a" * 4_096)
    apart.say("b")
    assert apart.digest() != whole.digest()


@pytest.mark.parametrize(
    ("pieces", "is_data"),
    [
        (['{"ok"', ": true}"], True), (["\n  ", "[1, 2]"], True), (["```json\n{}"], True), (["| a | b |"], True),
        (["<row/>"], True), (["All ", "{is} well"], False), (["", " "], False), ([], False), (["{" * 5_000], True),
    ],
)  # fmt: skip
def test_what_begins_as_data_is_known(pieces: list[str], is_data: bool) -> None:
    """By its first word, however it comes."""
    reply = Reply()
    for piece in pieces:
        reply.say(piece)
    reply.digest()
    assert reply.is_data is is_data
