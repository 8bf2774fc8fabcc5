"""What is decided the quick way in nearly every turn is decided as the long way would."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from epad.configuration.schema import BudgetConfig
from epad.configuration.server_kinds import (
    CHAT,
    EMBEDDINGS,
    MESSAGES,
    OLLAMA_CHAT,
    RESPONSES,
    SERVERS,
    TEXT,
    Server,
)
from epad.gateway import server_detection, server_fields
from epad.gateway.dialects import body as json_body
from epad.gateway.dialects import history as histories
from epad.gateway.dialects.counts import Counts
from epad.gateway.dialects.events import EventStream
from epad.gateway.dialects.openai_answer import OpenAI
from epad.gateway.dialects.openai_choices import Hearing
from epad.gateway.dialects.openai_chunks import ChunkStream
from epad.gateway.dialects.reply import Reply
from epad.gateway.form import Form, form_of
from epad.gateway.http.message import Fields as HeaderFields
from epad.gateway.limits import Meter, Scope, WindowShape
from epad.gateway.server_fields import Fields

_SERVERS = st.sampled_from(sorted(SERVERS.values(), key=lambda server: server.name))
_ROUTES = st.sampled_from([CHAT, TEXT, EMBEDDINGS, RESPONSES, MESSAGES, OLLAMA_CHAT])
_NAMES = st.sampled_from([
    "model", "messages", "stream", "temperature", "max_tokens", "max_completion_tokens", "n", "best_of", "options",
    "keep_alive", "tools", "n_predict", "service_tier", "Max_Tokens", "never_heard_of", "stream_options", "num_predict",
])  # fmt: skip


@given(_SERVERS, _ROUTES, st.lists(_NAMES, unique=True))
def test_usual_fields_are_those_of_which_none_is_looked_at(
    server: Server, route: str, names: list[str]
) -> None:
    if server_fields.are_usual(server, route, names):
        fields = server_fields.screen(server, route, {name: Raw(b"7") for name in names})
        assert fields == Fields(caps=fields.caps)


def test_what_most_clients_send_is_usual_and_what_multiplies_is_not() -> None:
    usual = ["model", "messages", "stream", "temperature", "max_tokens"]
    for server in SERVERS.values():
        assert server_fields.are_usual(server, CHAT, usual)
        for name in ("n", "never_heard_of", "Max_Tokens", "options"):
            assert not server_fields.are_usual(server, CHAT, [*usual, name])


_KEYS = st.sampled_from(["a", "b", "model", "mo\\u0064el", 'q\\"', "é", ""])
_VALUES = st.sampled_from([
    "1", "null", '""', '"a\\"b"', "[1, 2]", "[1,2]", '{"a":1}', '{"a": 1}', '", "', '","', "true", '"é"',
])  # fmt: skip


@given(
    st.lists(st.tuples(_KEYS, _VALUES), max_size=5),
    st.sampled_from([":", ": ", " : ", ":\n"]),
    st.sampled_from([",", ", ", " , ", ",\n"]),
    st.sampled_from(["", " ", "\n"]),
)
@example([("a", "1"), ("a", "1")], ": ", ",", "")
@example([("a", "1"), ("b", "2"), ("a", "1")], ":", ",", "")
def test_a_field_that_stands_there_twice_is_noticed_however_it_is_written(
    fields: list[tuple[str, str]], colon: str, comma: str, margin: str
) -> None:
    written = comma.join(f'"{name}"{colon}{value}' for name, value in fields)
    text = f"{margin}{{{margin}{written}{margin}}}{margin}".encode()
    pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    values = json_body._decode_fields(text)
    once = len({name for name, _ in pairs}) == len(pairs)
    assert json_body.has_each_once(text, values) is once
    assert (json_body._spans(text, values) is not None) is once


_AMOUNTS = st.lists(
    st.tuples(st.integers(0, 60), st.floats(0, 300), st.sampled_from(["spend", "reserve", "settle"]))
)


@given(st.integers(0, 120), st.integers(0, 120), _AMOUNTS, st.integers(0, 130), st.floats(0, 400))
def test_an_amount_fits_where_no_limit_is_crossed(
    short: int, long: int, before: list[tuple[int, float, str]], amount: int, now: float
) -> None:
    meter = Meter("a", {WindowShape("short", 40.0, 4): short, WindowShape("long", 200.0, 8): long})
    for size, at, what in before:
        if what == "spend":
            meter.spend(size, at, at)
        elif what == "reserve":
            meter.reserved += size
        else:
            meter.settle(min(size, meter.reserved), size, at)
    refused = meter.too_large(amount, now) or meter.refuses(amount, now)
    assert meter.fits(amount, now) is (refused is None)


@given(
    st.builds(
        BudgetConfig,
        tokens_per_minute=st.integers(0, 300),
        usd_per_hour=st.sampled_from([0.0, 0.0001]),
        requests_per_minute=st.integers(0, 4),
        max_in_flight=st.integers(0, 4),
    ),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), max_size=5),
    st.integers(0, 320),
    st.integers(0, 120),
)
def test_a_turn_fits_where_no_limit_of_the_scope_is_crossed(
    limits: BudgetConfig, turns: list[tuple[int, int]], tokens: int, microusd: int
) -> None:
    scope = Scope("a", limits)
    for held in turns:
        scope.hold(*held, 0.0)
    slowly = (
        scope.tokens.too_large(tokens, 1.0)
        or scope.money.too_large(microusd, 1.0)
        or scope.crowded(1.0)
        or scope.tokens.refuses(tokens, 1.0)
        or scope.money.refuses(microusd, 1.0)
    )
    assert scope.fits(tokens, microusd, 1.0) is (slowly is None)
    assert (scope.refuses(tokens, microusd, 1.0) is None) is (slowly is None)


@given(st.sampled_from(['"user"', '"\\u0075ser"', '"assistant"', "null", "7", '"system"', '"user "']))
def test_a_role_that_was_read_already_says_whose_a_message_is(role: str) -> None:
    message = f'{{"role":{role},"content":"hi"}}'.encode()
    assert histories._is_users(message, Raw(role.encode())) is histories._is_users(message, None)


@given(
    st.lists(st.sampled_from(["ab", "Round", " ", "7", "0f", "-", ":", ".", "{", '"', "é", "q" * 18, "T"]))
)
@example(["request ", "ffffffff-ffff-ffff-ffff-fffffffffffb", " failed"])
@example(["see ", "123e4567-e89b-12d3-a456-426614174000", " of 2026-11-28T23:45:01+01:00, a7"])
def test_numbers_are_left_out_word_by_word_as_they_are_from_the_whole(pieces: list[str]) -> None:
    message = "".join(pieces).encode()
    whole = histories._NUMBERED.sub(b"0", message.rstrip(histories._PADDING))
    assert histories._unnumbered(message) == whole


@given(st.sampled_from([b"", b" ", b"\xef\xbb\xbf", b"\r\n"]), st.booleans(), st.booleans(), st.booleans())
def test_an_object_is_one_body_unless_a_stream_was_asked_for(
    margin: bytes, asked: bool, lines: bool, ended: bool
) -> None:
    form = form_of(margin + b'{"id":', asked=asked, lines=lines, ended=ended)
    assert form is (None if asked and not ended else Form.WHOLE)


_DELTAS = st.sampled_from([
    {"content": "Hello"}, {"content": ""}, {"content": None}, {"role": "assistant", "content": "", "refusal": None},
    {"content": "é \n\n data: [DONE]"}, {"reasoning_content": "hm"}, {"reasoning_content": "", "content": "x"},
    {"content": ["part"]}, {"refusal": "no"}, {"content": "a", "strange": "b"}, {},
    {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}, {"content": 'a "usage" of it'},
])  # fmt: skip
_CHOICES = st.fixed_dictionaries(
    {"delta": _DELTAS},
    optional={
        "index": st.sampled_from([0, 0, 0, 1]),
        "finish_reason": st.sampled_from([None, None, "stop", ""]),
        "logprobs": st.just(None),
        "text": st.none(),
    },
)
_CHUNKS = st.fixed_dictionaries(
    {"choices": st.lists(_CHOICES, min_size=0, max_size=2)},
    optional={
        "id": st.just("chatcmpl-1"),
        "usage": st.sampled_from([None, {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}]),
        "error": st.sampled_from([None, {"message": "broken"}]),
        "timings": st.just({"ms": 1}),
    },
)
_EVENTS = st.one_of(
    st.builds(lambda chunk: b"data: " + json.dumps(chunk).encode() + b"\n\n", _CHUNKS),
    st.sampled_from([b": ping\n\n", b"data: [DONE]\n\n", b"data: {\r\n\r\n", b"event: x\ndata: {}\n\n"]),
)


def _stream(*, keep_usage: bool) -> ChunkStream:
    return ChunkStream(OpenAI(), b'"delta"', keep_usage=keep_usage)


@given(st.lists(_EVENTS, max_size=24), st.booleans(), st.integers(1, 2_000))
def test_a_stream_is_read_in_whole_pieces_as_it_is_event_by_event(
    events: list[bytes], keep_usage: bool, size: int
) -> None:
    quick, slow, data = _stream(keep_usage=keep_usage), _stream(keep_usage=keep_usage), b"".join(events)
    passed = b"".join(quick.feed(data[at : at + size]) for at in range(0, len(data), size)) + quick.finish()
    passed_slowly = b"".join(EventStream.feed(slow, event) for event in events) + slow.finish()
    assert passed == passed_slowly
    assert quick.seen() == slow.seen()
    assert (quick.usage, quick.chunks, quick.complete, quick.failed) == (
        slow.usage, slow.chunks, slow.complete, slow.failed,
    )  # fmt: skip
    assert quick.reply.digest() == slow.reply.digest()


@given(st.lists(st.builds(lambda choice: {"choices": [choice]}, _CHOICES), min_size=1, max_size=24))
def test_chunks_are_heard_together_as_they_are_field_by_field(chunks: list[dict[str, Any]]) -> None:
    together, loosely = _stream(keep_usage=True), Hearing(Reply())
    together.feed(b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks))
    for chunk in chunks:
        loosely.hear_loosely(chunk)
    assert together._choice_bytes() == loosely.choice_bytes()
    assert together.reply.digest() == loosely.reply.digest()


def test_plain_chunks_need_no_second_reading() -> None:
    """Else the quick way would be none, and nobody would notice."""
    read = 0

    def loosely(self: Hearing, answer: object) -> None:
        nonlocal read
        read += 1

    stream = _stream(keep_usage=False)
    stream._hearing.hear = loosely.__get__(stream._hearing)  # type: ignore[method-assign]  # counts the calls
    stream.feed(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n' * 40)
    assert stream.most_tokens() == 40
    assert read == 0


@given(
    st.dictionaries(st.sampled_from(["a", "b", "model"]), st.integers()),
    st.dictionaries(st.sampled_from(["b", "c", "stream_options"]), st.sampled_from([b"1", b'{"d":2}'])),
)
def test_fields_are_added_at_the_end_as_they_are_where_something_follows(
    fields: dict[str, int], edits: dict[str, bytes]
) -> None:
    text = json.dumps(fields).encode()
    at_once = json_body.read_object(text, frozenset()).splice(edits)
    assert json_body.read_object(text + b"\n", frozenset()).splice(edits) == at_once + b"\n"
    assert json.loads(at_once) == {**fields, **{name: json.loads(value) for name, value in edits.items()}}


_COUNT = st.none() | st.integers(0, 50)


@given(st.integers(0, 50), st.integers(0, 50), _COUNT, _COUNT)
def test_plain_counts_say_what_they_say_with_everything_looked_at(
    tokens: int, output: int, total: int | None, reasoning: int | None
) -> None:
    usage = Counts(tokens, output, total, reasoning=reasoning).usage()
    of_total = output if total is None else max(output, total - tokens)
    beside = output + (reasoning or 0) if total is None and (reasoning or 0) > output else of_total
    assert (usage.input_tokens, usage.output_tokens) == (tokens, beside)


@given(
    st.dictionaries(st.sampled_from(["Server", "Openai-Processing-Ms", "Date", "Via"]), st.just("llama.cpp"))
)
def test_a_head_that_may_tell_no_server_tells_none(head: dict[str, str]) -> None:
    fields = HeaderFields([(name.encode(), value.encode()) for name, value in head.items()])
    if not server_detection.may_tell(fields):
        assert server_detection.detect_by_head(fields) is None
    assert server_detection.may_tell(fields) is bool(head.keys() & {"Server", "Openai-Processing-Ms"})
