"""Which fields are refused: nothing that honest clients send, and all that spends more than is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from asking import LIMITS

from epad.configuration.server_kinds import (
    CHAT,
    EMBEDDINGS,
    GENERIC,
    MESSAGES,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_GENERATE,
    RESPONSES,
    SERVERS,
    TEXT,
    Server,
)
from epad.gateway.dialects.routes import Routes
from epad.gateway.field_policy import FREE_CONTEXT_TOKENS, Asking, Judged, judge, rewritten

_ROUTES = Routes(LIMITS)
_CLIENTS: dict[str, dict[str, list[str]]] = json.loads(
    Path(__file__).with_name("client_fields.json").read_text()
)
_ROWS = [(client, route, fields) for client, routes in _CLIENTS.items() for route, fields in routes.items()]
_MESSAGES = [{"role": "user", "content": "hi"}]
_FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
# What the clients of the recordings put into each field.
_VALUES: dict[str, Any] = {
    "messages": _MESSAGES, "model": "tiny", "input": "hi", "prompt": "hi", "stream": True, "max_tokens": 20,
    "max_completion_tokens": 20, "max_output_tokens": 20, "n": 2, "best_of": 2, "seed": 1, "temperature": 0.5,
    "top_p": 0.9, "stop": ["x"], "tools": [_FUNCTION], "tool_choice": "auto", "parallel_tool_calls": False,
    "response_format": {"type": "json_object"}, "stream_options": {"include_usage": True}, "logprobs": True,
    "top_logprobs": 2, "logit_bias": {"1": 1}, "metadata": {"a": "b"}, "store": False, "user": "u",
    "frequency_penalty": 0.1, "presence_penalty": 0.1, "reasoning_effort": "low", "echo": True, "suffix": "x",
    "encoding_format": "base64", "text": {"format": {"type": "text"}}, "truncation": "disabled", "instructions": "be",
    "thinking": {"type": "enabled", "budget_tokens": 1_024}, "stop_sequences": ["x"], "system": "be",
    "options": {"num_predict": 20, "temperature": 0.1, "num_ctx": 4_096}, "keep_alive": "5m", "think": False,
    "format": "json",
}  # fmt: skip
_OF_ROUTE: dict[str, dict[str, Any]] = {
    MESSAGES: {"tools": [{"name": "f", "input_schema": {"type": "object"}}]},
    RESPONSES: {"tools": [{"type": "function", "name": "f", "parameters": {}}]},
    TEXT: {"logprobs": 1},
}


def judged(
    server: Server, route: str, body: dict[str, Any], *, hard: bool = True, money: bool = False,
    passes: bool = False, allowed: frozenset[str] = frozenset(), context: int = 0,
) -> Judged:  # fmt: skip
    endpoint = _ROUTES.endpoint("POST", route)
    assert endpoint is not None
    said = {"messages": _MESSAGES, "prompt": "hi", "input": "hi"}
    wanted = {CHAT: "messages", MESSAGES: "messages", OLLAMA_CHAT: "messages", RESPONSES: "input",
              EMBEDDINGS: "input", OLLAMA_EMBED: "input"}.get(route, "prompt")  # fmt: skip
    ask = endpoint.parse(json.dumps({"model": "tiny", wanted: said[wanted], **body}).encode())
    asking = Asking(route, hard, money, passes)
    return judge(asking, ask, server, "u", allowed, context)


@pytest.mark.parametrize("server", [*SERVERS.values()], ids=lambda server: server.name)
def test_nothing_that_real_clients_send_is_refused_under_the_hardest_budget(server: Server) -> None:
    refused = [
        (client, route, verdict.refusal)
        for client, route, fields in _ROWS
        if (verdict := judged(server, route, {n: ({**_VALUES, **_OF_ROUTE.get(route, {})})[n] for n in fields},
                              money=True)).refusal
    ]  # fmt: skip
    assert refused == []


def test_the_recordings_are_of_so_many_clients() -> None:
    assert len(_CLIENTS) >= 50
    assert {route for _, route, _ in _ROWS} >= {CHAT, TEXT, RESPONSES, MESSAGES, EMBEDDINGS, OLLAMA_CHAT}


@pytest.mark.parametrize("name", ["n", "n_cmpl", "best_of", "num_return_sequences", "candidate_count"])
@pytest.mark.parametrize("route", [MESSAGES, RESPONSES, OLLAMA_CHAT, OLLAMA_GENERATE])
def test_a_field_that_multiplies_is_refused_where_answers_are_not_counted(route: str, name: str) -> None:
    """llama.cpp hands what it does not know on /v1/responses on to its own completion."""
    for value in (2, 64, -1, 2.0, "2"):
        refusal = judged(SERVERS["llama.cpp"], route, {name: value}).refusal
        assert refusal.startswith(name), value
        allowing = judged(SERVERS["llama.cpp"], route, {name: value}, allowed=frozenset({name}))
        assert allowing.refusal, "no list of the configuration allows it"
    for alone in (1, None):
        assert not judged(SERVERS["llama.cpp"], route, {name: alone}).refusal


@pytest.mark.parametrize("name", ["n", "n_cmpl", "best_of", "num_return_sequences", "candidate_count"])
def test_where_they_are_counted_it_is_not(name: str) -> None:
    for value in (1, 5, None):
        assert not judged(GENERIC, CHAT, {name: value}).refusal
        assert not judged(GENERIC, TEXT, {name: value}).refusal


@pytest.mark.parametrize("carrier", ["options", "extra_body", "parameters", "sampling_params", "nvext"])
def test_a_multiplier_in_another_field_is_refused(carrier: str) -> None:
    for route in (CHAT, OLLAMA_CHAT):
        assert judged(GENERIC, route, {carrier: {"n": 4}}).refusal.startswith(f"{carrier}.n ")


@pytest.mark.parametrize("carrier", ["extra_body", "parameters", "sampling_params"])
def test_so_is_a_cap_in_one(carrier: str) -> None:
    assert judged(GENERIC, CHAT, {carrier: {"max_new_tokens": 9}}).refusal
    assert judged(GENERIC, CHAT, {"extra_body": {carrier: {"max_tokens": 9}}}).refusal
    deep: dict[str, Any] = {"max_tokens": 9}
    for _ in range(9):
        deep = {"extra_body": deep}
    assert judged(GENERIC, CHAT, deep).refusal


@pytest.mark.parametrize("route", [MESSAGES, RESPONSES])
def test_a_cap_among_options_is_refused_where_it_is_not_cut(route: str) -> None:
    assert judged(GENERIC, route, {"options": {"num_predict": 9_999}}).refusal
    assert not judged(GENERIC, CHAT, {"options": {"num_predict": 9_999}}).refusal


class TestUnknown:
    def test_it_is_refused_under_a_hard_budget_alone_and_the_way_to_allow_it_is_told(self) -> None:
        refusal = judged(GENERIC, CHAT, {"frobnicate": 1}).refusal
        assert refusal.startswith("frobnicate ")
        assert "[upstreams.u] fields = ['frobnicate']" in refusal
        assert 'unknown_fields = "pass"' in refusal
        assert not judged(GENERIC, CHAT, {"frobnicate": 1}, hard=False).refusal
        assert not judged(GENERIC, CHAT, {"frobnicate": 1}, passes=True).refusal
        assert not judged(GENERIC, CHAT, {"frobnicate": 1}, allowed=frozenset({"frobnicate"})).refusal

    def test_null_says_nothing_and_a_long_name_is_not_repeated(self) -> None:
        assert not judged(GENERIC, CHAT, {"frobnicate": None}).refusal
        assert len(judged(GENERIC, CHAT, {"x" * 1_000: 1}).refusal) < 400

    def test_passing_the_unknown_passes_nothing_that_is_known_to_spend(self) -> None:
        for body in ({"auto_max_new_tokens": True}, {"web_search_options": {"a": 1}}, {"async": True}):
            assert judged(GENERIC, CHAT, body, passes=True).refusal


class TestMoney:
    @pytest.mark.parametrize(
        "body", [{"service_tier": "priority"}, {"models": ["dear"]}, {"provider": {"order": ["x"]}}]
    )
    def test_another_price_is_refused_where_money_counts(self, body: dict[str, Any]) -> None:
        assert judged(GENERIC, CHAT, body, money=True).refusal
        assert not judged(GENERIC, CHAT, body, money=False).refusal

    def test_the_usual_price_is_not(self) -> None:
        for tier in ("auto", "default", None):
            assert not judged(SERVERS["openai"], CHAT, {"service_tier": tier}, money=True).refusal


class TestModels:
    """Loading and keeping: refused without a budget too, since it is everybody's memory."""

    @pytest.mark.parametrize("value", [-1, 0, "24h", "-1m", "nonsense", 10**9])
    def test_a_wish_to_keep_a_model_is_written_over(self, value: object) -> None:
        body = {"keep_alive": value}
        assert not judged(SERVERS["ollama"], OLLAMA_CHAT, body, hard=False).refusal
        endpoint = _ROUTES.endpoint("POST", OLLAMA_CHAT)
        assert endpoint is not None
        ask = endpoint.parse(json.dumps({"model": "m", "messages": _MESSAGES, **body, "z": 1}).encode())
        edits = rewritten(ask, SERVERS["ollama"], OLLAMA_CHAT, frozenset())
        assert edits == {"keep_alive": b"null"}
        changed = ask.fields.replaced(edits)
        assert json.loads(changed.text)["keep_alive"] is None
        assert changed.splice({"z": b"22"}) == changed.text.replace(b'"z": 1', b'"z": 22')
        assert rewritten(ask, SERVERS["ollama"], OLLAMA_CHAT, frozenset({"keep_alive"})) == {}

    @pytest.mark.parametrize("value", ["5m", "30m", 300, None])
    def test_a_usual_time_is_left(self, value: object) -> None:
        endpoint = _ROUTES.endpoint("POST", OLLAMA_GENERATE)
        assert endpoint is not None
        ask = endpoint.parse(json.dumps({"model": "m", "prompt": "x", "keep_alive": value}).encode())
        assert rewritten(ask, SERVERS["ollama"], OLLAMA_GENERATE, frozenset()) == {}

    def test_a_context_is_free_up_to_what_the_model_holds_or_a_bit_of_memory(self) -> None:
        def of(tokens: object, context: int = 0, allowed: tuple[str, ...] = ()) -> bool:
            options = {"options": {"num_ctx": tokens}}
            verdict = judged(SERVERS["ollama"], OLLAMA_CHAT, options, hard=False, context=context,
                             allowed=frozenset(allowed))  # fmt: skip
            return not verdict.refusal

        assert of(FREE_CONTEXT_TOKENS)
        assert not of(FREE_CONTEXT_TOKENS + 1)
        assert of(131_072, context=131_072)
        assert of(1_048_576, allowed=("num_ctx",))
        assert of(1_048_576, allowed=("options.num_ctx",)), "as the refusal says"
        assert not of(1_048_576)
        assert not of(10**30)

    def test_keep_alive_elsewhere_than_at_the_top_is_refused(self) -> None:
        assert judged(SERVERS["ollama"], OLLAMA_CHAT, {"options": {"num_gpu": 0}}).refusal
        assert judged(GENERIC, CHAT, {"extra_body": {"keep_alive": -1}}).refusal


def test_lookalikes_are_refused_by_everybody() -> None:
    for name in ("Max_Tokens", "N_Predict", "max_to\u212aens", "Keep_Alive"):
        try:
            refusal = judged(GENERIC, CHAT, {name: 5}, hard=False).refusal
        except Exception as error:  # the route itself may see it first
            refusal = str(error)
        assert name in refusal
