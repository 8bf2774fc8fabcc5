"""What metering reads of OpenAI's answers: chat and completions, plain and as server-sent chunks."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.dialect import Ask, Catalogue, Tokens, TokenUsage
from epad.gateway.dialects.events import SSE_BOUNDARY, EventStream, sse_data
from epad.gateway.dialects.reply import Reply
from epad.gateway.refusal import Refusal

_DONE = b"[DONE]"
# What is said in so many chunks is read at once, in a third of the time that one by one takes; an answer that
# loops is noticed so many later.
_HEARD_CHUNKS = 16
_HEARD_BYTES = 64 << 10
# OpenAI has it in every chunk of a stream whose usage was asked for. Within a string its quotes are escaped.
_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null')


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


class ChatAnswers:
    """How a chat's answer is read."""

    dialect: OpenAI

    def usage(self, body: bytes) -> TokenUsage | None:
        return usage_of(body)

    def reply(self, body: bytes) -> Reply:
        return reply_of(body)

    def meter(self, ask: Ask) -> ChunkStream:
        return ChunkStream(self.dialect, b'"delta"', keep_usage=ask.wants_usage)


class CompletionAnswers:
    """How a completion's answer is read."""

    dialect: OpenAI

    def usage(self, body: bytes) -> TokenUsage | None:
        return usage_of(body)

    def reply(self, body: bytes) -> Reply:
        return reply_of(body)

    def meter(self, ask: Ask) -> ChunkStream:
        return ChunkStream(self.dialect, b'"text"', keep_usage=ask.wants_usage)


class EmbeddingAnswers:
    """How an answer of vectors is read: it has no output."""

    dialect: OpenAI

    def usage(self, body: bytes) -> TokenUsage | None:
        usage = usage_of(body)
        return None if usage is None else TokenUsage(usage.input_tokens, usage.output_tokens or 0)

    def reply(self, body: bytes) -> Reply:
        del body  # it says nothing
        return Reply()

    def meter(self, ask: Ask) -> ChunkStream:
        return ChunkStream(self.dialect, b'"embedding"', keep_usage=ask.wants_usage)


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
