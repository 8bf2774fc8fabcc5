"""Ollama's dialect: chat, generate and embed; plain, and as one JSON object a line."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.dialect import FREE, Ask, Catalogue, OutputLimits, Tokens, TokenUsage
from epad.gateway.dialects.events import LINE_BOUNDARY, EventStream
from epad.gateway.dialects.history import NO_HISTORY, History, read_history
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.shape import refuse_entries
from epad.gateway.refusal import Refusal

_CAP = "num_predict"
_CONTEXT = "num_ctx"
_CHAT_FIELDS = frozenset({"model", "messages", "tools", "stream", "options"})
_GENERATE_FIELDS = frozenset({
    "model", "prompt", "suffix", "system", "template", "context", "images", "stream", "options",
})  # fmt: skip
_EMBED_FIELDS = frozenset({"model", "input", "options", "stream"})
_OPTIONS = frozenset({_CAP, _CONTEXT})
# What is answered to an empty prompt: the model was put into memory, or out of it, and nothing generated.
_NOT_GENERATED = frozenset({"load", "unload"})


class _Shown(Struct, forbid_unknown_fields=True):
    images: list[Raw] | None = None
    role: Raw = Raw(b"")
    content: Raw = Raw(b"")
    thinking: Raw = Raw(b"")
    tool_calls: Raw = Raw(b"")
    tool_name: Raw = Raw(b"")


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


class _Generating:
    """What chat and generate share: the cap among the options, and the counts in the last line."""

    def __init__(self, dialect: Ollama, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

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

    def _ask(self, fields: JsonObject, bounded: bool, digest: bytes, history: History = NO_HISTORY) -> Ask:
        options = fields.child("options", _OPTIONS)
        wish = options.read(_CAP, int) if options is not None else None
        cap = self._limits.cap(wish)
        return Ask(
            model=json_body.read_model(fields),
            stream=fields.read("stream", bool) is not False,  # Ollama streams unless told not to
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            output_cap=cap,
            choices=1,
            wants_usage=True,
            body=fields.text if wish == cap else _with_cap(fields, options, cap),
            prompt_digest=digest,
            context_wish=_context_wish(options),
            history=history,
        )


class Chat(_Generating):
    """POST /api/chat."""

    path = "/api/chat"

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _CHAT_FIELDS)
        messages = fields.entries("messages", list[_Shown]) or []
        bounded = not any(message.images for message in messages)
        digest = json_body.prompt_digest(fields, "model", "messages", "tools")
        return self._ask(fields, bounded, digest, read_history(fields))


class Generate(_Generating):
    """POST /api/generate. A template of the client's own may repeat the prompt, so that its bytes bound nothing."""

    path = "/api/generate"

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _GENERATE_FIELDS)
        bounded = not fields.read("images", list[Raw]) and not fields.read("template", str)
        digest = json_body.prompt_digest(fields, "model", "system", "prompt", "suffix", "context")
        return self._ask(fields, bounded, digest)


class Embed:
    """POST /api/embed. It has no output, and its body is never changed."""

    path = "/api/embed"

    def __init__(self, dialect: Ollama, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _EMBED_FIELDS)
        inputs = (fields.read("input", list[Raw]) or []) if fields.begins("input") == b"[" else []
        refuse_entries(len(inputs), "input")
        return Ask(
            model=json_body.read_model(fields),
            stream=False,
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens),
            output_cap=0,
            choices=1,
            wants_usage=True,
            body=body,
            prompt_digest=json_body.prompt_digest(fields, "model", "input"),
            prompts=max(1, len(inputs)),
            context_wish=_context_wish(fields.child("options", _OPTIONS)),
        )

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


def _context_wish(options: JsonObject | None) -> int:
    return max(0, options.read(_CONTEXT, int) or 0) if options is not None else 0


def _with_cap(fields: JsonObject, options: JsonObject | None, cap: int) -> bytes:
    edit = {_CAP: str(cap).encode()}
    written = options.splice(edit) if options is not None else b'{"%s":%d}' % (_CAP.encode(), cap)
    return fields.splice({"options": written})
