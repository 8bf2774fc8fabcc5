"""OpenAI's chat completions, and what the requests of its routes have in common."""

from __future__ import annotations

from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.dialect import Ask, OutputLimits
from epad.gateway.dialects.history import read_history
from epad.gateway.dialects.openai_answer import ChatAnswers, OpenAI, reply_of, usage_of
from epad.gateway.dialects.openai_chunks import ChunkStream
from epad.gateway.errors import RequestError

__all__ = ["ChatCompletions", "ChunkStream", "OpenAI", "ask_for_usage", "is_text", "reply_of", "usage_of"]

_CAPS = ("max_tokens", "max_completion_tokens")
_TEXT_PARTS = frozenset({"text", "refusal", "thinking"})
# What these bring into the prompt is not in the body.
_UNBOUNDED_FIELDS = ("web_search_options", "plugins", "chat_template")
_CHAT_FIELDS = frozenset({
    "model", "messages", "stream", "stream_options", "tools", "n", "best_of", "audio", *_CAPS, *_UNBOUNDED_FIELDS,
})  # fmt: skip
_STREAM_OPTIONS = frozenset({"include_usage", "continuous_usage_stats"})


class _Part(Struct, forbid_unknown_fields=True):
    type: str = ""
    text: Raw = Raw(b"")
    image_url: Raw = Raw(b"")
    input_audio: Raw = Raw(b"")
    file: Raw = Raw(b"")
    cache_control: Raw = Raw(b"")


class _Message(Struct, forbid_unknown_fields=True):
    content: Raw = Raw(b"null")
    audio: Raw = Raw(b"null")
    role: Raw = Raw(b"")
    name: Raw = Raw(b"")
    tool_calls: Raw = Raw(b"")
    tool_call_id: Raw = Raw(b"")
    refusal: Raw = Raw(b"")
    annotations: Raw = Raw(b"")
    reasoning_content: Raw = Raw(b"")


class ChatCompletions(ChatAnswers):
    """POST /v1/chat/completions."""

    path = "/v1/chat/completions"

    def __init__(self, dialect: OpenAI, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _CHAT_FIELDS)
        messages = fields.entries("messages", list[_Message])
        if messages is None:
            raise RequestError("messages: a list of messages is needed")
        stream = bool(fields.read("stream", bool))
        # The larger wish where both are given; none where either of them means no limit.
        given = {name: value for name in _CAPS if (value := fields.read(name, int)) is not None}
        cap = self._limits.cap(max(given.values(), default=None))
        bounded = not any(fields.has(name) for name in _UNBOUNDED_FIELDS) and all(map(is_text, messages))
        wants_usage, usage_edits = ask_for_usage(fields) if stream else (True, {})
        edits = _cap_edits(given, cap) | usage_edits
        return Ask(
            model=json_body.read_model(fields),
            stream=stream,
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            output_cap=cap,
            choices=json_body.read_choices(fields, "n", "best_of"),
            wants_usage=wants_usage,
            body=fields.splice(edits) if edits else body,
            prompt_digest=json_body.prompt_digest(fields, "model", "messages", "tools"),
            history=read_history(fields),
        )


def ask_for_usage(fields: JsonObject) -> tuple[bool, dict[str, bytes]]:
    """Whether the client asked for a stream's usage, and the edit that asks for it where it did not."""
    options = fields.child("stream_options", _STREAM_OPTIONS)
    if options is None:
        return False, {"stream_options": b'{"include_usage":true}'}
    if options.read("include_usage", bool):
        return True, {}
    return False, {"stream_options": options.splice({"include_usage": b"true"})}


def is_text(message: _Message) -> bool:
    """Say whether all of a message's tokens are in its bytes."""
    if bytes(message.audio) != b"null":
        return False
    if not bytes(message.content).startswith(b"["):
        return True
    parts = json_body.read_entries(message.content, "messages", list[_Part])
    return all(part.type in _TEXT_PARTS for part in parts)


def _cap_edits(given: dict[str, int], cap: int) -> dict[str, bytes]:
    """The cap, where the body does not have it already."""
    written = str(cap).encode()
    if not given:
        return {"max_tokens": written}
    return {name: written for name, value in given.items() if not 0 < value <= cap}
