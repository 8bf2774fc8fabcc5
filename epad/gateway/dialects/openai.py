"""OpenAI's dialect: its errors, its list of models, and what its routes have in common."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.dialect import Ask, Catalogue, OutputLimits, Tokens, TokenUsage
from epad.gateway.dialects.events import SSE_BOUNDARY, EventStream, sse_data
from epad.gateway.dialects.history import read_history
from epad.gateway.dialects.reply import Reply
from epad.gateway.errors import RequestError
from epad.gateway.refusal import Refusal

_CAPS = ("max_tokens", "max_completion_tokens")
_TEXT_PARTS = frozenset({"text", "refusal", "thinking"})
# What these bring into the prompt is not in the body.
_UNBOUNDED_FIELDS = ("web_search_options", "plugins", "chat_template")
_CHAT_FIELDS = frozenset({
    "model", "messages", "stream", "stream_options", "tools", "n", "best_of", "audio", *_CAPS, *_UNBOUNDED_FIELDS,
})  # fmt: skip
_STREAM_OPTIONS = frozenset({"include_usage", "continuous_usage_stats"})
_DONE = b"[DONE]"
# What is said in so many chunks is read at once, in a third of the time that one by one takes; an answer that
# loops is noticed so many later.
_HEARD_CHUNKS = 16
_HEARD_BYTES = 64 << 10
# OpenAI has it in every chunk of a stream whose usage was asked for. Within a string its quotes are escaped.
_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null')


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


class _PromptDetails(Struct):
    cached_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None


class _OutputDetails(Struct):
    reasoning_tokens: Tokens | None = None


class Usage(Struct):
    """What is cached is among the prompt's tokens, what is reasoned among the completion's."""

    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None

    def tokens(self) -> TokenUsage:
        """The same in epad's words."""
        prompt = self.prompt_tokens_details or _PromptDetails()
        output = self.completion_tokens_details or _OutputDetails()
        return TokenUsage(
            self.prompt_tokens,
            self.completion_tokens,
            prompt.cached_tokens or 0,
            prompt.cache_write_tokens or 0,
            output.reasoning_tokens or 0,
        )


class Answer(Struct):
    """What metering reads of an answer, or of one chunk of it."""

    choices: list[Raw] | None = None
    usage: Usage | None = None
    error: Any = None


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    function: _Function | None = None


