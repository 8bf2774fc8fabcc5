"""Caps, choices and options: what is read of them, and what is written, whatever they are called."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS
from hypothesis import given
from hypothesis import strategies as st

from epad.gateway.dialects.body import read_object
from epad.gateway.dialects.caps import CAP_NAMES, cap_edits, options_of, read_caps, wish_of
from epad.gateway.dialects.dialect import Habits
from epad.gateway.dialects.openai import ChatCompletions, OpenAI
from epad.gateway.dialects.openai_text import Completions
from epad.gateway.errors import RequestError

_CHAT = ChatCompletions(OpenAI(), LIMITS)
_SAID: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def written(cap: int, habits: Habits | None = None, **fields: Any) -> dict[str, Any]:
    ask = _CHAT.parse(json.dumps({**_SAID, **fields}).encode())
    body: dict[str, Any] = json.loads(_CHAT.write(ask, cap, habits or Habits()))
    return body


_LIKE_A_NUMBER = ["5", 5.0, 1e3, True, [5], {"n": 5}]


@pytest.mark.parametrize("name", CAP_NAMES)
@pytest.mark.parametrize("value", _LIKE_A_NUMBER)
def test_a_cap_that_is_no_whole_number_is_refused_at_every_name(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=name):
        _CHAT.parse(json.dumps({**_SAID, name: value}).encode())


@pytest.mark.parametrize("value", _LIKE_A_NUMBER)
def test_so_is_one_among_the_options(value: object) -> None:
    with pytest.raises(RequestError, match="num_predict"):
        _CHAT.parse(json.dumps({**_SAID, "options": {"num_predict": value}}).encode())


@given(
    given_caps=st.dictionaries(st.sampled_from(CAP_NAMES), st.one_of(st.none(), st.integers()), max_size=4),
    options=st.dictionaries(st.sampled_from(CAP_NAMES), st.integers(), max_size=2),
    cap=st.integers(1, 5_000),
    obeyed=st.sampled_from([("max_tokens",), ("max_completion_tokens", "max_tokens"), ("n_predict",)]),
)
def test_no_cap_that_is_written_is_larger_and_one_that_is_obeyed_is_there(
    given_caps: dict[str, int | None], options: dict[str, int], cap: int, obeyed: tuple[str, ...]
) -> None:
    body = written(cap, Habits(obeyed), **given_caps, options=options)
    caps = {name: body[name] for name in CAP_NAMES if body.get(name) is not None}
    assert all(0 < value <= cap for value in [*caps.values(), *body["options"].values()])
    assert set(obeyed) & set(caps)
    for name, value in given_caps.items():  # what fits is as it came
        if value is not None and 0 < value <= cap:
            assert body[name] == value


@pytest.mark.parametrize("options", [None, {}, {"num_ctx": 4}, {"num_predict": 3}])
def test_options_that_ask_for_no_more_are_left_as_they_are(options: object) -> None:
    assert written(3, options=options)["options"] == options


def test_null_is_no_cap_and_is_written_over() -> None:
    body = written(7, max_tokens=None, max_completion_tokens=50)
    assert body["max_completion_tokens"] == 7
    assert body["max_tokens"] == 7
    assert written(7, max_tokens=None)["max_tokens"] == 7


def test_the_largest_of_the_caps_is_the_wish_and_a_negative_one_is_none() -> None:
    assert wish_of({"max_tokens": 5, "n_predict": 300}) == 300
    assert wish_of({"max_tokens": -1}) is None
    assert cap_edits({"max_tokens": 10**30}, 9, ("max_tokens",)) == {"max_tokens": b"9"}


def test_completions_cut_options_as_well() -> None:
    endpoint = Completions(OpenAI(), LIMITS)
    ask = endpoint.parse(b'{"prompt":"x","max_tokens":5,"options":{"num_predict":-1}}')
    assert json.loads(endpoint.write(ask, 5, Habits()))["options"] == {"num_predict": 5}


def test_options_of_another_kind_are_nobodys_caps() -> None:
    assert options_of(read_object(b'{"options":[1]}', frozenset())) is None
    assert read_caps(read_object(b'{"max_tokens":null}', frozenset())) == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [(None, {"include_usage": True}), ({"include_usage": False}, {"include_usage": True}),
     ({"continuous_usage_stats": False}, {"continuous_usage_stats": False, "include_usage": True}),
     ({"include_usage": True}, {"include_usage": True})],
)  # fmt: skip
def test_usage_is_asked_for_in_whatever_stream_options_there_are(options: object, said: object) -> None:
    assert written(5, stream=True, stream_options=options)["stream_options"] == said
    not_taken = written(5, Habits(usage_option=False), stream=True, stream_options=options)
    assert not_taken["stream_options"] == options


_FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    "tool",
    [{"type": "web_search"}, {"type": "mcp", "server_url": "x"}, {"type": "browser_search"}, {"type": "live_search"},
     {"type": "connector"}, {"type": "builtin_function", "function": {"name": "$web_search"}},
     {"google_search": {}}, {"type": "openrouter:web_search"}, {"type": None, "code_execution": {}}, {}],
)  # fmt: skip
def test_a_tool_that_runs_at_the_server_is_refused(tool: object) -> None:
    with pytest.raises(RequestError, match="runs at the server"):
        _CHAT.parse(json.dumps({**_SAID, "tools": [_FUNCTION, tool]}).encode())


@pytest.mark.parametrize(
    "tools",
    [None, [], [_FUNCTION], [{**_FUNCTION, "strict": True}], [{"type": "custom", "custom": {"name": "c"}}],
     [{"function": {"name": "f"}}], [{**_FUNCTION, "cache_control": {"type": "ephemeral"}, "own": 1}]],
)  # fmt: skip
def test_a_tool_of_the_clients_own_is_not(tools: object) -> None:
    assert _CHAT.parse(json.dumps({**_SAID, "tools": tools}).encode()).model == "m"
