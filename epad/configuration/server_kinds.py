"""List the kinds of model servers, and their differences that metering depends on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

CHAT, TEXT, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES, MESSAGES, COUNT = "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"
OLLAMA_CHAT, OLLAMA_GENERATE = "/api/chat", "/api/generate"
OLLAMA_EMBED, OLLAMA_EMBEDDINGS = "/api/embed", "/api/embeddings"

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]")

Caps = Mapping[str, tuple[str, ...]]

# By route: the names by which the output is capped, the one that wins first. Ollama's stands in `options`.
_USUAL_CAPS: Caps = MappingProxyType({
    CHAT: ("max_tokens",),
    TEXT: ("max_tokens",),
    RESPONSES: ("max_output_tokens",),
    MESSAGES: ("max_tokens",),
    OLLAMA_CHAT: ("num_predict",),
    OLLAMA_GENERATE: ("num_predict",),
})  # fmt: skip
_BOTH: Caps = MappingProxyType({CHAT: ("max_completion_tokens", "max_tokens")})
# Of its schema the name itself comes before its aliases; what a request to /v1/responses has beside is passed on.
_LLAMA_CPP: Caps = MappingProxyType({
    CHAT: ("n_predict", "max_completion_tokens", "max_tokens"),
    TEXT: ("n_predict", "max_completion_tokens", "max_tokens"),
    RESPONSES: ("n_predict", "max_completion_tokens", "max_output_tokens", "max_tokens"),
})  # fmt: skip
# To its parser both are one name: who sends both is answered 422.
_TGI: Caps = MappingProxyType({CHAT: ("max_tokens", "max_completion_tokens")})

# OpenAI's reference of /v1/completions, and vLLM's CompletionRequest: `max_tokens` is 16 where it is not there.
_LEGACY: Mapping[str, int] = MappingProxyType({TEXT: 16})


@dataclass(frozen=True, slots=True)
class Server:
    """Describes one kind of model server.

    An unknown kind is assumed to have no trait that would make a turn cheaper.

    `shows_all`: it streams every token that it makes, so the seen part of a stream that broke off bounds the made
    tokens; others think unseen, or may. `counts_all_choices`: the usage of an answer with `n` choices counts them all,
    not one of them. `takes_stream_options`: a stream may be asked for its usage; `streams_usage_unasked`: it comes
    without that. `zero_cap_means_none`: a cap of 0 is no answer at all, not an answer without end.
    `tool_preamble_tokens`: the most it puts before a request's tools by itself, as it publishes; `tool_preambles` has
    that of single models, by a part of their names. `context_paths`: the paths beside the list of models that tell a
    model's context length. `health_path`: the path that tells if it is ready, if its list of models does not.
    `takes_any_cap`: a cap beyond the rest of its context is no error to it. `unasked`: by route, the tokens it makes
    for a request that names no cap, if that is a fixed number. `forbids_unknown`: it answers 422 to an unknown field,
    so nothing may be added beside its list.
    """

    name: str
    shows_all: bool = False
    counts_all_choices: bool = False
    takes_stream_options: bool = True
    streams_usage_unasked: bool = False
    zero_cap_means_none: bool = False
    forbids_unknown: bool = False
    takes_any_cap: bool = False
    tool_preamble_tokens: int = 0
    tool_preambles: tuple[tuple[str, int], ...] = ()
    context_paths: tuple[str, ...] = ()
    health_path: str = ""
    caps_by_route: Caps = field(default_factory=lambda: _USUAL_CAPS, repr=False, compare=False)
    written: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    unasked: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    def caps(self, route: str) -> tuple[str, ...]:
        """The names that surely cap the output of a route, the one that wins where several are given first."""
        return self.caps_by_route.get(route) or _USUAL_CAPS.get(route, ())

    def cap_field(self, route: str) -> str:
        """The name by which epad writes a cap into a request that has none; empty where nothing is generated."""
        return self.written.get(route) or next(iter(_USUAL_CAPS.get(route, ())), "")

    def tool_preamble(self, model: str) -> int:
        """Return the most tokens that it puts before the tools of a request to a model."""
        return next(
            (tokens for part, tokens in self.tool_preambles if part in model), self.tool_preamble_tokens
        )


# docs.claude.com, tool use, pricing: of each model's two numbers the larger, and of two editions of the page too.
_ANTHROPIC_PREAMBLES = (
    ("opus-5", 406), ("opus-4-8", 410), ("opus-4-7", 804), ("opus-4-6", 589), ("opus-4-5", 588), ("opus-4", 346),
    ("sonnet-5", 474), ("sonnet-4-6", 589), ("sonnet-4-5", 588), ("sonnet-4", 346), ("3-7-sonnet", 346),
    ("haiku-4-5", 588), ("3-5-haiku", 355), ("3-opus", 530), ("3-haiku", 340), ("3-sonnet", 235),
)  # fmt: skip

GENERIC = Server("generic")
# Read in the sources that server_fields.toml names. That llama.cpp's usage is the first choice's was measured as well:
# it puts the choices of all beside it. Ollama, TGI, DeepSeek and transformers make one answer whatever n says.
SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        Server("llama.cpp", shows_all=True, takes_any_cap=True, context_paths=("/props",), health_path="/health",
               caps_by_route=_LLAMA_CPP),
        Server("vllm", shows_all=True, counts_all_choices=True, zero_cap_means_none=True, health_path="/health",
               caps_by_route=_BOTH, unasked=_LEGACY),
        Server("ollama", shows_all=True, counts_all_choices=True, takes_any_cap=True, context_paths=("/api/ps",)),
        # Its newer models refuse max_tokens, its older ones take the newer name.
        Server("openai", counts_all_choices=True, caps_by_route=_BOTH,
               written={CHAT: "max_completion_tokens"}, unasked=_LEGACY),
        Server("anthropic", tool_preamble_tokens=804, tool_preambles=_ANTHROPIC_PREAMBLES, caps_by_route=_BOTH),
        Server("mistral", shows_all=True, counts_all_choices=True, takes_stream_options=False,
               streams_usage_unasked=True, forbids_unknown=True),
        Server("xai", counts_all_choices=True, streams_usage_unasked=True, caps_by_route=_BOTH),
        Server("deepseek", shows_all=True, counts_all_choices=True, streams_usage_unasked=True),
        Server("gemini", counts_all_choices=True, caps_by_route=_BOTH),
        Server("tgi", shows_all=True, counts_all_choices=True, context_paths=("/info",), health_path="/health",
               caps_by_route=_TGI),
        # A cap of 0 is to it as none.
        Server("sglang", shows_all=True, counts_all_choices=True, health_path="/health", caps_by_route=_BOTH),
        Server("lmstudio", shows_all=True, takes_any_cap=True, context_paths=("/api/v0/models",)),
        Server("transformers", shows_all=True, counts_all_choices=True, takes_any_cap=True,
               forbids_unknown=True, caps_by_route=_BOTH),
        # It hands a request to one of many providers, of which some think unseen.
        Server("openrouter", streams_usage_unasked=True, caps_by_route=_BOTH),
        GENERIC,
    )
}  # fmt: skip
_BY_LETTERS = {_NOT_IN_A_NAME.sub("", name): server for name, server in SERVERS.items()}
_ALSO_CALLED = {
    "llama": "llama.cpp", "llamaserver": "llama.cpp", "llamacppserver": "llama.cpp", "llamacpppython": "llama.cpp",
    "azure": "openai", "azureopenai": "openai", "claude": "anthropic", "mistralai": "mistral", "grok": "xai",
    "google": "gemini", "googleai": "gemini", "textgenerationinference": "tgi", "huggingfacetgi": "tgi",
    "transformersserve": "transformers", "huggingfacetransformers": "transformers",
}  # fmt: skip


def server_named(name: str) -> Server | None:
    """The kind of that name, however it is spelt: "LM Studio", "llama.cpp", "llamacpp"; None if it is none."""
    letters = _NOT_IN_A_NAME.sub("", name.lower())
    return _BY_LETTERS.get(letters) or SERVERS.get(_ALSO_CALLED.get(letters, ""))