class _Said(Struct):
    """A message, or a piece of one; vLLM and DeepSeek call what is thought by two names."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None


class _Choices(Struct):
    choices: list[_Choice] | None = None


class OpenAI:
    """The errors and the list of models."""

    name = "openai"
    catalogue = Catalogue("/v1/models", "data", "id", {"object": "list"})

    def error_body(self, refusal: Refusal) -> bytes:
        return msgspec.json.encode({"error": error_fields(refusal)})


class ChatCompletions:
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

    def usage(self, body: bytes) -> TokenUsage | None:
        return usage_of(body)

    def reply(self, body: bytes) -> Reply:
        return reply_of(body)

    def meter(self, ask: Ask) -> ChunkStream:
        return ChunkStream(self.dialect, b'"delta"', keep_usage=ask.wants_usage)


class ChunkStream(EventStream):
    """Reads server-sent chunks; takes out the usage that only epad asked for."""

    def __init__(self, dialect: OpenAI, content: bytes, *, keep_usage: bool) -> None:
        super().__init__(SSE_BOUNDARY)
        self._dialect = dialect
        self._content = content
        self._keep_usage = keep_usage
        self._unheard: list[bytes] = []
        self._unheard_bytes = 0

    def feed(self, data: bytes) -> bytes:
        if self._events.pending or not _are_plain(data):
            return super().feed(data)
        self._take([event[5:] for event in data.split(b"\n\n") if self._content in event], len(data))
        return data

    def most_tokens(self) -> int:
        self._hear_all()
        return super().most_tokens()

    def finish(self) -> bytes:
        passed = super().finish()
        self._hear_all()
        return passed

    def cut(self, refusal: Refusal) -> bytes:
        return b"data: " + self._dialect.error_body(refusal) + b"\n\ndata: [DONE]\n\n"

    def _pass(self, event: bytes) -> bytes:
        payload = sse_data(event)
        if payload == _DONE:
            self.complete = True
            self._hear_all()
            return event
        if self._content in payload:
            self._take([payload], len(payload))
        if b'"usage"' not in payload and b'"error"' not in payload:
            return event
        answer = json_body.read_answer(payload, Answer)
        if answer is None:
            return event
        self.failed = self.failed or answer.error is not None
        if answer.usage is None:
            return event if self._keep_usage else _NO_USAGE.sub(b"", event)
        self.usage = answer.usage.tokens()
        return event if self._keep_usage or answer.choices != [] else b""

    def _take(self, payloads: list[bytes], size: int) -> None:
        """Count chunks; what they say is read later, together with others."""
        self.chunks += len(payloads)
        self._unheard += payloads
        self._unheard_bytes += size
        if len(self._unheard) >= _HEARD_CHUNKS or self._unheard_bytes >= _HEARD_BYTES:
            self._hear_all()

    def _hear_all(self) -> None:
        unheard, self._unheard, self._unheard_bytes = self._unheard, [], 0
        if not unheard:
            return
        together = json_body.read_answer(b"[%b]" % b",".join(unheard), list[_Choices])
        if together is None:  # one of them is not what was expected
            for payload in unheard:
                _hear(payload, self.reply)
            return
        for answer in together:
            _hear_choices(answer, self.reply)


def _are_plain(data: bytes) -> bool:
    """Whether these are whole events of one line of data each, with nothing in them but what is said."""
    if b'"usage"' in data or b'"error"' in data or _DONE in data or b"\r" in data:
        return False
    events = data.count(b"\n\n")
    return (
        data.startswith(b"data:")
        and data.endswith(b"\n\n")
        and data.count(b"\n") == 2 * events
        and data.count(b"\n\ndata:") == events - 1
    )


def error_fields(refusal: Refusal) -> dict[str, object]:
    """A refusal as OpenAI's error object; the budget's figures beside it, where one refused."""
    error: dict[str, object] = {
        "message": refusal.message,
        "type": refusal.type,
        "param": None,
        "code": refusal.code,
    }
    return {**error, "budget": dict(refusal.details)} if refusal.details else error


def usage_of(body: bytes) -> TokenUsage | None:
    """The usage in a whole answer."""
    answer = json_body.read_answer(body, Answer)
    return answer.usage.tokens() if answer is not None and answer.usage is not None else None


def reply_of(body: bytes) -> Reply:
    """What is said in a whole answer."""
    reply = Reply()
    _hear(body, reply)
    return reply


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
    if json_body.first_byte(message.content) != b"[":
        return True
    parts = json_body.read_entries(message.content, "messages", list[_Part])
    return all(part.type in _TEXT_PARTS for part in parts)


def _hear(payload: bytes, reply: Reply) -> None:
    """Take in the first choice of an answer or of one chunk of it: others beside it are not one answer."""
    answer = json_body.read_answer(payload, _Choices)
    if answer is not None:
        _hear_choices(answer, reply)


def _hear_choices(answer: _Choices, reply: Reply) -> None:
    for choice in answer.choices or ():
        if choice.index:
            continue
        if choice.text:
            reply.say(choice.text)
        said = choice.delta or choice.message
        if said is None:
            continue
        # Of these a chunk has one at most: asking first is cheaper than saying nothing.
        if thought := said.reasoning_content or said.reasoning:
            reply.think(thought)
        if said.content:
            reply.say(said.content)
        if said.refusal:
            reply.say(said.refusal)
        for call in said.tool_calls or ():
            if call.function is not None:
                reply.call(call.function.name, call.function.arguments or "")


def _cap_edits(given: dict[str, int], cap: int) -> dict[str, bytes]:
    """The cap, where the body does not have it already."""
    written = str(cap).encode()
    if not given:
        return {"max_tokens": written}
    return {name: written for name, value in given.items() if not 0 < value <= cap}
