"""Tell the kind of an upstream's model server, and its models' context lengths, from its answers.

An uncertain kind is not told: an unknown server is assumed to have no trait that would make a turn cheaper, so a wrong
guess is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from epad.configuration.server_kinds import GENERIC, SERVERS, Server
from epad.gateway.http.message import Fields

MODELS, TAGS = "/v1/models", "/api/tags"
PROPS, INFO = "/props", "/info"
PS, SHOW, LOADED = "/api/ps", "/api/show", "/api/v0/models"

# A list of models longer than this is not read on; OpenRouter's has some 400 of them in half a megabyte.
MOST_BYTES = 4 << 20
_MOST_MODELS = 1_024
_LONGEST_NAME = 256
# No model holds more than that: a number above it is a mistake, and one that would bound nothing.
_MOST_TOKENS = 1 << 31

_HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    "api.x.ai": "xai",
    "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gemini",
    "aiplatform.googleapis.com": "gemini",
    "openrouter.ai": "openrouter",
}
# Parts of a domain, of which a host stands below: a region of OpenAI's, a resource of Azure's.
_DOMAINS = {
    ".api.openai.com": "openai",
    ".openai.azure.com": "openai",
    ".api.x.ai": "xai",
    "-aiplatform.googleapis.com": "gemini",
}
_OWNERS = {
    "llamacpp": "llama.cpp",
    "vllm": "vllm",
    "sglang": "sglang",
    "library": "ollama",
    "organization_owner": "lmstudio",
}
# Each stands in every answer of its server.
_HEADS = {"openai-processing-ms": "openai", "anthropic-organization-id": "anthropic"}
_TELLING_HEADS = frozenset({b"server", *(name.encode() for name in _HEADS)})
_PROXY_HEADS = (
    "x-litellm-version",
    "x-litellm-call-id",
    "x-portkey-trace-id",
    "helicone-id",
    "cf-aig-log-id",
)


class Head(Protocol):
    """The header fields of an answer."""

    def get(self, name: str, /) -> str | None:
        """Return the first field of that name, whatever its case."""


class _Model(Struct):
    """Holds one entry of a list, as far as it names its server and context length; each server has some of these."""

    id: Any = None
    name: Any = None
    model: Any = None
    object: Any = None
    owned_by: Any = None
    root: Any = None
    parent: Any = None
    digest: Any = None
    details: Any = None
    meta: Any = None
    state: Any = None
    max_model_len: Any = None
    loaded_context_length: Any = None
    max_context_length: Any = None
    context_length: Any = None
    created: Any = None


class _Answer(Struct):
    data: Any = None
    models: Any = None
    default_generation_settings: Any = None
    build_info: Any = None
    model_id: Any = None
    max_total_tokens: Any = None
    router: Any = None
    model_info: Any = None
    parameters: Any = None


_read_answer = msgspec.json.Decoder(_Answer).decode


def detect(url: str, head: Head | None = None, path: str = "", body: bytes = b"") -> Server | None:
    """Tell a server by its address, by the head of an answer, or by its answer on `path`; None if none tells."""
    if head is not None and any(head.get(name) is not None for name in _PROXY_HEADS):
        return GENERIC  # whatever it answers, others make it
    return detect_by_address(url) or detect_by_head(head) or _detect_by_body(head, path, _read(body))


def detect_by_address(url: str) -> Server | None:
    """Tell a server by its host."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    name = _HOSTS.get(host) or next((kind for end, kind in _DOMAINS.items() if host.endswith(end)), "")
    return SERVERS.get(name)


def detect_by_head(head: Head | None) -> Server | None:
    """Tell a server by the header fields of any of its answers."""
    if head is None:
        return None
    if (head.get("server") or "").lower() == "llama.cpp":
        return SERVERS["llama.cpp"]
    for name, kind in _HEADS.items():
        if head.get(name) is not None:
            return SERVERS[kind]
    return None


def may_tell(head: Head) -> bool:
    """Say whether a head has any field by which `detect_by_head` could tell a server; few have."""
    return not isinstance(head, Fields) or head.has_any(_TELLING_HEADS)


def contradicts(known: Server, by_head: bool, head: Head) -> bool:
    """Say whether an answer cannot be the known server's: another has its port now.

    `by_head` says that it was told by its head before. A head that tells nothing may as well be a proxy's.
    """
    told = detect_by_head(head)
    return by_head if told is None else told is not known


def _detect_by_body(head: Head | None, path: str, answer: _Answer | None) -> Server | None:
    if answer is None:
        return None
    if path == MODELS:
        return _detect_by_list(head, _models(answer.data))
    if path == TAGS:
        return _detect_by_tags(_models(answer.models))
    if path == PROPS and isinstance(answer.default_generation_settings, dict) and answer.build_info:
        return SERVERS["llama.cpp"]
    if path == INFO and isinstance(answer.model_id, str) and _tokens(answer.max_total_tokens):
        return SERVERS["tgi"]
    return None


