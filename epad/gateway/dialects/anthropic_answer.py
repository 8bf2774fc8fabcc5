"""What metering reads of Anthropic's answers, plain and as server-sent events."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.dialect import FREE, Ask, Catalogue, Tokens, TokenUsage
from epad.gateway.dialects.events import SSE_BOUNDARY, EventStream, sse_data, sse_event
from epad.gateway.dialects.reply import Reply
from epad.gateway.refusal import Refusal

_ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error",
}  # fmt: skip


class _OutputDetails(Struct):
    thinking_tokens: Tokens | None = None


class _Usage(Struct):
    """What was read from a cache or written to one is counted beside the input's tokens, not among them."""

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cache_creation_input_tokens: Tokens | None = None
    cache_read_input_tokens: Tokens | None = None
    output_tokens_details: _OutputDetails | None = None


class _Answer(Struct):
    usage: _Usage | None = None


class _Event(Struct):
    type: str = ""
    message: _Answer | None = None
    usage: _Usage | None = None


class _Said(Struct):
    """A block of an answer, or what is added to one."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    name: str | None = None
    input: Raw = Raw(b"")


class _Begun(Struct):
    content_block: _Said | None = None


class _Added(Struct):
    delta: _Said | None = None


class _Content(Struct):
    content: list[_Said] | None = None


class Anthropic:
    """The errors and the list of models."""

    name = "anthropic"
    catalogue = Catalogue("/v1/models", "data", "id", {"has_more": False, "first_id": None, "last_id": None})

    def error_body(self, refusal: Refusal) -> bytes:
        error: dict[str, object] = {
            "type": _ERROR_TYPES.get(refusal.status, "api_error"),
            "message": refusal.message,
            "code": refusal.code,
        }
        if refusal.details:
            error["budget"] = dict(refusal.details)
        return msgspec.json.encode({"type": "error", "error": error, "request_id": None})


class MessageAnswers:
    """How a message is read."""

    dialect: Anthropic

    def usage(self, body: bytes) -> TokenUsage | None:
        answer = json_body.read_answer(body, _Answer)
        return _token_usage(answer.usage) if answer is not None and answer.usage is not None else None

    def reply(self, body: bytes) -> Reply:
        answer = json_body.read_answer(body, _Content)
        reply = Reply()
        for block in (answer.content if answer is not None else None) or ():
            reply.think(block.thinking)
            reply.say(block.text)
            if block.type == "tool_use":
                reply.call(block.name, bytes(block.input))
        return reply

    def meter(self, ask: Ask) -> MessageStream:
        del ask
        return MessageStream(self.dialect)


class CountAnswers:
    """How a count of tokens is read: it costs nothing, and says nothing."""

    dialect: Anthropic

    def usage(self, body: bytes) -> TokenUsage | None:
        del body
        return FREE

    def reply(self, body: bytes) -> Reply:
        del body  # a number is not said
        return Reply()

    def meter(self, ask: Ask) -> MessageStream:
        del ask
        return MessageStream(self.dialect)


class MessageStream(EventStream):
    """Reads typed events: the first has the input's counts, the last but one the output's."""

    def __init__(self, dialect: Anthropic) -> None:
        super().__init__(SSE_BOUNDARY)
        self._dialect = dialect
        self._counted = _Usage()

    def cut(self, refusal: Refusal) -> bytes:
        """The error event; nothing may follow it, `message_stop` would make the answer look whole."""
        return sse_event("error", self._dialect.error_body(refusal))

    def _pass(self, event: bytes) -> bytes:
        payload = sse_data(event)
        if b'"content_block_delta"' in payload:
            self.chunks += 1
            self._hear(payload)
            return event
        answer = json_body.read_answer(payload, _Event)
        if answer is None:
            return event
        if answer.type == "message_start" and answer.message is not None:
            # Its output count is of what the server has begun with; the true one is in `message_delta`.
            self._count(answer.message.usage, output=False)
        elif answer.type == "message_delta":
            self._count(answer.usage, output=True)
        elif answer.type == "content_block_start":
            begun = json_body.read_answer(payload, _Begun)
            if begun is not None and begun.content_block is not None:
                self.reply.call(begun.content_block.name)
        elif answer.type == "message_stop":
            self.complete = True
        elif answer.type == "error":
            self.failed = True
        return event

    def _hear(self, payload: bytes) -> None:
        added = json_body.read_answer(payload, _Added)
        if added is not None and added.delta is not None:
            self.reply.think(added.delta.thinking)
            self.reply.say(added.delta.text)
            self.reply.call(arguments=added.delta.partial_json or "")

    def _count(self, usage: _Usage | None, *, output: bool) -> None:
        """Take over what is counted; every count is of all so far, and one left out stays as it was."""
        for name in _Usage.__struct_fields__ if usage is not None else ():
            value = getattr(usage, name)
            if value is not None and (output or not name.startswith("output_")):
                setattr(self._counted, name, value)
        self.usage = _token_usage(self._counted)


def _token_usage(usage: _Usage) -> TokenUsage:
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    details = usage.output_tokens_details
    return TokenUsage(
        None if usage.input_tokens is None else usage.input_tokens + read + written,
        usage.output_tokens,
        read,
        written,
        (details.thinking_tokens or 0) if details is not None else 0,
    )
