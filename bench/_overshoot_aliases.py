"""Fields that cap, raise or multiply the output at some server, beside a cap that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import _overshoot_servers as servers
from _overshoot_servers import Obeys, usage_of_all, usage_of_one

CHAT, TEXT, OLLAMA_CHAT, OLLAMA_TEXT = "/v1/chat/completions", "/v1/completions", "/api/chat", "/api/generate"
_CAP = {"max_tokens": 5}


@dataclass(frozen=True, slots=True)
class Alias:
    """A body beside its prompt, and the server that obeys it; `kind` is what the configuration says of it."""

    kind: str
    name: str
    fields: Mapping[str, Any]
    obeys: Obeys
    path: str = CHAT
    usage: Callable[[int, int, int], dict[str, int]] = field(default=usage_of_all)

    @property
    def honest(self) -> dict[str, Any]:
        """A cap that every server obeys, and nothing else."""
        return {"options": {"num_predict": 5}} if self.path.startswith("/api/") else dict(_CAP)

    def prompt(self, number: int) -> dict[str, Any]:
        """Another prompt for every request."""
        text = f"question {number}"
        if self.path in (TEXT, OLLAMA_TEXT):
            return {"prompt": text}
        return {"messages": [{"role": "user", "content": text}]}


def _known() -> list[Alias]:
    """What the servers obey by their own sources, told to the gateway and not."""
    rows: list[Alias] = []
    for kind in ("llama.cpp", ""):
        of = {"obeys": servers.llama_cpp, "usage": usage_of_one}
        rows += [
            Alias(kind, "llama.cpp's n_predict beside max_tokens", {**_CAP, "n_predict": 3_000}, **of),
            Alias(kind, "llama.cpp's n_predict of -1", {**_CAP, "n_predict": -1}, **of),
            Alias(kind, "llama.cpp's n_predict alone", {"n_predict": 3_000}, **of),
            Alias(kind, "llama.cpp's n_cmpl", {"max_tokens": 200, "n_cmpl": 8}, **of),
            Alias(kind, "llama.cpp's n, counted once", {"max_tokens": 200, "n": 8}, **of),
            Alias(kind, "llama.cpp's completion, n_predict", {**_CAP, "n_predict": 3_000}, path=TEXT, **of),
        ]
    for kind in ("vllm", ""):
        rows += [
            Alias(kind, "vLLM's max_completion_tokens beside max_tokens", {**_CAP, "max_completion_tokens": 3_000},
                  servers.vllm),
            Alias(kind, "vLLM's n", {"max_tokens": 200, "n": 16}, servers.vllm),
            Alias(kind, "a cap as text", {"max_tokens": "3000"}, servers.vllm),
            Alias(kind, "a cap of null", {"max_tokens": None}, servers.vllm),
            Alias(kind, "a cap of -1", {"max_tokens": -1}, servers.vllm),
            Alias(kind, "no cap", {}, servers.vllm),
            Alias(kind, "best_of, one shown", {"max_tokens": 200, "best_of": 8}, servers.old_completions, TEXT),
        ]  # fmt: skip
    for kind in ("ollama", ""):
        rows += [
            Alias(kind, "max_completion_tokens to Ollama's OpenAI route", {"max_completion_tokens": 5},
                  servers.ollama_openai),
            Alias(kind, "options.num_predict of -1", {"options": {"num_predict": -1}}, servers.ollama, OLLAMA_CHAT),
            Alias(kind, "no options", {}, servers.ollama, OLLAMA_CHAT),
            Alias(kind, "options null", {"options": None}, servers.ollama, OLLAMA_TEXT),
            Alias(kind, "Options beside options", {"options": {"num_predict": 5}, "Options": {"num_predict": 3_000}},
                  servers.worst, OLLAMA_CHAT),
        ]  # fmt: skip
    rows += [
        Alias("", "text-generation-webui's auto_max_new_tokens", {**_CAP, "auto_max_new_tokens": True},
              servers.text_generation_webui),
        Alias("", "text-generation-webui's max_new_tokens", {**_CAP, "max_new_tokens": 3_000},
              servers.text_generation_webui),
        Alias("transformers", "transformers serve's generation_config",
              {**_CAP, "generation_config": json.dumps({"max_new_tokens": 3_000})}, servers.transformers),
        Alias("", "transformers serve's generation_config, unknown",
              {**_CAP, "generation_config": json.dumps({"max_new_tokens": 3_000})}, servers.transformers),
    ]  # fmt: skip
    return rows


def _guessed() -> list[Alias]:
    """Names that no list may have, before a server that obeys whatever looks like a cap."""
    large = 3_000
    beside: tuple[Mapping[str, Any], ...] = (
        {"max_output_tokens": large},
        {"num_predict": large},
        {"options": {"num_predict": large}},
        {"max_length": large},
        {"max_gen_len": large},
        {"maxTokens": large},
        {"MAX_TOKENS": large},
        {"max_tokens_to_sample": large},
        {"tokens_to_generate": large},
        {"generationConfig": {"maxOutputTokens": large}},
        {"generation_config": {"max_new_tokens": large}},
        {"parameters": {"max_new_tokens": large}},
        {"sampling_params": {"max_new_tokens": large}},
        {"extra_body": {"max_tokens": large}},
        {"num_return_sequences": 64},
        {"num_generations": 64},
        {"candidate_count": 64},
        {"candidateCount": 64},
        {"numSamples": 64},
        {"beam_width": 64},
        {"n": "64"},
        {"n": 64.0},
    )
    return [
        Alias(
            "",
            json.dumps(fields),
            {"max_tokens": 50 if "64" in json.dumps(fields) else 5, **fields},
            servers.worst,
        )
        for fields in beside
    ]


ALIASES = (*_known(), *_guessed())