def _detect_by_list(head: Head | None, models: list[_Model]) -> Server | None:
    """Tell by who is said to own the models, if it is one for all of them: several are a proxy's."""
    owners = {model.owned_by for model in models if isinstance(model.owned_by, str)}
    if len(owners) == 1 and all(model.owned_by in owners for model in models):
        known = _OWNERS.get(next(iter(owners)))
        if known == "vllm" and not all("max_model_len" in _said(model) or model.parent for model in models):
            return None
        if known:
            return SERVERS[known]
    if len(models) == 1 and models[0].owned_by == models[0].id and models[0].created == 0:
        return SERVERS["tgi"]
    by_uvicorn = head is not None and head.get("server") == "uvicorn" and head.get("x-request-id") is not None
    if models and by_uvicorn and all(map(_is_of_the_hub, models)):
        return SERVERS["transformers"]
    return None


def _said(model: _Model) -> set[str]:
    return {name for name in _Model.__struct_fields__ if getattr(model, name) is not None}


def _is_of_the_hub(model: _Model) -> bool:
    """Say whether a model is listed as transformers serve does: by its repository, with its owner, and no more."""
    owner, slash, name = str(model.id).partition("/")
    listed = _said(model) == {"id", "object", "owned_by", "created"}
    return listed and slash == "/" and ":" not in name and model.owned_by == owner


def _detect_by_tags(models: list[_Model]) -> Server | None:
    """Tell Ollama by the digests of its files; others answer there in its words, and have none, or say whose it is."""
    if any("sglang" in str(model.digest) for model in models):
        return SERVERS["sglang"]
    files = [model for model in models if isinstance(model.details, dict) and _is_digest(model.digest)]
    return SERVERS["ollama"] if models and len(files) == len(models) else None


def _is_digest(value: object) -> bool:
    text = value.removeprefix("sha256:") if isinstance(value, str) else ""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def contexts(path: str, body: bytes) -> dict[str, int]:
    """Return each model's loaded context, prompt and answer together; under "" if it applies to any."""
    answer = _read(body)
    if answer is None:
        return {}
    found: dict[str, int] = {}
    for name, tokens in _contexts(path, answer):
        if tokens and len(name) <= _LONGEST_NAME and len(found) < _MOST_MODELS:
            found[name] = min(tokens, found.get(name, tokens))
    return found


def models_listed(path: str, body: bytes) -> tuple[str, ...]:
    """Return the names of the models in a list of them."""
    answer = _read(body)
    if answer is None:
        return ()
    models = _models(answer.models) if path == TAGS else _models(answer.data)
    names = [str(model.model or model.name if path == TAGS else model.id) for model in models[:_MOST_MODELS]]
    return tuple(name for name in names if 0 < len(name) <= _LONGEST_NAME and name != "None")


def context_in(held: dict[str, int], model: str) -> int | None:
    """Return one model's context, from those of `contexts`; None if it is not given. Clients leave out `:latest`."""
    return held.get(model) or held.get(f"{model}:latest") or held.get("") or None


def _contexts(path: str, answer: _Answer) -> Iterator[tuple[str, int]]:
    if path == MODELS:
        yield from _listed(_models(answer.data))
    elif path == LOADED:
        for model in _models(answer.data):
            yield str(model.id), _tokens(model.loaded_context_length)
    elif path == PS:
        for model in _models(answer.models):
            for name in {str(model.name), str(model.model)} - {"None"}:
                yield name, _tokens(model.context_length)
    elif path == PROPS and isinstance(answer.default_generation_settings, dict):
        yield "", _tokens(answer.default_generation_settings.get("n_ctx"))
    elif path == INFO:
        yield "", _tokens(answer.max_total_tokens)
    elif path == SHOW:
        yield "", _shown(answer)


def _listed(models: list[_Model]) -> Iterator[tuple[str, int]]:
    """Yield each model's length by its server's own field.

    An adapter has its base's; llama.cpp takes any name for its own.
    """
    held = {str(model.id): _held(model) for model in models}
    for model in models:
        yield str(model.id), _held(model) or held.get(str(model.parent), 0)
    if len(models) == 1 and models[0].owned_by == "llamacpp":
        yield "", _held(models[0])


def _held(model: _Model) -> int:
    in_meta = model.meta.get("n_ctx") if isinstance(model.meta, dict) else None
    words = (
        in_meta,
        model.max_model_len,
        model.loaded_context_length,
        model.context_length,
        model.max_context_length,
    )
    return next((tokens for tokens in map(_tokens, words) if tokens), 0)


def _shown(answer: _Answer) -> int:
    """Return the context that Ollama loads a model with: its own `num_ctx`, else no more than it was trained with."""
    for line in str(answer.parameters or "").splitlines():
        word, _, value = line.strip().partition(" ")
        if word == "num_ctx" and value.strip().isdecimal():
            return _tokens(int(value.strip()[:12]))
    info = answer.model_info if isinstance(answer.model_info, dict) else {}
    return next((_tokens(value) for name, value in info.items() if str(name).endswith(".context_length")), 0)


def _tokens(value: object) -> int:
    """Return a number of tokens; 0 if it is none."""
    return value if type(value) is int and 0 < value < _MOST_TOKENS else 0


def _models(entries: object) -> list[_Model]:
    if not isinstance(entries, list):
        return []
    known = _Model.__struct_fields__
    return [
        _Model(**{name: entry[name] for name in known if name in entry})
        for entry in entries[:_MOST_MODELS]
        if isinstance(entry, dict)
    ]


def _read(body: bytes) -> _Answer | None:
    if not body or len(body) > MOST_BYTES:
        return None
    try:
        return _read_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
