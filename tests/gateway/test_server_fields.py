"""Sorting a request's fields: the lists and their kinds, values that change nothing, and what clients send."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

import epad.gateway
from epad.configuration import server_kinds
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
from epad.gateway.server_fields import (
    NOTHING,
    OPTIONS,
    Fields,
    Kind,
    is_harmless,
    published,
    runs_at_client,
    screen,
    sort_fields,
    why,
    written_instead,
)

_HERE = Path(epad.gateway.__file__).parent
_LISTS: dict[str, dict[str, dict[str, list[str]]]] = tomllib.loads((_HERE / "server_fields.toml").read_text())
_ENTRIES: list[dict[str, Any]] = tomllib.loads((_HERE / "field_kinds.toml").read_text())["entries"]
_ROUTES = sorted({route for routes in _LISTS.values() for route in routes})

_LLAMA, _VLLM, _OLLAMA = SERVERS["llama.cpp"], SERVERS["vllm"], SERVERS["ollama"]


def screened(server: Server, route: str, body: dict[str, Any], context: int = 0) -> Fields:
    values = msgspec.json.decode(json.dumps(body), type=dict[str, Raw])
    return screen(server, route, values, context=context)


def names_of(fields: Fields) -> set[str]:
    return {name for found in msgspec.structs.astuple(fields) for name in found}


class TestLists:
    def test_each_is_sorted_has_no_name_twice_and_says_where_it_stands(self) -> None:
        for server, routes in _LISTS.items():
            for route, given_list in routes.items():
                assert given_list["fields"] == sorted(set(given_list["fields"])), (server, route)
                assert given_list["sources"], (server, route)

    def test_every_published_field_has_a_kind(self) -> None:
        decided = {name for entry in _ENTRIES for name in entry["names"]}
        undecided = {
            name for routes in _LISTS.values() for each in routes.values() for name in each["fields"]
        } - decided
        assert undecided == set()

    def test_every_kind_of_server_but_the_unknown_one_publishes_how_it_chats(self) -> None:
        for name in set(SERVERS) - {GENERIC.name, "anthropic"}:
            assert {"messages", "stream", "max_tokens"} <= published(name, CHAT), name
        assert "max_tokens" in published("anthropic", MESSAGES)

    def test_a_server_caps_by_what_it_publishes(self) -> None:
        """The lists are derived, what caps is written by hand: the two hold each other."""
        for server in SERVERS.values():
            for route in set(_LISTS.get(server.name, {})) - {OPTIONS}:
                listed = published(server.name, OPTIONS if route.startswith("/api/") else route)
                caps = set(server.caps(route))
                if server.name == "tgi":
                    caps -= {"max_completion_tokens"}  # an alias, which its OpenAPI file leaves out
                assert caps <= listed, (server.name, route)
                assert server.cap_field(route) in {*server.caps(route), ""}

    def test_what_llama_cpp_passes_on_is_listed(self) -> None:
        assert {"n_predict", "max_completion_tokens", "n_cmpl", "n", "lora", "id_slot"} <= published(
            "llama.cpp", CHAT
        )
        assert "n_predict" in published("llama.cpp", RESPONSES)
        assert "n_predict" not in published("llama.cpp", MESSAGES)

    def test_ollama_knows_one_cap_alone(self) -> None:
        assert "max_completion_tokens" not in published("ollama", CHAT)
        assert _OLLAMA.caps(CHAT) == ("max_tokens",)

    def test_entries_name_known_servers_and_no_field_twice_for_one_place(self) -> None:
        places = Counter(
            (name, tuple(entry.get("servers", ())), tuple(entry.get("routes", ())))
            for entry in _ENTRIES
            for name in entry["names"]
        )
        assert [place for place, count in places.items() if count > 1] == []
        for entry in _ENTRIES:
            assert set(entry.get("servers", ())) <= set(SERVERS)
            assert entry["why"].strip(" .") == entry["why"] != ""

    @pytest.mark.parametrize("route", _ROUTES)
    def test_of_an_unknown_server_the_worst_reading_of_all_counts(self, route: str) -> None:
        for name in {name for entry in _ENTRIES for name in entry["names"]}:
            mild = sort_fields(GENERIC, route, [name]) is NOTHING
            elsewhere = [server.name for server in SERVERS.values() if sort_fields(server, route, [name])]
            assert not (mild and elsewhere), (name, elsewhere)


_SMUGGLED = [
    (GENERIC, CHAT, {"n_predict": -1}, "caps", "n_predict"),
    (GENERIC, TEXT, {"max_length": 9_999}, "caps", "max_length"),
    (_LLAMA, CHAT, {"n_cmpl": 64}, "choices", "n_cmpl"),
    (GENERIC, CHAT, {"num_return_sequences": 8}, "choices", "num_return_sequences"),
    (GENERIC, TEXT, {"auto_max_new_tokens": True}, "raises", "auto_max_new_tokens"),
    (GENERIC, TEXT, {"use_beam_search": True}, "raises", "use_beam_search"),
    (SERVERS["transformers"], CHAT, {"generation_config": '{"num_beams":64}'}, "raises", "generation_config"),
    (SERVERS["openai"], CHAT, {"prediction": {"type": "content", "content": "x"}}, "raises", "prediction"),
    (GENERIC, CHAT, {"extra_body": {"max_tokens": 99_999}}, "raises", "extra_body.max_tokens"),
    (GENERIC, CHAT, {"nvext": {"extra_body": {"n": 64}}}, "raises", "nvext.extra_body.n"),
    (SERVERS["xai"], CHAT, {"search_parameters": {"mode": "on"}}, "server_tools", "search_parameters"),
    (SERVERS["openai"], CHAT, {"web_search_options": {"x": 1}}, "server_tools", "web_search_options"),
    (GENERIC, CHAT, {"features": {"web_search": True}}, "server_tools", "features"),
    (SERVERS["sglang"], CHAT, {"custom_logit_processor": "gASV"}, "server_tools", "custom_logit_processor"),
    (SERVERS["openai"], CHAT, {"service_tier": "priority"}, "price", "service_tier"),
    (SERVERS["anthropic"], MESSAGES, {"speed": "fast"}, "price", "speed"),
    (GENERIC, CHAT, {"models": ["dear/model"]}, "price", "models"),
    (GENERIC, CHAT, {"provider": {"order": ["dear"]}}, "price", "provider"),
    (GENERIC, CHAT, {"providerOptions": {"models": ["dear"]}}, "price", "providerOptions.models"),
    (SERVERS["openai"], CHAT, {"modalities": ["text", "audio"]}, "price", "modalities"),
    (_OLLAMA, OLLAMA_GENERATE, {"keep_alive": 0}, "manages", "keep_alive"),
    (_OLLAMA, OLLAMA_GENERATE, {"keep_alive": -1}, "manages", "keep_alive"),
    (_OLLAMA, OLLAMA_GENERATE, {"keep_alive": "-1m"}, "manages", "keep_alive"),
    (_OLLAMA, OLLAMA_GENERATE, {"keep_alive": "24h"}, "manages", "keep_alive"),
    (_OLLAMA, OLLAMA_CHAT, {"options": {"num_ctx": 1_048_576}}, "manages", "options.num_ctx"),
    (_OLLAMA, OLLAMA_CHAT, {"options": {"num_gpu": 0}}, "manages", "options.num_gpu"),
    (_LLAMA, CHAT, {"lora": [{"id": 0, "scale": 1}]}, "manages", "lora"),
    (_VLLM, CHAT, {"priority": -5}, "manages", "priority"),
    (_VLLM, CHAT, {"kv_transfer_params": {"do_remote_decode": True}}, "manages", "kv_transfer_params"),
    (SERVERS["xai"], CHAT, {"deferred": True}, "later", "deferred"),
    (SERVERS["openai"], RESPONSES, {"background": True}, "later", "background"),
    (GENERIC, RESPONSES, {"prompt": {"id": "p"}}, "unbounded", "prompt"),
    (GENERIC, RESPONSES, {"previous_response_id": "r"}, "unbounded", "previous_response_id"),
    (_VLLM, CHAT, {"chat_template": "{% for i in range(9) %}x{% endfor %}"}, "unbounded", "chat_template"),
    (_VLLM, EMBEDDINGS, {"padding": "max_length"}, "unbounded", "padding"),
    (_VLLM, CHAT, {"include_reasoning": False}, "hides", "include_reasoning"),
    (_VLLM, CHAT, {"stream_interval": 100_000}, "hides", "stream_interval"),
    (_LLAMA, CHAT, {"logit_bias": {"1": 100}}, "hides", "logit_bias"),
    (_OLLAMA, CHAT, {"Max_Tokens": 9_999}, "lookalikes", "Max_Tokens"),
    (_OLLAMA, CHAT, {"max_to\u212aens": 9_999}, "lookalikes", "max_to\u212aens"),
    (_OLLAMA, OLLAMA_CHAT, {"OPTIONS": {}}, "lookalikes", "OPTIONS"),
    (_OLLAMA, OLLAMA_CHAT, {"options": {"Num_Predict": -1}}, "lookalikes", "options.Num_Predict"),
    (GENERIC, CHAT, {"max_tokens_next_year": 9_999}, "unknown", "max_tokens_next_year"),
    (GENERIC, CHAT, {"extra_body": {"anything": 1}}, "unknown", "extra_body.anything"),
    (GENERIC, CHAT, {"extra_body": "{}x"}, "unknown", "extra_body"),
]  # fmt: skip


class TestScreen:
    @pytest.mark.parametrize(("server", "route", "body", "kind", "name"), _SMUGGLED)
    def test_what_could_cost_more_is_told_by_its_name(
        self, server: Server, route: str, body: dict[str, Any], kind: str, name: str
    ) -> None:
        fields = screened(server, route, {"model": "m", "messages": [], "temperature": 0.5} | body)
        assert names_of(fields) == {name}
        assert getattr(fields, kind) == (name,)

    @pytest.mark.parametrize(
        ("server", "route", "body"),
        [
            (
                GENERIC,
                CHAT,
                dict.fromkeys(("service_tier", "keep_alive", "audio", "prediction", "extra_body")),
            ),
            (
                GENERIC,
                CHAT,
                {"service_tier": "auto", "modalities": ["text"], "priority": 0, "deferred": False},
            ),
            (
                GENERIC,
                CHAT,
                {"use_beam_search": False, "num_beams": 1, "background_tasks": {"title_generation": False}},
            ),
            (
                GENERIC,
                CHAT,
                {"search_parameters": {"mode": "off"}, "mcp_servers": [], "features": {"web_search": False}},
            ),
            (
                _OLLAMA,
                OLLAMA_CHAT,
                {"keep_alive": "5m", "options": {"temperature": 0, "num_keep": 4, "seed": 1}},
            ),
            (_OLLAMA, OLLAMA_CHAT, {"keep_alive": 1_800, "images": []}),
            (
                _VLLM,
                CHAT,
                {"use_beam_search": True, "vllm_xargs": {"a": 1}, "chat_template_kwargs": {"x": 1}},
            ),
            (
                SERVERS["anthropic"],
                MESSAGES,
                {"service_tier": "standard_only", "context_management": {"edits": []}},
            ),
            (
                SERVERS["gemini"],
                CHAT,
                {"extra_body": {"google": {"thinking_config": {"thinking_budget": 0}}}},
            ),
        ],
    )
    def test_what_changes_nothing_is_left_out(self, server: Server, route: str, body: dict[str, Any]) -> None:
        assert screened(server, route, body) is NOTHING

    def test_true_is_not_one(self) -> None:
        assert is_harmless(GENERIC, CHAT, "num_beams", b"1")
        assert not is_harmless(GENERIC, CHAT, "num_beams", b"true")
        assert is_harmless(GENERIC, CHAT, "priority", b"0")
        assert not is_harmless(GENERIC, CHAT, "priority", b"1")

    @pytest.mark.parametrize(
        ("value", "context", "harmless"),
        [(b"4096", 8_192, True), (b"8192", 8_192, True), (b"8193", 8_192, False), (b"1", 0, False), (b"0", 10, False),
         (b"-1", 10, False), (b"true", 10, False), (b'"1"', 10, False), (b"1.0", 10, False), (b"1e400", 10, False)],
    )  # fmt: skip
    def test_no_more_context_than_is_loaded_asks_for_nothing_new(
        self, value: bytes, context: int, harmless: bool
    ) -> None:
        assert is_harmless(_OLLAMA, OPTIONS, "num_ctx", value, context) is harmless

    def test_a_cap_is_never_harmless_unless_it_is_null(self) -> None:
        for value in (b"0", b"-1", b'""', b"false", b"[]"):
            assert not is_harmless(GENERIC, CHAT, "n_predict", value)
        assert is_harmless(GENERIC, CHAT, "n_predict", b"null")

    def test_ollamas_own_cap_is_told_by_its_path(self) -> None:
        fields = screened(_OLLAMA, OLLAMA_CHAT, {"options": {"num_predict": 5}})
        assert fields.caps == ("options.num_predict",)

    @pytest.mark.parametrize("route", [RESPONSES, MESSAGES])
    @pytest.mark.parametrize("server", [GENERIC, _OLLAMA, _LLAMA], ids=lambda server: server.name)
    @pytest.mark.parametrize("name", ["num_predict", "n_predict", "max_tokens", "n"])
    def test_options_of_a_route_that_has_none_are_not_written(
        self, server: Server, route: str, name: str
    ) -> None:
        """A cap there is the client's own, whatever reads it; null asks for nothing."""
        fields = screened(server, route, {"options": {name: 3_000}})
        assert (fields.caps, fields.choices) == ((), ())
        if fields.unknown != (f"options.{name}",):
            assert fields.raises == (f"options.{name}",)
        assert not screened(server, route, {"options": {name: None}}).raises

    @pytest.mark.parametrize("carrier", ["extra_body", "parameters", "nvext", "sampling_params"])
    def test_options_within_another_field_are_not_written(self, carrier: str) -> None:
        fields = screened(_OLLAMA, OLLAMA_CHAT, {carrier: {"options": {"num_predict": 3_000}}})
        assert (fields.caps, fields.raises) == ((), (f"{carrier}.options.num_predict",))

    def test_options_of_a_route_without_output_raise_nothing(self) -> None:
        """LangChain sends the same options to /api/embed as to /api/chat."""
        assert screened(_OLLAMA, OLLAMA_EMBED, {"options": {"num_predict": 300}}).raises == ()

    def test_nesting_ends(self) -> None:
        body: dict[str, Any] = {"max_tokens": 1}
        for _ in range(50):
            body = {"extra_body": body}
        found = screened(GENERIC, CHAT, body)
        assert found == Fields(unknown=("extra_body.extra_body.extra_body.extra_body",))

    def test_the_operator_may_allow_a_field_but_no_cap(self) -> None:
        values = {name: Raw(b"1") for name in ("mystery", "service_tier", "max_tokens", "n")}
        allowed = frozenset({"mystery", "service_tier", "max_tokens", "n"})
        assert screen(GENERIC, CHAT, values, allowed) == Fields(caps=("max_tokens",), choices=("n",))

    @given(
        st.sampled_from(["max_tokens", "n", "keep_alive", "messages", "stream"]),
        st.randoms(use_true_random=False),
    )
    def test_another_spelling_is_no_way_past(self, name: str, random: Any) -> None:
        spelt = "".join(random.choice((letter, letter.upper())) for letter in name)
        spelt = spelt.replace("s", random.choice(("s", "\u017f"))).replace(
            "k", random.choice(("k", "\u212a"))
        )
        fields = sort_fields(_OLLAMA, OLLAMA_CHAT, [spelt])
        assert spelt == name or fields == Fields(lookalikes=(spelt,))

    @given(st.dictionaries(st.text(max_size=12), st.from_type(bytes).map(Raw), max_size=8))
    def test_no_name_and_no_bytes_raise(self, values: dict[str, Raw]) -> None:
        for server in (GENERIC, _OLLAMA):
            screen(server, CHAT, values)

    def test_each_name_is_found_once(self) -> None:
        every = sorted({name for entry in _ENTRIES for name in entry["names"]})
        fields = sort_fields(GENERIC, CHAT, every)
        found = [name for names in msgspec.structs.astuple(fields) for name in names]
        assert len(found) == len(set(found))
        plain = {name for entry in _ENTRIES if entry["kind"] == Kind.PLAIN for name in entry["names"]}
        assert set(every) - set(found) <= plain

    @pytest.mark.parametrize(
        ("route", "tool", "client"),
        [
            (CHAT, "function", True), (CHAT, "custom", True), (CHAT, "", True), (CHAT, "web_search", False),
            (CHAT, "mcp", False), (CHAT, "browser_search", False), (CHAT, "builtin_function", False),
            (CHAT, "local_shell", False), (CHAT, "Function", False), (CHAT, "openrouter:web_search", False),
            (RESPONSES, "local_shell", True), (RESPONSES, "apply_patch", True), (RESPONSES, "shell", False),
            (RESPONSES, "web_search_preview", False), (RESPONSES, "file_search", False), (TEXT, "mcp", False),
        ],
    )  # fmt: skip
    def test_whose_tool_it_is(self, route: str, tool: str, client: bool) -> None:
        assert runs_at_client(route, tool) is client

    def test_what_is_written_instead_changes_nothing(self) -> None:
        for entry in _ENTRIES:
            for name in entry["names"]:
                instead = written_instead(name)
                assert instead is None or is_harmless(_OLLAMA, OLLAMA_CHAT, name, instead)
        assert written_instead("keep_alive") == b"null"

    def test_a_reason_ends_the_sentence(self) -> None:
        assert why(GENERIC, CHAT, "service_tier") == "chooses another price for the same tokens"
        assert why(_OLLAMA, OLLAMA_CHAT, "options.num_ctx") == "loads a model, keeps it or lets it go"
        assert why(GENERIC, CHAT, "zzz") == "is on no list of what a server takes"


