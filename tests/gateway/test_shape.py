"""A body's structure is counted before it is read: exactly, whatever its strings say, and bounded in every dialect."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.gateway.dialects import history, shape
from epad.gateway.dialects.dialect import OutputLimits
from epad.gateway.dialects.routes import Routes
from epad.gateway.dialects.shape import MAX_BRANCHES, MAX_ENTRIES, MAX_FIELDS, MAX_VALUES, Shape, measure
from epad.gateway.errors import RequestError

ROUTES = Routes(OutputLimits(100, 1_000, 16))
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
LEAVES = st.none() | st.integers() | st.text('\\"{}[],:a\n\u00e9', max_size=12)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('"\\{:,b', max_size=4), inner)
)


def counted(value: Any) -> Shape:
    """The same, from the objects that a decoder makes."""
    inner: Collection[Any]
    if isinstance(value, dict):
        inner, own = value.values(), Shape(1, len(value), max(0, len(value) - 1), len(value))
    elif isinstance(value, list):
        inner, own = value, Shape(1, 0, max(0, len(value) - 1), 0)
    else:
        return Shape(0, 0, 0, int(isinstance(value, str)))
    branches, fields, values, strings = map(
        sum, zip(own[:4], *(counted(each)[:4] for each in inner), strict=True)
    )
    return Shape(branches, fields, values, strings)


@given(JSON, st.booleans(), st.integers(2, 40))
def test_structure_is_counted_exactly(value: Any, ascii_only: bool, window: int) -> None:
    """Wherever a window of the scan ends: in a string, within an escape, between two brackets."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape, "_WINDOW_BYTES", window)
        assert measure(body) == counted(value)


@given(
    st.lists(st.sampled_from(["key", "text", "short"]), max_size=6),
    st.integers(2, 30),
    st.sampled_from(["", " ", "\n \t"]),
)
def test_a_long_key_is_found_wherever_it_ends(kinds: list[str], window: int, space: str) -> None:
    """A long text is none, and a window may end within a key, behind it, or in the white space before its colon."""
    long = "x" * 60
    names = {
        "key": f'"{long}"{space}: 0',
        "text": f'"t"{space}:{space}"{long}"{space}',
        "short": f'"s"{space}:"x:"',
    }
    body = ("{" + ",".join(names[kind] for kind in kinds) + "}").encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape, "_WINDOW_BYTES", window)
        patch.setattr(shape, "MAX_KEY_BYTES", 1)
        assert measure(body).long_key is ("key" in kinds)


def listed(unit: str, count: int) -> bytes:
    return ",".join([unit] * count).encode()


