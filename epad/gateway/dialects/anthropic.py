"""Anthropic's dialect: messages, plain and as server-sent events, and the count of a prompt's tokens."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.dialect import FREE, Ask, Catalogue, OutputLimits, Tokens, TokenUsage
from epad.gateway.dialects.events import SSE_BOUNDARY, EventStream, sse_data, sse_event
from epad.gateway.dialects.history import read_history
from epad.gateway.dialects.reply import Reply
from epad.gateway.errors import RequestError
from epad.gateway.refusal import Refusal

_CAP = "max_tokens"
# A tool's result has blocks of its own, and a search result in it: 2.
_MAX_DEPTH = 8
_OURS = frozenset({
    "model", "messages", "system", "tools", "stream", "mcp_servers", "container", "context_management", _CAP,
})  # fmt: skip
_EDITS = frozenset({"edits"})
# With these the server works by itself, and asks the model as often as it likes.
_SERVER_FIELDS = ("mcp_servers", "container")
_CUSTOM_TOOLS = frozenset({"", "custom"})
# Run by the client, but described to the model in words that are not in the body.
_NAMED_TOOLS = ("bash_", "text_editor_", "computer_", "memory_", "browser_toolset_")
_TEXT_BLOCKS = frozenset({"text", "tool_use", "tool_result", "thinking", "redacted_thinking"})

_ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error",
}  # fmt: skip


class _Edit(Struct, forbid_unknown_fields=True):
    type: str | None = None


class _Tool(Struct, forbid_unknown_fields=True):
    type: str | None = None
    name: Raw = Raw(b"")
    description: Raw = Raw(b"")
    input_schema: Raw = Raw(b"")
    cache_control: Raw = Raw(b"")


class _Block(Struct, forbid_unknown_fields=True):
    type: str = ""
    content: Raw = Raw(b"null")
    text: Raw = Raw(b"")
    source: Raw = Raw(b"")
    thinking: Raw = Raw(b"")
    signature: Raw = Raw(b"")
    id: Raw = Raw(b"")
    name: Raw = Raw(b"")
    input: Raw = Raw(b"")
    tool_use_id: Raw = Raw(b"")
    cache_control: Raw = Raw(b"")


class _Message(Struct, forbid_unknown_fields=True):
    content: Raw = Raw(b"null")
    role: Raw = Raw(b"")


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


class Messages:
    """POST /v1/messages."""

    path = "/v1/messages"

    def __init__(self, dialect: Anthropic, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _OURS)
        bounded = _is_bounded(fields)
        wish = fields.read(_CAP, int)
        cap = self._limits.cap(wish)
        return Ask(
            model=json_body.read_model(fields),
            stream=bool(fields.read("stream", bool)),
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            output_cap=cap,
            choices=1,
            wants_usage=True,  # every stream has it
            body=body if wish == cap else fields.splice({_CAP: str(cap).encode()}),
            prompt_digest=json_body.prompt_digest(fields, "model", "system", "messages", "tools"),
            history=read_history(fields, before=("system",)),
        )

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


class CountTokens:
    """POST /v1/messages/count_tokens: a turn of no tokens.

    No model is run for it and Anthropic charges nothing, so it costs nothing here; but it keeps the server
    busy, so it takes its place among the turns in flight and the requests of a minute, and in the ledger.
    """

    path = "/v1/messages/count_tokens"

    def __init__(self, dialect: Anthropic) -> None:
        self.dialect = dialect

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _OURS)
        return Ask(
            model=json_body.read_model(fields),
            stream=False,
            prompt_bound=0,
            output_cap=0,
            choices=1,
            wants_usage=True,
            body=body,
            # Not the digest of the message it counts: to count first and then to ask is no repetition.
            prompt_digest=json_body.prompt_digest(fields, "messages", "model", "system", "tools"),
        )

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


def _is_bounded(fields: JsonObject) -> bool:
    """Say whether all of the prompt's tokens are in its bytes. Raises RequestError where nothing bounds them."""
    for name in _SERVER_FIELDS:
        if fields.has(name):
            raise RequestError(f"{name}: the server would work by itself, so nothing bounds its tokens")
    messages = fields.entries("messages", list[_Message])
    if messages is None:
        raise RequestError("messages: a list of messages is needed")
    management = fields.child("context_management", _EDITS)
    for edit in (management.entries("edits", list[_Edit]) if management is not None else None) or []:
        if not (edit.type or "").startswith("clear_"):
            raise RequestError("context_management: a summary is another request, which no usage counts")
    named = False
    for tool in fields.entries("tools", list[_Tool]) or []:
        kind = tool.type or ""
        if kind.startswith(_NAMED_TOOLS):
            named = True
        elif kind not in _CUSTOM_TOOLS:
            raise RequestError(
                f"tools: {kind[:80]!r} runs at the server and asks the model as often as it likes, "
                "so nothing bounds its tokens; metered: tools of the client's own"
            )

    return not named and all(_is_text(message.content) for message in messages)


def _is_text(content: Raw, depth: int = 0) -> bool:
    if json_body.first_byte(content) != b"[":
        return True
    if depth >= _MAX_DEPTH:  # each level is read once more
        raise RequestError(f"messages: blocks within blocks, more than {_MAX_DEPTH} deep")
    blocks = json_body.read_entries(content, "messages", list[_Block])
    return all(block.type in _TEXT_BLOCKS and _is_text(block.content, depth + 1) for block in blocks)
