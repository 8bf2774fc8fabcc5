"""OpenAI's older routes: completions of plain text, and embeddings."""

from __future__ import annotations

from msgspec import Raw

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.dialect import Ask, OutputLimits
from epad.gateway.dialects.openai import ask_for_usage
from epad.gateway.dialects.openai_answer import CompletionAnswers, EmbeddingAnswers, OpenAI
from epad.gateway.errors import RequestError

_CAP = "max_tokens"
_COMPLETION_FIELDS = frozenset({
    "model", "prompt", "prompt_embeds", "stream", "stream_options", "n", "best_of", "echo", _CAP,
})  # fmt: skip
_EMBEDDING_FIELDS = frozenset({"model", "input", "messages", "stream"})


class Completions(CompletionAnswers):
    """POST /v1/completions. Each of its prompts, text or token ids, is answered `n` times."""

    path = "/v1/completions"

    def __init__(self, dialect: OpenAI, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _COMPLETION_FIELDS)
        prompts = _prompts(fields, "prompt")
        stream = bool(fields.read("stream", bool))
        wish = fields.read(_CAP, int)
        # Echo of 0 tokens is how prompts are scored; but to Ollama and llama.cpp 0 means without end.
        scoring = wish == 0 and fields.read("echo", bool)
        cap = 1 if scoring else self._limits.cap(wish)
        wants_usage, edits = ask_for_usage(fields) if stream else (True, {})
        if wish != cap:
            edits = {_CAP: str(cap).encode(), **edits}
        bounded = not fields.has("prompt_embeds")
        return Ask(
            model=json_body.read_model(fields),
            stream=stream,
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            output_cap=cap,
            choices=prompts * json_body.read_choices(fields, "n", "best_of"),
            wants_usage=wants_usage,
            body=fields.splice(edits) if edits else body,
            prompt_digest=json_body.prompt_digest(fields, "model", "prompt"),
            prompts=prompts,
        )


class Embeddings(EmbeddingAnswers):
    """POST /v1/embeddings. It has no output, and its body is never changed."""

    path = "/v1/embeddings"

    def __init__(self, dialect: OpenAI, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _EMBEDDING_FIELDS)
        bounded = not fields.has("messages")  # vLLM's way to embed images
        return Ask(
            model=json_body.read_model(fields),
            stream=False,
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            output_cap=0,
            choices=1,
            wants_usage=True,
            body=body,
            prompt_digest=json_body.prompt_digest(fields, "model", "input", "messages"),
            prompts=_prompts(fields, "input") if bounded else 1,
        )


def _prompts(fields: JsonObject, name: str) -> int:
    """How many prompts there are: a text, a list of them, a list of token ids, or a list of such lists.

    Raises RequestError.
    """
    raw = fields.raw(name)
    if not raw.startswith((b'"', b"[")):
        raise RequestError(f"{name}: text, token ids, or a list of either is needed")
    if raw.startswith(b'"'):
        return 1
    entries = json_body.decode(raw, name, list[Raw])
    of_tokens = bool(entries) and bytes(entries[0])[:1].isdigit()
    return 1 if of_tokens else max(1, len(entries))