# What clients send that nobody has changed, read in their sources: the top level's names,
# with values where they matter.
_USUAL = {
    "model": "m",
    "messages": [],
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
}
_CLIENTS: list[tuple[str, str, dict[str, Any]]] = [
    ("openai-python, LangChain", CHAT, {"max_completion_tokens": 5, "n": 1, "stop": [], "seed": 1, "user": "u",
     "logprobs": True, "top_logprobs": 2, "parallel_tool_calls": True, "tool_choice": "auto", "response_format": {},
     "reasoning_effort": "low", "verbosity": "low", "metadata": {}, "store": False, "service_tier": "auto"}),
    ("LiteLLM", CHAT, {"max_tokens": 5, "functions": [], "function_call": "auto", "thinking": {},
     "prompt_cache_key": "k", "prompt_cache_retention": "24h", "safety_identifier": "s", "extra_body": {},
     "modalities": None}),
    ("lm-eval", TEXT, {"prompt": ["a"], "max_tokens": 1, "logprobs": 1, "echo": True, "seed": 1, "stop": ["x"]}),
    ("lm-eval, vLLM", TEXT, {"prompt": [[1, 2]], "max_tokens": 1, "prompt_logprobs": 1, "add_special_tokens": False}),
    ("inspect_ai", CHAT, {"max_tokens": 5, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "top_p": 1,
     "extra_body": {"top_k": 3, "chat_template_kwargs": {}}}),
    ("promptfoo", CHAT, {"max_tokens": 5, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}),
    ("Vercel AI SDK", CHAT, {"max_tokens": 5, "user": "u", "prompt_cache_key": "k",
     "prompt_cache_options": {"ttl": "30m"}}),
    ("Open WebUI", CHAT, {"max_tokens": 5, "chat_id": "c", "session_id": "s", "id": "i", "metadata": {}, "features": {},
     "variables": {}, "background_tasks": {"title_generation": False}, "model_item": {}, "tool_ids": [], "files": []}),
    ("Open WebUI, Ollama", OLLAMA_CHAT, {"keep_alive": "5m", "format": "json", "options": {"num_predict": 5, "tfs_z": 1,
     "mirostat": 0, "repeat_last_n": 64, "top_k": 40, "min_p": 0, "num_keep": 0, "stop": []}}),
    ("Continue", OLLAMA_CHAT, {"keep_alive": 1_800, "options": {"num_predict": 5, "num_ctx": 8_192, "num_thread": None,
     "use_mmap": None, "mirostat": None}}),
    ("LangChain, Ollama", OLLAMA_CHAT, {"keep_alive": None, "think": None, "format": None, "logprobs": None,
     "options": {"num_ctx": None, "num_gpu": None, "num_thread": None, "seed": 1}, "tools": []}),
    ("Cline, OpenRouter", CHAT, {"transforms": ["middle-out"], "include_reasoning": True, "reasoning": {}, "top_a": 0,
     "usage": {"include": True}, "provider": None}),
    ("Claude Code", MESSAGES, {"max_tokens": 5, "system": [], "tools": [], "metadata": {"user_id": "u"},
     "thinking": {}, "context_management": {"edits": []}, "output_config": {}, "betas": [],
     "anthropic_version": "bedrock-2023-05-31"}),
    ("Codex", RESPONSES, {"input": [], "instructions": "", "tools": [], "tool_choice": "auto", "store": False,
     "text": {},
     "parallel_tool_calls": True, "reasoning": {}, "include": [], "prompt_cache_key": "k", "client_metadata": {},
     "service_tier": None, "truncation": "auto", "previous_response_id": None, "background": False}),
    ("llama.cpp's own page", CHAT, {"cache_prompt": True, "samplers": "edkypmxt", "dynatemp_range": 0, "max_tokens": -1,
     "timings_per_token": True, "reasoning_format": "auto", "return_progress": True, "backend_sampling": False}),
    ("SillyTavern", TEXT, {"max_tokens": 5, "max_new_tokens": 5, "n_predict": 5, "add_bos_token": True, "rep_pen": 1,
     "ban_eos_token": False, "skip_special_tokens": True, "truncation_length": 2_048, "sampler_order": [],
     "smoothing_curve": 1}),
    ("ollama-python", OLLAMA_GENERATE, {"prompt": "x", "suffix": "", "context": [], "raw": False, "images": [],
     "keep_alive": None}),
    ("openai-python", EMBEDDINGS, {"input": "x", "encoding_format": "base64", "dimensions": 8, "user": "u"}),
]  # fmt: skip


