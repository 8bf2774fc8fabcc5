"""Requests and answers, read only as far as metering needs."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from asking import LIMITS, Asked
from hypothesis import given
from hypothesis import strategies as st

from epad.gateway.dialects.events import SSE_BOUNDARY, EventSplitter
from epad.gateway.dialects.ollama import Chat, Ollama
from epad.gateway.dialects.openai import ChatCompletions, OpenAI
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.errors import RequestError

openai, ollama = ChatCompletions(OpenAI(), LIMITS), Chat(Ollama(), LIMITS)


def request(**fields) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


@pytest.mark.parametrize(
    ("given_caps", "cap", "written"),
    [({}, 100, {"max_tokens": 100}), ({"max_tokens": 5}, 5, {"max_tokens": 5}),
     ({"max_tokens": None}, 100, {"max_tokens": 100}), ({"max_tokens": 9_999}, 1_000, {"max_tokens": 1_000}),
     ({"max_tokens": -1}, 100, {"max_tokens": 100}),
     ({"max_completion_tokens": 5_000}, 1_000, {"max_completion_tokens": 1_000}),
     ({"max_tokens": 7, "max_completion_tokens": 9}, 9, {"max_tokens": 7, "max_completion_tokens": 9}),
     ({"max_tokens": 0, "max_completion_tokens": 9}, 9, {"max_tokens": 9, "max_completion_tokens": 9})],
)  # fmt: skip
def test_openai_cap_is_written_into_the_request(given_caps, cap, written) -> None:
    """Absent, unlimited or too large a wish: the upstream is told the cap that was reserved for."""
    ask = Asked(openai, request(**given_caps))
    body = json.loads(ask.body)
    assert ask.output_cap == cap
    assert {name: body[name] for name in written} == written


@pytest.mark.parametrize(
    ("options", "cap"),
    [(None, 100), ({}, 100), ({"num_predict": -1}, 100), ({"num_predict": -2}, 100), ({"num_predict": 0}, 100),
     ({"num_predict": 5}, 5), ({"num_predict": 9_999}, 1_000)],
)  # fmt: skip
def test_ollama_cap_is_written_into_the_options(options, cap) -> None:
    """Likewise in Ollama's place, leaving the other options as they are."""
    fields = {} if options is None else {"options": {"temperature": 0.25, **options}}
    ask = Asked(ollama, request(**fields))
    written = json.loads(ask.body)["options"]
    assert (ask.output_cap, written["num_predict"]) == (cap, cap)
    assert options is None or written["temperature"] == 0.25


def test_a_request_that_needs_no_edit_is_forwarded_as_it_came() -> None:
    """Byte for byte, odd spacing and number spellings included."""
    body = (
        b'{ "model":"m","messages":[ {"content":"\\u00fc", "role":"user"}],\n "max_tokens" : 5, "x":1.50e0 }'
    )
    assert Asked(openai, body).body is body
    ollama_body = b'{"model":"m", "messages":[],"options":{"num_predict":5, "temperature":1E-1}}'
    assert Asked(ollama, ollama_body).body is ollama_body


def test_edits_leave_every_other_value_its_bytes() -> None:
    """What is not ours is not even decoded."""
    ask = Asked(
        openai, b'{"model":"m","messages":[{"role":"user","content":"\\u00fc"}],"seed":1.50e0,"stream":true}'
    )
    assert b'"content":"\\u00fc"' in ask.body
    assert b'"seed":1.50e0' in ask.body
    assert json.loads(ask.body)["stream_options"] == {"include_usage": True}


def test_the_wish_for_usage_is_remembered() -> None:
    """Asked for it is passed on, not asked for it is ours alone; other stream options stay."""
    asked = Asked(openai, request(stream=True, stream_options={"include_usage": True}))
    not_asked = Asked(openai, request(stream=True, stream_options={"include_usage": False, "x": 1}))
    assert asked.wants_usage
    assert not not_asked.wants_usage
    assert json.loads(not_asked.body)["stream_options"] == {"include_usage": True, "x": 1}


def test_ollama_streams_unless_told_not_to() -> None:
    """Its default is the opposite of OpenAI's."""
    assert ollama.parse(request()).stream
    assert not ollama.parse(request(stream=False)).stream
    assert not openai.parse(request()).stream


@given(st.text(max_size=300), st.booleans())
def test_the_prompt_bound_is_never_below_the_bytes_of_the_text(text: str, ascii_only: bool) -> None:
    """A byte-level tokenizer makes at most one token a byte, however the JSON spells the text."""
    text = text.encode("utf-8", "replace").decode()
    fields = {"model": "m", "messages": [{"role": "user", "content": text}]}
    body = json.dumps(fields, ensure_ascii=ascii_only).encode()
    for endpoint in (openai, ollama):
        bound = endpoint.parse(body).prompt_tokens(0)
        assert bound is not None
        assert bound >= len(text.encode()) + LIMITS.template_tokens


def test_what_bytes_cannot_bound_needs_the_context() -> None:
    """An image of fifty bytes of URL may be thousands of tokens; only the model's context bounds it."""
    image = [
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]}
    ]
    text = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    assert openai.parse(request(messages=image)).prompt_tokens(0) is None
    assert openai.parse(request(messages=image)).prompt_tokens(8_192) == 8_192
    assert openai.parse(request(messages=text)).prompt_tokens(0) is not None
    assert openai.parse(request(web_search_options={})).prompt_tokens(0) is None
    assert ollama.parse(request(messages=[{"role": "user", "images": ["aGk="]}])).prompt_tokens(0) is None
    assert openai.parse(request(messages=[{"content": "y" * 500}])).prompt_tokens(100) == 100


