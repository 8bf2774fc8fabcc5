"""OpenAI's older routes: completions of plain text, and embeddings."""

from __future__ import annotations

import re

from msgspec import Raw

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.dialect import Ask, OutputLimits, TokenUsage
from epad.gateway.dialects.openai import ChunkStream, OpenAI, ask_for_usage, reply_of, usage_of
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.shape import refuse_entries
from epad.gateway.errors import RequestError

_CAP = "max_tokens"
# Token ids are not taken apart: there may be a million of them, and they are one prompt.
_OF_NUMBERS = re.compile(rb"\[[ \t\n\r]*[0-9]")
_BEGINNING_BYTES = 64
_COMPLETION_FIELDS = frozenset({
    "model", "prompt", "prompt_embeds", "stream", "stream_options", "n", "best_of", "echo", _CAP,
})  # fmt: skip
_EMBEDDING_FIELDS = frozenset({"model", "input", "messages", "stream"})


class Completions:
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

    def usage(self, body: bytes) -> TokenUsage | None:
        return usage_of(body)

    def reply(self, body: bytes) -> Reply:
        return reply_of(body)

    def meter(self, ask: Ask) -> ChunkStream:
        return ChunkStream(self.dialect, b'"text"', keep_usage=ask.wants_usage)


class Embeddings:
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

    def usage(self, body: bytes) -> TokenUsage | None:
        usage = usage_of(body)
        return None if usage is None else TokenUsage(usage.input_tokens, usage.output_tokens or 0)

    def reply(self, body: bytes) -> Reply:
        del body  # it says nothing
        return Reply()

    def meter(self, ask: Ask) -> ChunkStream:
        return ChunkStream(self.dialect, b'"embedding"', keep_usage=ask.wants_usage)


def _prompts(fields: JsonObject, name: str) -> int:
    """How many prompts there are: a text, a list of them, a list of token ids, or a list of such lists.

    Raises RequestError.
    """
    begins = fields.begins(name)
    if begins not in {b'"', b"["}:
        raise RequestError(f"{name}: text, token ids, or a list of either is needed")
    if begins == b'"':
        return 1
    if _OF_NUMBERS.match(memoryview(fields.values[name])[:_BEGINNING_BYTES]):
        return 1
    entries = fields.read(name, list[Raw]) or []
    refuse_entries(len(entries), name)
    return max(1, len(entries))
