"""The other routes of each dialect: what is written into a request, what bounds it, how its answer is counted."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from asking import LIMITS, USUAL, Asked
from hypothesis import given
from hypothesis import strategies as st
from model_server import STREAMS, answer_of, stream_of

from epad.gateway import refusal
from epad.gateway.dialects.body import read_object
from epad.gateway.dialects.dialect import Endpoint, Habits
from epad.gateway.dialects.routes import Routes
from epad.gateway.dialects.usage import FREE, TokenUsage
from epad.gateway.errors import RequestError

ROUTES = Routes(LIMITS)
CAPS = {
    "/v1/chat/completions": ("max_tokens",), "/v1/completions": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",), "/v1/messages": ("max_tokens",),
    "/api/chat": ("options", "num_predict"), "/api/generate": ("options", "num_predict"),
}  # fmt: skip
USAGE = {
    "/v1/chat/completions": TokenUsage(7, 5), "/v1/completions": TokenUsage(7, 5),
    "/v1/embeddings": TokenUsage(7, 0), "/v1/responses": TokenUsage(7, 5, cached_read_tokens=4, reasoning_tokens=2),
    "/v1/messages": TokenUsage(7, 5, cached_read_tokens=3, cache_write_tokens=1),
    "/v1/messages/count_tokens": FREE, "/api/chat": TokenUsage(7, 5), "/api/generate": TokenUsage(7, 5),
    "/api/embed": TokenUsage(7, 0),
}  # fmt: skip
NEEDED: dict[str, Any] = {"model": "m", "messages": [], "prompt": "hi", "input": "hi"}


def endpoint_of(path: str) -> Endpoint:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    return endpoint


def parse(path: str, habits: Habits = USUAL, **fields: Any):
    endpoint = endpoint_of(path)
    needed = {name: value for name, value in NEEDED.items() if "embed" not in path or name != "messages"}
    return Asked(endpoint, json.dumps({**needed, **fields}).encode(), habits)


def wished(path: str, cap: int) -> dict[str, Any]:
    *outer, name = CAPS[path]
    return {outer[0]: {name: cap, "seed": 1}} if outer else {name: cap}


@pytest.mark.parametrize("path", CAPS)
@pytest.mark.parametrize(("wish", "cap"), [(None, 100), (-1, 100), (5, 5), (9_999, 1_000)])
def test_the_cap_is_written_where_the_dialect_has_it(path: str, wish: int | None, cap: int) -> None:
    """Absent, without limit, or too large: the upstream is told what was reserved for, and nothing else."""
    fields = {} if wish is None else wished(path, wish)
    ask = parse(path, **fields)
    written = json.loads(ask.body)
    assert ask.output_cap == cap
    value = written
    for name in CAPS[path]:
        value = value[name]
    assert value == cap
    expected = {**NEEDED, **(fields if wish is not None else wished(path, cap))}
    assert {k: v for k, v in written.items() if k != CAPS[path][0]} == {
        k: v for k, v in expected.items() if k != CAPS[path][0]
    }


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(
    st.dictionaries(st.text(max_size=6), values, max_size=6),
    st.dictionaries(st.sampled_from(["max_tokens", "x", "\u00fc", 'q"']), st.integers(0, 9), max_size=4),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r ")]),
    st.booleans(),
)
def test_splicing_changes_the_edited_values_and_not_a_byte_beside_them(
    fields: dict[str, Any],
    edits: dict[str, Any],
    indent: int | None,
    separators: tuple[Any, ...],
    ascii_only: bool,
) -> None:
    """Spacing, key order, escapes and number spellings are the client's."""
    text = json.dumps(fields, indent=indent, separators=separators, ensure_ascii=ascii_only)
    body = f" {text}\n".encode("utf-8", "replace")
    if json.loads(body) != fields:
        return  # a lone surrogate
    document = read_object(body, frozenset())
    written = document.splice({name: str(value).encode() for name, value in edits.items()})
    assert json.loads(written) == {**fields, **edits}
    assert list(json.loads(written)) == [*fields, *(name for name in edits if name not in fields)]
    back = read_object(written, frozenset())
    restored = back.splice({name: document.raw(name) for name in edits if name in fields})
    if all(name in fields for name in edits):
        assert restored == body
    else:
        assert restored.startswith(body[: body.rindex(b"}")].rstrip())


