"""What metering reads of Ollama's answers, plain and as one JSON object a line."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.dialect import FREE, Ask, Catalogue, Tokens, TokenUsage
from epad.gateway.dialects.events import LINE_BOUNDARY, EventStream
from epad.gateway.dialects.reply import Reply
from epad.gateway.refusal import Refusal

# What is answered to an empty prompt: the model was put into memory, or out of it, and nothing generated.
_NOT_GENERATED = frozenset({"load", "unload"})


class _Answer(Struct):
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Tokens | None = None
    eval_count: Tokens | None = None
    error: Any = None


class _Function(Struct):
    name: str = ""
    arguments: Raw = Raw(b"")


class _Call(Struct):
    function: _Function | None = None


class _Message(Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Said(Struct):
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None


class Ollama:
    """The errors and the list of models."""

    name = "ollama"
    catalogue = Catalogue("/api/tags", "models", "name", {})

    def error_body(self, refusal: Refusal) -> bytes:
        return msgspec.json.encode({"error": refusal.message, "code": refusal.code})


class LineAnswers:
    """How what was generated is read."""

    dialect: Ollama

    def usage(self, body: bytes) -> TokenUsage | None:
        answer = json_body.read_answer(body, _Answer)
        return _token_usage(answer) if answer is not None and answer.done else None

    def reply(self, body: bytes) -> Reply:
        reply = Reply()
        _hear(body, reply)
        return reply

    def meter(self, ask: Ask) -> LineStream:
        del ask  # its usage is always in the last line
        return LineStream(self.dialect)


class VectorAnswers:
    """How an answer of vectors is read: it has no output."""

    dialect: Ollama

    def usage(self, body: bytes) -> TokenUsage | None:
        answer = json_body.read_answer(body, _Answer)
        return (
            TokenUsage(answer.prompt_eval_count, 0) if answer is not None and answer.error is None else None
        )

    def reply(self, body: bytes) -> Reply:
        del body  # it says nothing
        return Reply()

    def meter(self, ask: Ask) -> LineStream:
        del ask
        return LineStream(self.dialect)


class LineStream(EventStream):
    """Reads the lines of an answer; the last one says `done` and carries the counts."""

    def __init__(self, dialect: Ollama) -> None:
        super().__init__(LINE_BOUNDARY)
        self._dialect = dialect

    def cut(self, refusal: Refusal) -> bytes:
        return self._dialect.error_body(refusal) + b"\n"

    def _pass(self, event: bytes) -> bytes:
        answer = json_body.read_answer(event, _Answer)
        if answer is None:
            return event
        self.failed = self.failed or answer.error is not None
        if answer.done:
            self.complete = True
            self.usage = _token_usage(answer)
        else:
            self.chunks += 1
        _hear(event, self.reply)
        return event


def _token_usage(answer: _Answer) -> TokenUsage | None:
    """The counts; `prompt_eval_count` is left out by servers that had the whole prompt cached (ollama#3427)."""
    if answer.prompt_eval_count is None and answer.eval_count is None:
        return FREE if answer.done_reason in _NOT_GENERATED else None
    return TokenUsage(answer.prompt_eval_count, answer.eval_count)


def _hear(line: bytes, reply: Reply) -> None:
    """Take in what an answer says, or one line of it."""
    said = json_body.read_answer(line, _Said)
    if said is None:
        return
    message = said.message or _Message()
    reply.think(message.thinking or said.thinking)
    reply.say(message.content or said.response)
    for call in message.tool_calls or ():
        if call.function is not None:
            reply.call(call.function.name, bytes(call.function.arguments))
