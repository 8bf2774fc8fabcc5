"""OpenAI's dialect: chat completions, plain and as server-sent events."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import Fields
from epad.gateway.dialects.dialect import Ask, Catalogue, OutputLimits, Tokens, TokenUsage
from epad.gateway.dialects.events import SSE_BOUNDARY, EventSplitter
from epad.gateway.errors import RequestError
from epad.gateway.refusal import Refusal

_CAPS = ("max_tokens", "max_completion_tokens")
_TEXT_PARTS = frozenset({"text", "refusal", "thinking"})
# What these bring into the prompt is not in the body.
_UNBOUNDED_FIELDS = ("web_search_options", "plugins", "chat_template")
_TRUE = Raw(b"true")
_DONE = b"[DONE]"


class _Part(Struct):
    type: str = ""


class _Message(Struct):
    content: Raw = Raw(b"null")
    audio: Raw = Raw(b"null")


class _Usage(Struct):
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None


class _Answer(Struct):
    choices: list[Raw] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


class OpenAI:
    """The errors and the list of models."""

    name = "openai"
    catalogue = Catalogue("/v1/models", "data", "id", {"object": "list"})

    def error_body(self, refusal: Refusal) -> bytes:
        error: dict[str, object] = {
            "message": refusal.message,
            "type": refusal.type,
            "param": None,
            "code": refusal.code,
        }
        if refusal.details:
            error["budget"] = dict(refusal.details)
        return msgspec.json.encode({"error": error})

    def cut(self, refusal: Refusal) -> bytes:
        return b"data: " + self.error_body(refusal) + b"\n\ndata: [DONE]\n\n"


class ChatCompletions:
    """POST /v1/chat/completions."""

    path = "/v1/chat/completions"

    def __init__(self, dialect: OpenAI, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_fields(body)
        messages = json_body.read(fields, "messages", list[_Message])
        if messages is None:
            raise RequestError("messages: a list of messages is needed")
        stream = bool(json_body.read(fields, "stream", bool))
        cap = self._limits.cap(_wish(fields))
        bounded = not any(name in fields for name in _UNBOUNDED_FIELDS) and all(map(_is_text, messages))
        wants_usage, forwarded = _forwarded(body, fields, cap, stream)
        return Ask(
            model=json_body.read_model(fields),
            stream=stream,
            prompt_bound=json_body.prompt_bound(body, fields, self._limits.template_tokens)
            if bounded
            else None,
            output_cap=cap,
            choices=_choices(fields),
            wants_usage=wants_usage,
            body=forwarded,
            prompt_digest=json_body.prompt_digest(fields, "model", "messages", "tools"),
        )

    def usage(self, body: bytes) -> TokenUsage | None:
        answer = _read_answer(body)
        return _token_usage(answer.usage) if answer is not None and answer.usage is not None else None

    def meter(self, ask: Ask) -> ChatStream:
        return ChatStream(keep_usage_chunk=ask.wants_usage)


class ChatStream:
    """Reads server-sent chunks; takes out the usage chunk that only epad asked for."""

    def __init__(self, *, keep_usage_chunk: bool) -> None:
        self.usage: TokenUsage | None = None
        self.chunks = 0
        self.complete = False
        self.failed = False
        self._keep_usage_chunk = keep_usage_chunk
        self._events = EventSplitter(SSE_BOUNDARY)

    def feed(self, data: bytes) -> bytes:
        return b"".join([event for event in self._events.feed(data) if self._passes(event)])

    def finish(self) -> bytes:
        rest = self._events.rest()
        return rest if self._passes(rest) else b""

    def _passes(self, event: bytes) -> bool:
        """Take note of an event, and say whether the client gets it."""
        payload = _data_of(event)
        if payload == _DONE:
            self.complete = True
            return True
        if b'"delta"' in payload:
            self.chunks += 1
        if b'"usage"' not in payload and b'"error"' not in payload:
            return True
        answer = _read_answer(payload)
        if answer is None:
            return True
        self.failed = self.failed or answer.error is not None
        if answer.usage is None:
            return True
        self.usage = _token_usage(answer.usage)
        return self._keep_usage_chunk or answer.choices != []


def _data_of(event: bytes) -> bytes:
    """The data of an event; one whose data is spread over lines, or hidden behind comments, is put together."""
    if event.startswith(b"data:") and event.count(b"\n") <= 2:
        return event[5:].strip()
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def _read_answer(body: bytes) -> _Answer | None:
    try:
        return _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _token_usage(usage: _Usage) -> TokenUsage:
    return TokenUsage(usage.prompt_tokens, usage.completion_tokens)


def _is_text(message: _Message) -> bool:
    if bytes(message.audio) != b"null":
        return False
    if not bytes(message.content).startswith(b"["):
        return True
    return all(
        part.type in _TEXT_PARTS for part in json_body.decode(message.content, "messages", list[_Part])
    )


def _wish(fields: Fields) -> int | None:
    """The client's own maximum; the larger where it gave both, none if either of them means no limit."""
    given = [value for name in _CAPS if (value := json_body.read(fields, name, int)) is not None]
    return max(given, default=None)


def _choices(fields: Fields) -> int:
    choices = 1
    for name in ("n", "best_of"):
        wish = json_body.read(fields, name, int) or 1
        if not 1 <= wish <= json_body.MAX_CHOICES:
            raise RequestError(f"{name}: {wish} is not between 1 and {json_body.MAX_CHOICES}")
        choices = max(choices, wish)
    return choices


def _forwarded(body: bytes, fields: Fields, cap: int, stream: bool) -> tuple[bool, bytes]:
    """Write the cap, and for a stream the wish for usage, where the body does not have them already."""
    edits: Fields = {
        name: json_body.number(cap)
        for name in _CAPS
        if (given := json_body.read(fields, name, int)) is not None and not 0 < given <= cap
    }
    if not any(json_body.read(fields, name, int) is not None for name in _CAPS):
        edits["max_tokens"] = json_body.number(cap)
    wants_usage = True
    if stream:
        options = json_body.read(fields, "stream_options", Fields) or {}
        wants_usage = bool(json_body.read(options, "include_usage", bool))
        if not wants_usage:
            edits["stream_options"] = Raw(json_body.write_fields({**options, "include_usage": _TRUE}))
    return wants_usage, json_body.write_fields({**fields, **edits}) if edits else body