@given(
    st.sampled_from(sorted(CAPS)),
    st.dictionaries(st.text("xyz_", min_size=1), values, max_size=4),
    st.booleans(),
)
def test_fields_that_nobody_knows_reach_the_upstream_as_they_came(
    path: str, extra: dict[str, Any], stream: bool
) -> None:
    """The forwarded body is the client's but for the cap and the wish for usage."""
    ask = parse(path, **extra, stream=stream)
    sent, forwarded = {**NEEDED, **extra, "stream": stream}, json.loads(ask.body)
    added = {CAPS[path][0], "stream_options"}
    assert {k: v for k, v in forwarded.items() if k not in added} == sent
    assert (forwarded.get("stream_options") == {"include_usage": True}) == (stream and "completions" in path)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [("/api/chat", b'{"model":"m","OPTIONS":{"num_predict":9999}}', "OPTIONS"),
     ("/api/chat", b'{"model":"m","option\xc5\xbf":{"num_predict":9999}}', "options"),
     ("/v1/chat/completions", b'{"model":"m","messages":[],"max_tokens":5,"Max_Tokens":9999}', "Max_Tokens"),
     ("/v1/chat/completions", b'{"model":"m","messages":[],"max_tokens":5,"max_tokens":9999}', "twice"),
     ("/v1/chat/completions", b'{"model":"m","messages":[],"max_tokens":5,"max_\\u0074okens":5}', "twice"),
     ("/api/generate", b'{"model":"m","options":{"num_predict":1,"num_predict":1}}', "options has a field twice"),
     ("/v1/responses", b'{"model":"a","input":"","model":"b"}', "twice")],
)  # fmt: skip
def test_a_cap_is_not_smuggled_past(path: str, body: bytes, words: str) -> None:
    """Go reads names in any case, and parsers differ about duplicates; what two may read differently is refused."""
    endpoint = endpoint_of(path)
    with pytest.raises(RequestError, match=words):
        endpoint.parse(body)


CHAT, TEXT, IMAGES = "/v1/chat/completions", {"type": "text", "text": "x"}, ["aGk="]


def said(*parts: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts), **fields}]


@pytest.mark.parametrize(
    ("path", "fields", "key"),
    [("/api/chat", {"messages": said(Images=IMAGES)}, "messages: Images"),
     ("/api/chat", {"messages": [{"x": 1, "image\u017f": IMAGES}]}, "messages: image\u017f"),
     (CHAT, {"messages": said(TEXT, Content=[{"type": "image_url"}])}, "messages: Content"),
     (CHAT, {"messages": said(TEXT, AUDIO={"id": "a"})}, "messages: AUDIO"),
     (CHAT, {"messages": said(TEXT, {**TEXT, "Type": "image_url"})}, "messages: Type"),
     (CHAT, {"messages": said({**TEXT, "Image_URL": {}})}, "messages: Image_URL"),
     ("/v1/messages", {"messages": said(TEXT, CONTENT=[{"type": "image"}])}, "messages: CONTENT"),
     ("/v1/messages", {"messages": said({"type": "tool_result", "content": [{"Type": "image"}]})}, "messages: Type"),
     ("/v1/messages", {"tools": [{"type": "custom", "tYPE": "web_search_20250305"}]}, "tools: tYPE"),
     ("/v1/messages", {"context_management": {"edits": [{"type": "clear_x", "Type": "compact"}]}}, "edits: Type"),
     ("/v1/responses", {"input": said(Content=[{"type": "input_image"}])}, "input: Content"),
     ("/v1/responses", {"input": said({**TEXT, "Type": "input_image"})}, "input: Type"),
     ("/v1/responses", {"tools": [{"type": "function", "TYPE": "mcp"}]}, "tools: TYPE")],
)  # fmt: skip
def test_what_is_not_text_is_not_smuggled_in_under_another_case(
    path: str, fields: dict[str, Any], key: str
) -> None:
    """An image under `Images` would be unbounded where nobody looked for it; the error names the key and its place."""
    written = key.split()[1].casefold()
    with pytest.raises(
        RequestError, match=f"^{key}: some servers take it for '{written}'; write '{written}'$"
    ):
        parse(path, **fields, prompt=None)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        (CHAT, "messages", "image_url"),
        ("/v1/messages", "messages", "image"),
        ("/v1/responses", "input", "input_image"),
    ],
)
def test_keys_that_nobody_knows_change_nothing(path: str, name: str, kind: str, image: bool) -> None:
    """In a message and in a part of one: they pass, and what is beside them is text or an image, as it was."""
    messages = said(
        {**TEXT, "x_new": 1}, {"type": kind if image else "text", "x_new": {"Type": 1}}, x_new=[{"Type": 1}]
    )
    fields: dict[str, Any] = {name: messages}
    ask = parse(path, **fields, prompt=None)
    assert (ask.prompt_bound is None) == image
    assert json.loads(ask.body)[name] == messages


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [("/v1/responses", {"background": True}, "background"), ("/v1/responses", {"tools": [{"type": "mcp"}]}, "mcp"),
     ("/v1/responses", {"context_management": [{"type": "compaction"}]}, "summary"),
     ("/v1/messages", {"tools": [{"type": "web_fetch_20250910"}]}, "web_fetch"),
     ("/v1/messages", {"mcp_servers": []}, "mcp"),
     ("/v1/messages", {"context_management": {"edits": [{"type": "compact_20260112"}]}}, "summary"),
     ("/v1/messages", {"messages": None}, "messages"), ("/v1/completions", {"prompt": None}, "prompt"),
     ("/v1/embeddings", {"input": {}}, "input"), ("/v1/completions", {"n": 999}, "n:")],
)  # fmt: skip
def test_what_nothing_bounds_is_refused(path: str, fields: dict[str, Any], words: str) -> None:
    """Tools that run at the server ask the model as often as they like."""
    with pytest.raises(RequestError, match=words):
        parse(path, **fields)


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/v1/responses", {"previous_response_id": "r"}), ("/v1/responses", {"input": [{"type": "item_reference"}]}),
     ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
     ("/v1/responses", {"input": [{"type": "function_call_output", "output": [{"type": "input_file"}]}]}),
     ("/v1/messages", {"messages": [{"content": [{"type": "image"}]}]}),
     ("/v1/messages", {"tools": [{"type": "bash_20250124"}]}),
     ("/v1/messages", {"messages": [{"content": [{"type": "tool_result", "content": [{"type": "image"}]}]}]}),
     ("/api/generate", {"images": ["aGk="]}), ("/api/generate", {"template": "{{ .Prompt }}{{ .Prompt }}"}),
     ("/v1/completions", {"prompt_embeds": "aGk="})],
)  # fmt: skip
def test_what_bytes_do_not_bound_needs_the_context(path: str, fields: dict[str, Any]) -> None:
    """Images, the server's own memory, templates: as much as fits the model, and no less."""
    assert parse(path, **fields).prompt_tokens(0) is None
    assert parse(path, **fields).prompt_tokens(8_192) == 8_192


