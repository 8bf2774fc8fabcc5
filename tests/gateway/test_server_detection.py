"""Telling servers apart by what they answer: recorded bytes, and bytes as their sources and issues show them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_answers import (
    DIGEST,
    LITELLM,
    LLAMA_CPP,
    LM_STUDIO,
    LM_STUDIO_LOADED,
    LOOPBACK,
    OLLAMA,
    OLLAMA_TAGS,
    SGLANG,
    TGI,
    TGI_INFO,
    TRANSFORMERS,
    UVICORN,
    VLLM,
)

from epad.configuration.server_kinds import GENERIC, SERVERS
from epad.gateway.server_detection import (
    INFO,
    LOADED,
    MODELS,
    PROPS,
    PS,
    SHOW,
    TAGS,
    context_in,
    contexts,
    contradicts,
    detect,
)


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("https://api.openai.com/v1", "openai"),
            ("https://eu.api.openai.com/v1", "openai"),
            ("https://mine.openai.azure.com/openai/v1", "openai"),
            ("https://api.anthropic.com", "anthropic"),
            ("https://API.MISTRAL.AI./v1", "mistral"),
            ("https://user:secret@api.x.ai:443/v1", "xai"),
            ("https://api.deepseek.com", "deepseek"),
            ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini"),
            ("https://us-central1-aiplatform.googleapis.com/v1", "gemini"),
            ("https://openrouter.ai/api/v1", "openrouter"),
        ],
    )
    def test_a_host_tells(self, url: str, name: str) -> None:
        assert detect(url) is SERVERS[name]

    @pytest.mark.parametrize(
        "url",
        [
            LOOPBACK,
            "http://api.openai.com.evil.example/v1",
            "http://evil.example/api.openai.com",
            "http://api.openai.com@evil.example/",
            "http://notapi.x.ai/v1",
            "https://mine.services.ai.azure.com",
            "",
        ],
    )
    def test_another_host_tells_nothing(self, url: str) -> None:
        assert detect(url) is None


class TestAnswers:
    @pytest.mark.parametrize(
        ("name", "head", "path", "body"),
        [
            ("llama.cpp", {"server": "llama.cpp"}, MODELS, b""),
            ("llama.cpp", {"server": "llama.cpp"}, TAGS, OLLAMA_TAGS),
            ("llama.cpp", {}, MODELS, LLAMA_CPP),
            (
                "llama.cpp",
                {},
                PROPS,
                b'{"default_generation_settings":{"n_ctx":1024},"build_info":"b11434-abc"}',
            ),
            ("vllm", {"server": "uvicorn"}, MODELS, VLLM),
            ("sglang", {}, MODELS, SGLANG),
            ("sglang", {}, TAGS, OLLAMA_TAGS.replace(DIGEST.encode(), b"sha256:sglang" + b"0" * 58)),
            ("ollama", {}, MODELS, OLLAMA),
            ("ollama", {}, TAGS, OLLAMA_TAGS),
            ("lmstudio", {"x-powered-by": "Express"}, MODELS, LM_STUDIO),
            ("tgi", {}, MODELS, TGI),
            ("tgi", {}, INFO, TGI_INFO),
            ("transformers", UVICORN, MODELS, TRANSFORMERS),
            ("openai", {"openai-processing-ms": "12"}, MODELS, b"{}"),
            ("anthropic", {"anthropic-organization-id": "x"}, MODELS, b"{}"),
        ],
    )
    def test_what_a_server_answers_tells_it(
        self, name: str, head: Mapping[str, str], path: str, body: bytes
    ) -> None:
        assert detect(LOOPBACK, head, path, body) is SERVERS[name]

    @pytest.mark.parametrize(
        ("head", "path", "body"),
        [
            ({}, MODELS, b"{}"),
            ({}, MODELS, b"not json"),
            ({}, MODELS, b'{"data":[]}'),
            ({}, MODELS, b'{"data":[{"id":"m","object":"model","created":1,"owned_by":"stub"}]}'),
            ({}, MODELS, LITELLM),
            ({"server": "uvicorn"}, MODELS, TRANSFORMERS),
            (UVICORN, MODELS, TRANSFORMERS.replace(b'"created"', b'"providers":[],"root":"x","created"')),
            (
                {},
                MODELS,
                VLLM.replace(b'"owned_by":"vllm","root":"/lora"', b'"owned_by":"openai","root":"/lora"'),
            ),
            ({}, MODELS, b'{"data":[{"id":"m","owned_by":"vllm"}]}'),
            ({}, MODELS, b'{"data":[{"id":"a","owned_by":"llamacpp"},{"id":"b","owned_by":"sglang"}]}'),
            ({}, MODELS, b'{"data":[{"id":"a","owned_by":"llamacpp"},{"id":"b"}]}'),
            ({}, TAGS, b'{"models":[{"name":"tiny:latest","model":"tiny:latest"}]}'),
            ({}, TAGS, b'{"models":[]}'),
            ({}, INFO, b'{"model_id":"x"}'),
        ],
    )
    def test_what_is_not_sure_is_not_told(self, head: Mapping[str, str], path: str, body: bytes) -> None:
        assert detect(LOOPBACK, head, path, body) is None

    def test_a_proxy_is_nobodys_server(self) -> None:
        """Whoever it asks, and whatever it passes on, is for it to say."""
        head = {"x-litellm-version": "1.110.2", "openai-processing-ms": "3"}
        assert detect("https://api.openai.com/v1", head, MODELS, VLLM) is GENERIC

    @given(st.binary(max_size=64) | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda part: st.lists(part, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "models", "id", "meta", "n_ctx", "owned_by", "parent"]), part),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()))  # fmt: skip
    def test_no_answer_raises(self, body: bytes) -> None:
        for path in (MODELS, TAGS, PROPS, INFO, PS, SHOW, LOADED):
            detect(LOOPBACK, {}, path, body)
            for tokens in contexts(path, body).values():
                assert 0 < tokens < 1 << 31

    def test_another_server_on_a_port_shows_in_its_heads(self) -> None:
        llama, vllm = SERVERS["llama.cpp"], SERVERS["vllm"]
        assert contradicts(llama, True, {"server": "uvicorn"})
        assert not contradicts(llama, True, {"server": "llama.cpp"})
        assert not contradicts(llama, False, {"server": "nginx"})
        assert contradicts(vllm, False, {"server": "llama.cpp"})
        assert not contradicts(vllm, False, {"server": "uvicorn"})


class TestContexts:
    @pytest.mark.parametrize(
        ("path", "body", "model", "tokens"),
        [
            (MODELS, LLAMA_CPP, "smol", 4_096),
            (MODELS, LLAMA_CPP, "whatever it is called", 4_096),
            (PROPS, b'{"default_generation_settings":{"n_ctx":1024},"total_slots":4}', "any", 1_024),
            (PROPS, b'{"default_generation_settings":{"n_ctx":0}}', "any", None),
            (MODELS, VLLM, "base", 2_048),
            (MODELS, VLLM, "adapter", 2_048),
            (MODELS, VLLM, "other", None),
            (MODELS, SGLANG, "org/m", 131_072),
            (MODELS, b'{"data":[{"id":"mistral-small","max_context_length":32768}]}', "mistral-small", 32_768),
            (MODELS, b'{"data":[{"id":"a/b","context_length":200000}]}', "a/b", 200_000),
            (MODELS, OLLAMA, "llama3.2", None),
            (LOADED, LM_STUDIO_LOADED, "gemma-3-4b-it", 4_096),
            (LOADED, LM_STUDIO_LOADED, "text-embedding-nomic", None),
            (INFO, TGI_INFO, "org/m", 2_048),
            (PS, b'{"models":[{"name":"qwen3:1.7b","model":"qwen3:1.7b","context_length":4096}]}', "qwen3:1.7b", 4_096),
            (PS, b'{"models":[{"name":"gemma4:latest","context_length":4096}]}', "gemma4", 4_096),
            (PS, b'{"models":[]}', "gemma4", None),
            (SHOW, b'{"parameters":"num_ctx    8192\\nstop x","model_info":{"llama.context_length":9}}', "m", 8_192),
            (SHOW, b'{"model_info":{"llama.context_length":131072,"llama.x":1}}', "m", 131_072),
        ],
    )  # fmt: skip
    def test_how_much_a_model_holds_is_read(
        self, path: str, body: bytes, model: str, tokens: int | None
    ) -> None:
        assert context_in(contexts(path, body), model) == tokens

    @pytest.mark.parametrize(
        "value", ["true", "-1", "0", "1e9", '"4096"', "null", "2147483648", "[4096]", "4096.5"]
    )
    def test_what_is_no_number_of_tokens_is_not_learnt(self, value: str) -> None:
        body = f'{{"data":[{{"id":"m","owned_by":"vllm","max_model_len":{value}}}]}}'.encode()
        assert context_in(contexts(MODELS, body), "m") is None

    @pytest.mark.parametrize(("first", "second"), [(4_096, 2_048), (2_048, 4_096)])
    def test_of_two_entries_for_one_name_the_smaller_counts(self, first: int, second: int) -> None:
        entries = [{"id": "m", "max_model_len": tokens} for tokens in (first, second)]
        assert context_in(contexts(MODELS, json.dumps({"data": entries}).encode()), "m") == 2_048

    def test_what_is_kept_is_bounded(self) -> None:
        entries = [{"id": f"m{n}", "max_model_len": 9} for n in range(5_000)]
        entries[0]["id"] = "x" * 10_000
        assert len(contexts(MODELS, json.dumps({"data": entries}).encode())) <= 1_024


def test_every_context_path_can_be_read() -> None:
    known: set[Any] = {PROPS, PS, LOADED, INFO, SHOW}
    assert {path for server in SERVERS.values() for path in server.context_paths} <= known