class TestClients:
    @pytest.mark.parametrize(("client", "route", "body"), _CLIENTS)
    def test_no_unmodified_client_sends_what_a_hard_budget_cannot_bear(
        self, client: str, route: str, body: dict[str, Any]
    ) -> None:
        for server in SERVERS.values():
            fields = screened(server, route, _USUAL | body, context=8_192)
            assert fields.refused() + fields.unknown + fields.unbounded == (), (client, server.name)


class TestServers:
    def test_a_name_is_known_however_it_is_spelt(self) -> None:
        for spelt, name in (
            ("LM Studio", "lmstudio"), ("llama-server", "llama.cpp"), ("LLAMA_CPP", "llama.cpp"), ("vLLM", "vllm"),
            ("Text Generation Inference", "tgi"), ("Azure OpenAI", "openai"), ("transformers serve", "transformers"),
        ):  # fmt: skip
            server = server_kinds.server_named(spelt)
            assert server is SERVERS[name], spelt
        assert server_kinds.server_named("nobody") is None
        assert server_kinds.server_named("") is None

    def test_of_an_unknown_one_nothing_is_believed(self) -> None:
        assert not any((GENERIC.shows_all, GENERIC.counts_all_choices, GENERIC.zero_cap_means_none))
        assert GENERIC.caps(CHAT) == ("max_tokens",)
        assert GENERIC.takes_stream_options

    @pytest.mark.parametrize(
        ("name", "route", "winner", "written"),
        [
            ("llama.cpp", CHAT, "n_predict", "max_tokens"),
            ("llama.cpp", RESPONSES, "n_predict", "max_output_tokens"),
            ("llama.cpp", MESSAGES, "max_tokens", "max_tokens"),
            ("vllm", CHAT, "max_completion_tokens", "max_tokens"),
            ("vllm", TEXT, "max_tokens", "max_tokens"),
            ("openai", CHAT, "max_completion_tokens", "max_completion_tokens"),
            ("openai", TEXT, "max_tokens", "max_tokens"),
            ("ollama", CHAT, "max_tokens", "max_tokens"),
            ("ollama", OLLAMA_CHAT, "num_predict", "num_predict"),
            ("mistral", CHAT, "max_tokens", "max_tokens"),
            ("anthropic", MESSAGES, "max_tokens", "max_tokens"),
        ],
    )
    def test_what_caps(self, name: str, route: str, winner: str, written: str) -> None:
        assert SERVERS[name].caps(route)[0] == winner
        assert SERVERS[name].cap_field(route) == written

    @pytest.mark.parametrize(
        ("name", "model", "tokens"),
        [
            ("anthropic", "claude-opus-4-7", 804),
            ("anthropic", "claude-opus-4-1-20250805", 346),
            ("anthropic", "claude-sonnet-4-5-20250929", 588),
            ("anthropic", "claude-of-next-year", 804),
            ("openai", "claude-opus-4-7", 0),
        ],
    )
    def test_what_is_put_before_tools(self, name: str, model: str, tokens: int) -> None:
        assert SERVERS[name].tool_preamble(model) == tokens

    def test_where_nothing_is_generated_nothing_caps(self) -> None:
        assert GENERIC.caps(EMBEDDINGS) == ()
        assert GENERIC.cap_field(EMBEDDINGS) == ""
