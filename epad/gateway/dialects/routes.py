"""List every route: its dialect, and whether it is metered, looked up, or refused."""

from __future__ import annotations

from epad.gateway.catalogue import Lookup, ModelCard, ModelEntry, ModelList, Version
from epad.gateway.dialects.anthropic import Anthropic, CountTokens, Messages
from epad.gateway.dialects.dialect import Catalogue, Dialect, Endpoint, OutputLimits
from epad.gateway.dialects.ollama import Chat, Embed, Generate, Ollama
from epad.gateway.dialects.ollama import Embeddings as OldEmbed
from epad.gateway.dialects.openai import ChatCompletions, OpenAI
from epad.gateway.dialects.openai_responses import Responses
from epad.gateway.dialects.openai_text import Completions, Embeddings
from epad.gateway.headers import Headers
from epad.gateway.refusal import Refusal, not_metered, route_denied

# They change what everyone else is served, whatever the method.
_MANAGEMENT = frozenset({
    "/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete",
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/wake_up", "/reset_prefix_cache",
    "/v1/models/load", "/v1/models/unload",
})  # fmt: skip
_MANAGEMENT_PREFIXES = ("/api/blobs/",)
_MODEL_PREFIX = "/v1/models/"
# Both list their models at the same place; only Anthropic's clients say which version they speak.
_ANTHROPIC_HEADER = "anthropic-version"
_ANTHROPIC_PREFIX = "/v1/messages"
# LiteLLM serves them all without /v1, llama-server the chat, the responses and the models; clients rely on it.
_WITHOUT_VERSION = frozenset({"/chat/completions", "/completions", "/embeddings", "/responses", "/models"})
_MODEL_WITHOUT_VERSION = "/models/"
_IN_MEMORY = Catalogue("/api/ps", "models", "name", {})


class Routes:
    """The routes of all dialects."""

    def __init__(self, limits: OutputLimits) -> None:
        self._openai, self._ollama, self._anthropic = OpenAI(), Ollama(), Anthropic()
        endpoints: tuple[Endpoint, ...] = (
            ChatCompletions(self._openai, limits),
            Completions(self._openai, limits),
            Embeddings(self._openai, limits),
            Responses(self._openai, limits),
            Messages(self._anthropic, limits),
            CountTokens(self._anthropic),
            Chat(self._ollama, limits),
            Generate(self._ollama, limits),
            Embed(self._ollama, limits),
            OldEmbed(self._ollama, limits),
        )
        lookups: tuple[Lookup, ...] = (
            ModelList(self._openai),
            ModelList(self._ollama),
            ModelList(self._ollama, _IN_MEMORY),
            ModelCard(self._ollama),
            Version(self._ollama),
        )
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self._lookups = {(lookup.method, lookup.path): lookup for lookup in lookups}
        self._anthropic_models = ModelList(self._anthropic)
        self._metered = [f"POST {path}" for path in self._endpoints]

    def dialect(self, path: str, headers: Headers) -> Dialect:
        """Return the client's dialect, by the route: a refusal is given in its words."""
        path = _with_version(path)
        endpoint = self._endpoints.get(path)
        if endpoint is not None:
            return endpoint.dialect
        if path.startswith("/api/"):
            return self._ollama
        if path.startswith(_ANTHROPIC_PREFIX) or _ANTHROPIC_HEADER in headers:
            return self._anthropic
        return self._openai

    def endpoint(self, method: str, path: str) -> Endpoint | None:
        """Return the metered route, if it is one."""
        return self._endpoints.get(_with_version(path)) if method == "POST" else None

    def greets(self, method: str, path: str) -> bool:
        """Say whether it only asks if somebody is there: Ollama's clients do so first of all, without a key."""
        return method in {"GET", "HEAD"} and path == "/"

    def lookup(self, method: str, path: str, headers: Headers) -> Lookup | None:
        """Return the route that only reads from the model servers, if it is one."""
        method, path = "GET" if method == "HEAD" else method, _with_version(path)
        if method != "GET" or not path.startswith("/v1/models"):
            return self._lookups.get((method, path))
        dialect = self.dialect(path, headers)
        if path.startswith(_MODEL_PREFIX) and path != _MODEL_PREFIX:
            return ModelEntry(dialect, path.removeprefix(_MODEL_PREFIX))
        if dialect is self._anthropic and path == self._anthropic_models.path:
            return self._anthropic_models
        return self._lookups.get((method, path))

    def refusal(self, method: str, path: str) -> Refusal:
        """Return the permanent refusal of a route that is neither."""
        path = _with_version(path)
        managing = path in _MANAGEMENT or path.startswith(_MANAGEMENT_PREFIXES)
        if managing or (method == "DELETE" and path.startswith(_MODEL_PREFIX)):
            return route_denied(method, path)
        return not_metered(method, path, self._metered)


def _with_version(path: str) -> str:
    """Return the path by which a route is known here."""
    if path in _WITHOUT_VERSION or path.startswith(_MODEL_WITHOUT_VERSION):
        return "/v1" + path
    return path