def test_several_choices_are_all_reserved_for() -> None:
    """The answer may have n times the cap."""
    ask = Asked(openai, request(n=3, max_tokens=50))
    assert (ask.choices, ask.output_tokens) == (3, 150)


@pytest.mark.parametrize(
    ("body", "place"),
    [(b'{"model": "m",, }', "line 1 column 15"), (b"[1]", "not a JSON object"), (b"", "column 1"),
     (b'{"model":"m"}', "messages:"), (request(max_tokens="9"), "max_tokens:"),
     (request(n=0), None), (request(n=-1), "n:"), (request(n=9_999), "n:"), (request(model="m" * 300), "model:"),
     (request(messages=["x"]), "$[0]"), (request(stream="yes"), "stream:"), (b'{"a":' + b"[" * 90_000, "JSON")],
)  # fmt: skip
def test_a_body_that_cannot_be_read_is_refused_with_the_place(body: bytes, place: str | None) -> None:
    """The message leads to the mistake; n=0 is read as the default."""
    if place is None:
        assert openai.parse(body).choices == 1
        return
    with pytest.raises(RequestError) as refused:
        openai.parse(body)
    assert place in str(refused.value)


def test_the_prompt_digest_sees_the_prompt_alone() -> None:
    """A loop that varies its seed is still the same prompt again."""
    same = [openai.parse(request(seed=seed, user=str(seed))).prompt_digest for seed in (1, 2)]
    other = openai.parse(request(messages=[])).prompt_digest
    assert same[0] == same[1] != other


def sse(*chunks: object) -> bytes:
    return b"".join(
        b"data: " + (c if isinstance(c, bytes) else json.dumps(c).encode()) + b"\n\n" for c in chunks
    )


CONTENT = {"choices": [{"delta": {"content": "häh"}}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0}}
OPENAI_STREAM = b": ping\n\n" + sse(CONTENT, CONTENT, USAGE, b"[DONE]")
OLLAMA_STREAM = (
    b'{"message":{"content":"a"},"done":false}\n{"done":true,"prompt_eval_count":3,"eval_count":0}\n'
)


@given(st.lists(st.integers(0, len(OPENAI_STREAM)), max_size=12), st.booleans(), st.booleans())
def test_an_openai_stream_is_read_the_same_however_it_is_cut(cuts: list[Any], keep: bool, crlf: bool) -> None:
    """Chunk borders fall anywhere; the client gets every byte but the usage it had not asked for."""
    stream = OPENAI_STREAM.replace(b"\n", b"\r\n") if crlf else OPENAI_STREAM
    ask = openai.parse(request(stream=True, stream_options={"include_usage": keep}))
    meter, passed, borders = openai.meter(ask), b"", [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(borders):
        passed += meter.feed(stream[start:end])
    passed += meter.finish()
    dropped = sse(USAGE).replace(b"\n", b"\r\n") if crlf else sse(USAGE)
    assert passed == (stream if keep else stream.replace(dropped, b""))
    assert (meter.usage, meter.chunks, meter.complete, meter.failed) == (TokenUsage(7, 0), 2, True, False)


@given(st.lists(st.integers(0, len(OLLAMA_STREAM)), max_size=12), st.booleans())
def test_an_ollama_stream_is_read_the_same_however_it_is_cut(cuts: list[Any], newline_at_end: bool) -> None:
    """The last line counts, with or without its newline; a count of 0 is 0."""
    stream = OLLAMA_STREAM if newline_at_end else OLLAMA_STREAM[:-1]
    meter, passed, borders = ollama.meter(ollama.parse(request())), b"", [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(borders):
        passed += meter.feed(stream[start:end])
    passed += meter.finish()
    assert passed == stream
    assert (meter.usage, meter.chunks, meter.complete) == (TokenUsage(3, 0), 1, True)


def test_usage_that_rides_on_a_content_chunk_is_read_and_left_alone() -> None:
    """Some servers put it beside the last choice; taking that chunk out would lose content."""
    last = sse({**CONTENT, "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    meter = openai.meter(openai.parse(request(stream=True)))
    assert meter.feed(last) == last
    assert meter.usage == TokenUsage(1, 2)


def test_an_error_inside_a_stream_is_noticed_and_passed_on() -> None:
    """The client hears it in the upstream's words."""
    error = sse({"error": {"message": "out of memory"}})
    meter = openai.meter(openai.parse(request(stream=True)))
    assert meter.feed(error) == error
    assert meter.failed
    lines = ollama.meter(ollama.parse(request()))
    lines.feed(b'{"error":"out of memory"}\n')
    assert lines.failed


def test_an_absent_count_is_not_zero() -> None:
    """None where the upstream said nothing (ollama#3427: cached prompts), 0 where it said 0."""
    assert ollama.usage(b'{"done":true,"eval_count":4}') == TokenUsage(None, 4)
    assert ollama.usage(b'{"done":true}') is None
    assert openai.usage(b'{"usage":{"prompt_tokens":0,"completion_tokens":0}}') == TokenUsage(0, 0)
    assert openai.usage(b'{"choices":[]}') is None
    assert openai.usage(b"<html>") is None
    assert openai.usage(b'{"usage":{"prompt_tokens":-5,"completion_tokens":1}}') is None


def test_an_endless_event_is_passed_on_in_pieces() -> None:
    """Nothing an upstream sends makes the gateway's memory grow."""
    splitter = EventSplitter(SSE_BOUNDARY, max_event_bytes=10)
    assert splitter.feed(b"data: 1234567890") == [b"data: 1234567890"]
    assert splitter.feed(b"tail\n\nnext") == [b"tail\n\n"]
    assert splitter.rest() == b"next"