def test_several_prompts_each_fill_a_context_of_their_own() -> None:
    """A context of 10 tokens bounds each of three prompts, not all of them; each is answered n times."""
    texts = ["x" * 50] * 3
    ask = parse("/v1/completions", prompt=texts, n=2, max_tokens=5)
    assert (ask.prompt_tokens(10), ask.output_tokens) == (30, 30)
    assert parse("/v1/completions", prompt=list(range(40)), max_tokens=5).prompt_tokens(10) == 10
    assert parse("/v1/completions", prompt=[[1, 2], [3]], max_tokens=5).output_tokens == 10
    assert parse("/v1/embeddings", input=texts).prompt_tokens(10) == 30
    assert parse("/api/embed", input=texts).prompt_tokens(10) == 30
    assert (
        parse("/v1/embeddings", input=texts).output_tokens,
        parse("/api/embed", input="x").output_tokens,
    ) == (0, 0)


def test_a_context_that_the_client_enlarges_is_reserved_for() -> None:
    """Ollama's num_ctx beats what is configured when it is the larger."""
    assert parse("/api/generate", images=["aGk="], options={"num_ctx": 9_000}).prompt_tokens(4_096) == 9_000
    assert parse("/api/generate", images=["aGk="], options={"num_ctx": 5}).prompt_tokens(4_096) == 4_096


def test_scoring_a_prompt_asks_for_no_token_or_for_one_where_none_means_all() -> None:
    """Echo with max_tokens 0; without echo it means no wish."""
    assert parse("/v1/completions", max_tokens=0, echo=True).output_cap == 1
    takes_none = parse("/v1/completions", Habits(zero_is_none=True), max_tokens=0, echo=True)
    assert (takes_none.output_cap, json.loads(takes_none.body)["max_tokens"]) == (0, 0)
    assert parse("/v1/completions", max_tokens=0).output_cap == 100


