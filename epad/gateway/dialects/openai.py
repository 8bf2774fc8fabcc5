"""Serve OpenAI's chat completions, and share the common parts of its routes' requests."""

from __future__ import annotations

from msgspec import Raw, Struct

from epad.configuration.server_kinds import CHAT
from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import ABSENT, JsonObject
from epad.gateway.dialects.caps import (
    CAP_NAMES,
    CHOICE_NAMES,
    cap_edits,
    option_edits,
    options_of,
    read_caps,
    wish_of,
)
from epad.gateway.dialects.dialect import Ask, Habits, OutputLimits
from epad.gateway.dialects.history import read_history
from epad.gateway.dialects.openai_answer import ChatAnswers, OpenAI, usage_of
from epad.gateway.dialects.openai_chunks import ChunkStream
from epad.gateway.errors import RequestError
from epad.gateway.server_fields import runs_at_client

__all__ = [
    "ChatCompletions",
    "ChunkStream",
    "OpenAI",
    "is_text",
    "usage_of",
    "wants_usage",
    "write_capped",
]

_TEXT_PARTS = frozenset({"text", "refusal", "thinking"})
# What these bring into the prompt is not in the body.
_UNBOUNDED_FIELDS = frozenset({"web_search_options", "plugins", "chat_template"})
_CHAT_FIELDS = frozenset({
    "model", "messages", "stream", "stream_options", "tools", "audio", *CAP_NAMES, *CHOICE_NAMES, *_UNBOUNDED_FIELDS,
})  # fmt: skip
_STREAM_OPTIONS = frozenset({"include_usage", "continuous_usage_stats"})


_NULL = Raw(b"null")


class _Part(Struct, forbid_unknown_fields=True):
    type: str = ""
    text: Raw = ABSENT
    image_url: Raw = ABSENT
    input_audio: Raw = ABSENT
    file: Raw = ABSENT
    cache_control: Raw = ABSENT


class _Tool(Struct, forbid_unknown_fields=True):
    type: str | None = None
    function: Raw = Raw(b"null")
    name: Raw = Raw(b"null")
    custom: Raw = Raw(b"null")
    description: Raw = ABSENT
    parameters: Raw = ABSENT
    input_schema: Raw = ABSENT
    strict: Raw = ABSENT
    cache_control: Raw = ABSENT


class _Message(Struct, forbid_unknown_fields=True):
    content: Raw = ABSENT
    audio: Raw = Raw(b"null")
    role: Raw = ABSENT
    name: Raw = ABSENT
    tool_calls: Raw = ABSENT
    tool_call_id: Raw = ABSENT
    refusal: Raw = ABSENT
    annotations: Raw = ABSENT
    reasoning_content: Raw = ABSENT


class ChatCompletions(ChatAnswers):
    """POST /v1/chat/completions."""

    path = CHAT

    def __init__(self, dialect: OpenAI, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _CHAT_FIELDS)
        messages = fields.entries("messages", list[_Message])
        if messages is None:
            raise RequestError("messages: a list of messages is needed")
        values = fields.values
        if "tools" in values:
            _refuse_server_tools(fields)
        options_of(fields)
        stream = "stream" in values and bool(fields.read("stream", bool))
        caps = read_caps(fields)
        strange = not _UNBOUNDED_FIELDS.isdisjoint(values)
        bounded = not (strange and any(map(fields.has, _UNBOUNDED_FIELDS))) and all(map(is_text, messages))
        return Ask(
            model=json_body.read_model(fields),
            stream=stream,
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            wish=wish_of(caps),
            choices=json_body.read_choices(fields, *CHOICE_NAMES),
            wants_usage=wants_usage(fields) if stream else True,
            fields=fields,
            prompt_digest=json_body.prompt_digest(fields, "model", "messages", "tools"),
            history=read_history(fields, roles=[message.role for message in messages]),
            caps=caps,
        )

    def write(self, ask: Ask, cap: int, habits: Habits) -> bytes:
        return write_capped(ask, cap, habits)


def _refuse_server_tools(fields: JsonObject) -> None:
    """Raise RequestError for a tool that the server runs; one of Gemini's has its name in the place of a type."""
    for tool in fields.entries("tools", list[_Tool]) or []:
        kind = tool.type or ""
        named = kind or any(bytes(raw) != b"null" for raw in (tool.function, tool.name))
        if not named or not runs_at_client(CHAT, kind):
            raise RequestError(
                f"tools: {kind[:80] or 'one without a type'!r} runs at the server and asks the model as often as it "
                "likes, so nothing bounds its tokens; metered: custom, function"
            )


def wants_usage(fields: JsonObject) -> bool:
    """Tell if the client asks for a stream's usage. Raises RequestError."""
    options = fields.child("stream_options", _STREAM_OPTIONS)
    return options is not None and bool(options.read("include_usage", bool))


def write_capped(ask: Ask, cap: int, habits: Habits) -> bytes:
    """The body with the cap, and with the question for a stream's usage where the client did not ask it."""
    given = read_caps(ask.fields) if ask.caps is None else ask.caps
    edits = cap_edits(given, cap, habits.caps) | option_edits(ask.fields, cap)
    if ask.stream and not ask.wants_usage and habits.usage_option:
        edits["stream_options"] = _asking_for_usage(ask.fields)
    return ask.fields.splice(edits) if edits else ask.fields.text


def _asking_for_usage(fields: JsonObject) -> bytes:
    options = fields.child("stream_options", _STREAM_OPTIONS)
    return b'{"include_usage":true}' if options is None else options.splice({"include_usage": b"true"})


def is_text(message: _Message) -> bool:
    """Say whether all of a message's tokens are in its bytes."""
    if message.audio != _NULL:
        return False
    if json_body.first_byte(message.content) != b"[":
        return True
    parts = json_body.read_entries(message.content, "messages", list[_Part])
    return all(part.type in _TEXT_PARTS for part in parts)