HEAVY = {
    "objects": (CHAT, b'{"model":"m","messages":[%b]}' % listed("{}", MAX_BRANCHES)),
    "lists": ("/v1/completions", b'{"model":"m","prompt":[%b]}' % listed("[]", MAX_BRANCHES)),
    "nested lists": (CHAT, b'{"model":"m","messages":%b%b}' % (b"[" * 200_000, b"]" * 200_000)),
    "nested objects": (MESSAGES, b'{"model":"m","messages":%b1%b}' % (b'{"a":' * 200_000, b"}" * 200_000)),
    "keys": (RESPONSES, b'{"model":"m","input":"x",%b}' % listed('"a":0', MAX_FIELDS)),
    "token ids": ("/v1/completions", b'{"model":"m","prompt":[%b]}' % listed("1", MAX_VALUES + 2)),
    "messages": (CHAT, b'{"model":"m","messages":[%b]}' % listed("{}", MAX_ENTRIES + 1)),
    "messages with odd keys": (CHAT, b'{"model":"m","messages":[%b]}' % listed('{"q":1}', MAX_ENTRIES + 1)),
    "shown messages": ("/api/chat", b'{"model":"m","messages":[%b]}' % listed("{}", MAX_ENTRIES + 1)),
    "parts": (
        CHAT,
        b'{"model":"m","messages":[{"role":"user","content":[%b]}]}' % listed('{"q":1}', MAX_ENTRIES + 1),
    ),
    "blocks": (
        MESSAGES,
        b'{"model":"m","max_tokens":1,"messages":[{"content":[%b]}]}' % listed("{}", MAX_ENTRIES + 1),
    ),
    "tools": (
        MESSAGES,
        b'{"model":"m","max_tokens":1,"messages":[],"tools":[%b]}' % listed("{}", MAX_ENTRIES + 1),
    ),
    "items": (RESPONSES, b'{"model":"m","input":[%b]}' % listed("{}", MAX_ENTRIES + 1)),
    "texts": ("/v1/embeddings", b'{"model":"m","input":[%b]}' % listed('"x"', MAX_ENTRIES + 1)),
    "shown texts": ("/api/embed", b'{"model":"m","input":[%b]}' % listed('"x"', MAX_ENTRIES + 1)),
    "fields of the body": (
        CHAT,
        b'{"model":"m","messages":[],%b}' % b",".join(b'"%x":0' % n for n in range(MAX_ENTRIES)),
    ),
    "strings": (CHAT, b'{"model":"m","messages":[],"x":[%b]}' % listed('""', shape.MAX_STRINGS)),
    "a long key within": (
        CHAT,
        b'{"model":"m","messages":[{"%b":0,"content":"%b"}]}' % (b"x" * 70_000, b"y" * 600_000),
    ),
    "a long key": (CHAT, b'{"model":"m","messages":[],"%b":0}' % (b"x" * 2_000)),
    "a long name": (CHAT, b'{"model":"%b","messages":[]}' % (b"x" * (2 << 20))),
    "blocks in blocks": (
        MESSAGES,
        b'{"model":"m","max_tokens":1,"messages":[{"content":%b""%b}]}'
        % (b'[{"type":"tool_result","content":' * 50, b"}]" * 50),
    ),
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_body_is_refused_and_told_what_is_too_many(name: str) -> None:
    """Every reader of every dialect has the bound, and the message says which one it is."""
    path, body = HEAVY[name]
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    with pytest.raises(RequestError, match=r"\d"):
        endpoint.parse(body)


WIDE: dict[str, tuple[str, dict[str, Any]]] = {
    "5,000 messages": (
        CHAT,
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
                }
            ]
            * 5_000
        },
    ),
    "1,000 tools": (
        MESSAGES,
        {
            "max_tokens": 1,
            "messages": [],
            "tools": [
                {
                    "name": "t",
                    "input_schema": {"properties": {f"p{n}": {"type": "string"} for n in range(20)}},
                }
            ]
            * 1_000,
        },
    ),
    "2,048 texts": ("/v1/embeddings", {"input": ["some words"] * 2_048}),
    "2,048 lists of token ids": ("/v1/embeddings", {"input": [[1, 2, 3] * 40] * 2_048}),
    "500,000 token ids": ("/v1/completions", {"prompt": [7] * 500_000}),
    "a text full of JSON": (
        CHAT,
        {"messages": [{"role": "user", "content": json.dumps([{"a": 1}] * 300_000)}]},
    ),
}


@pytest.mark.parametrize("name", WIDE)
def test_what_honest_clients_send_is_read(name: str) -> None:
    """Long chats, many tools, batches of texts, token ids, and JSON within a string, which is only text."""
    path, fields = WIDE[name]
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    assert endpoint.parse(json.dumps({"model": "m", **fields}).encode()).model == "m"


@given(
    st.lists(
        st.sampled_from([
            '"text":"a,b"', '"cache_control":{"type":"ephemeral"}', '"cache_control": null', '"n":{"cache_control":1}',
            '"cache_control":\n{"type":"ephemeral", "ttl":"1h"}',
        ]),
        max_size=6,
    ),
    st.sampled_from([",", ", ", " ,\n"]),
)  # fmt: skip
def test_a_large_message_loses_the_same_marks(fields: list[str], comma: str) -> None:
    """The way for large messages and the one for small ones agree."""
    message = f"{{{comma.join(fields)}}}".encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "_SEARCHED_BYTES", 0)
        assert history._unmarked(message) == history._CACHE_MARK.sub(b"", message)