@pytest.mark.parametrize("path", USAGE)
def test_a_whole_answers_usage_by_its_dialects_own_rule(path: str) -> None:
    """Cached tokens are among OpenAI's and beside Anthropic's; here both are among the input."""
    body = json.dumps(answer_of(path, {"model": "m"})).encode()
    endpoint = endpoint_of(path)
    assert endpoint.usage(body) == USAGE[path]
    assert endpoint.usage(b"<html>") == (FREE if "count" in path else None)


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 2_000), max_size=8), st.booleans(), st.booleans())
def test_a_stream_is_read_the_same_however_it_is_cut(
    path: str, cuts: list[Any], crlf: bool, asked: bool
) -> None:
    """Every dialect's events, wherever chunk borders fall; the client gets what it would have had without us."""
    wish = {"include_usage": asked}
    ask = parse(path, stream=True, stream_options=wish)
    words = ["a", " \u00fc"]
    sent = b"".join(itertools.chain(*stream_of(path, json.loads(ask.body), words)))
    due = b"".join(itertools.chain(*stream_of(path, {"model": "m", "stream_options": wish}, words)))
    if crlf:
        sent, due = sent.replace(b"\n", b"\r\n"), due.replace(b"\n", b"\r\n")
    meter, passed = endpoint_of(path).meter(ask), b""
    for start, end in itertools.pairwise([0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]):
        passed += meter.feed(sent[start:end])
    assert passed + meter.finish() == due
    assert (meter.usage, meter.chunks, meter.complete, meter.failed) == (USAGE[path], 2, True, False)


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_broken_off_has_no_count_of_its_output_yet(path: str) -> None:
    """Anthropic's first event says 1, which is not what came."""
    ask = parse(path, stream=True)
    head, words, _ = stream_of(path, json.loads(ask.body), ["a", "b", "c"])
    meter = endpoint_of(path).meter(ask)
    meter.feed(b"".join(head + words))
    assert meter.usage is None or (path == "/v1/messages" and meter.usage.output_tokens is None)
    assert (meter.chunks, meter.complete) == (3, False)


@pytest.mark.parametrize(
    ("path", "event"),
    [("/v1/responses", b'event: error\ndata: {"type":"error","code":"x","message":"m"}\n\n'),
     ("/v1/responses", b'data: {"type":"response.failed","response":{"error":{"code":"x"}}}\n\n'),
     ("/v1/messages", b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'),
     ("/v1/completions", b'data: {"error":{"message":"m"}}\n\n'), ("/api/generate", b'{"error":"m"}\n')],
)  # fmt: skip
def test_an_upstreams_error_in_a_stream_is_noticed_and_passed_on(path: str, event: bytes) -> None:
    """In its own words."""
    meter = endpoint_of(path).meter(parse(path))
    assert meter.feed(event) == event
    assert meter.failed


def test_loading_a_model_costs_nothing() -> None:
    """An empty prompt generates nothing, and the answer has no counts for that reason."""
    endpoint = endpoint_of("/api/generate")
    assert endpoint.usage(b'{"done":true,"done_reason":"load"}') == FREE
    assert endpoint.usage(b'{"done":true,"done_reason":"stop"}') is None


def test_anthropics_errors_have_its_own_types() -> None:
    """A client's exception is chosen by status, its message read from there; a stream's end is the error alone."""
    said = refusal.invalid_request("no")
    dialect = ROUTES.dialect("/v1/messages", {})
    assert json.loads(dialect.error_body(said))["error"]["type"] == "invalid_request_error"
    assert json.loads(dialect.error_body(refusal.LEDGER_UNAVAILABLE))["error"]["type"] == "api_error"
    cut = endpoint_of("/v1/messages").meter(parse("/v1/messages")).cut(said)
    assert cut.startswith(b"event: error\ndata: {")
    assert cut.count(b"\n\n") == 1


def test_who_is_asking_shows_in_the_route_or_the_header() -> None:
    """Both Anthropic and OpenAI list their models at the same place."""
    header = {"anthropic-version": "2023-06-01"}
    names = [ROUTES.dialect(path, said).name for path, said in [
        ("/v1/models", {}), ("/v1/models", header), ("/v1/messages/batches", {}), ("/api/x", {}),
        ("/v1/chat/completions", header),
    ]]  # fmt: skip
    assert names == ["openai", "anthropic", "anthropic", "ollama", "openai"]
    listed = [ROUTES.lookup("GET", "/v1/models", said) for said in ({}, header)]
    assert [lookup and lookup.dialect.name for lookup in listed] == ["openai", "anthropic"]
    assert ROUTES.lookup("POST", "/v1/models", {}) is None
    assert ROUTES.endpoint("GET", "/v1/messages") is None
