"""OpenAI's older routes: completions of plain text, and embeddings."""

from __future__ import annotations

import re

from msgspec import Raw

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.caps import CAP_NAMES, CHOICE_NAMES, options_of, read_caps, wish_of
from epad.gateway.dialects.dialect import Ask, Habits, OutputLimits
from epad.gateway.dialects.openai import wants_usage, write_capped
from epad.gateway.dialects.openai_answer import CompletionAnswers, EmbeddingAnswers, OpenAI
from epad.gateway.dialects.shape import refuse_entries
from epad.gateway.errors import RequestError

# Token ids are not taken apart: there may be a million of them, and they are one prompt.
_OF_NUMBERS = re.compile(rb"\[[ \t\n\r]*[0-9]")
_BEGINNING_BYTES = 64
_COMPLETION_FIELDS = frozenset({
    "model", "prompt", "prompt_embeds", "stream", "stream_options", "echo", *CAP_NAMES, *CHOICE_NAMES,
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
        options_of(fields)
        stream = bool(fields.read("stream", bool))
        caps = read_caps(fields)
        # Echo of 0 tokens is how prompts are scored.
        scoring = bool(caps) and not any(caps.values()) and fields.read("echo", bool)
        bounded = not fields.has("prompt_embeds")
        return Ask(
            model=json_body.read_model(fields),
            stream=stream,
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            wish=0 if scoring else wish_of(caps),
            choices=prompts * json_body.read_choices(fields, *CHOICE_NAMES),
            wants_usage=wants_usage(fields) if stream else True,
            fields=fields,
            prompt_digest=json_body.prompt_digest(fields, "model", "prompt"),
            prompts=prompts,
            caps=caps,
        )

    def write(self, ask: Ask, cap: int, habits: Habits) -> bytes:
        return write_capped(ask, cap, habits)


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
            wish=0,
            choices=1,
            wants_usage=True,
            fields=fields,
            prompt_digest=json_body.prompt_digest(fields, "model", "input", "messages"),
            prompts=_prompts(fields, "input") if bounded else 1,
            generates=False,
        )

    def write(self, ask: Ask, cap: int, habits: Habits) -> bytes:
        del cap, habits  # it has no output
        return ask.fields.text


def _prompts(fields: JsonObject, name: str) -> int:
    """Return how many prompts there are: a text, a list of them, a list of token ids, or a list of such lists.

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
