"""Ollama's dialect: /api/chat, plain and as one JSON object a line."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import Fields
from epad.gateway.dialects.dialect import Ask, Catalogue, OutputLimits, Tokens, TokenUsage
from epad.gateway.dialects.events import LINE_BOUNDARY, EventSplitter
from epad.gateway.refusal import Refusal

_CAP = "num_predict"


class _Message(Struct):
    images: list[Raw] | None = None


class _Answer(Struct):
    done: bool = False
    prompt_eval_count: Tokens | None = None
    eval_count: Tokens | None = None
    error: Any = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


class Ollama:
    """The errors and the list of models."""

    name = "ollama"
    catalogue = Catalogue("/api/tags", "models", "name", {})

    def error_body(self, refusal: Refusal) -> bytes:
        return msgspec.json.encode({"error": refusal.message, "code": refusal.code})

    def cut(self, refusal: Refusal) -> bytes:
        return self.error_body(refusal) + b"\n"


class Chat:
    """POST /api/chat."""

    path = "/api/chat"

    def __init__(self, dialect: Ollama, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_fields(body)
        messages = json_body.read(fields, "messages", list[_Message]) or []
        options = json_body.read(fields, "options", Fields) or {}
        wish = json_body.read(options, _CAP, int)
        cap = self._limits.cap(wish)
        bounded = not any(message.images for message in messages)
        stream = json_body.read(fields, "stream", bool)
        return Ask(
            model=json_body.read_model(fields),
            stream=stream is not False,  # Ollama streams unless told not to
            prompt_bound=json_body.prompt_bound(body, fields, self._limits.template_tokens)
            if bounded
            else None,
            output_cap=cap,
            choices=1,
            wants_usage=True,
            body=body if wish == cap else _with_cap(fields, options, cap),
            prompt_digest=json_body.prompt_digest(fields, "model", "messages", "tools"),
        )

    def usage(self, body: bytes) -> TokenUsage | None:
        answer = _read_answer(body)
        return _token_usage(answer) if answer is not None and answer.done else None

    def meter(self, ask: Ask) -> ChatStream:
        del ask  # its usage is always in the last line
        return ChatStream()


class ChatStream:
    """Reads the lines of an answer; the last one says `done` and carries the counts."""

    def __init__(self) -> None:
        self.usage: TokenUsage | None = None
        self.chunks = 0
        self.complete = False
        self.failed = False
        self._lines = EventSplitter(LINE_BOUNDARY)

    def feed(self, data: bytes) -> bytes:
        lines = self._lines.feed(data)
        for line in lines:
            self._note(line)
        return b"".join(lines)

    def finish(self) -> bytes:
        rest = self._lines.rest()
        self._note(rest)
        return rest

    def _note(self, line: bytes) -> None:
        answer = _read_answer(line)
        if answer is None:
            return
        self.failed = self.failed or answer.error is not None
        if answer.done:
            self.complete = True
            self.usage = _token_usage(answer)
        else:
            self.chunks += 1


def _read_answer(body: bytes) -> _Answer | None:
    try:
        return _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _token_usage(answer: _Answer) -> TokenUsage | None:
    """The counts; `prompt_eval_count` is left out by servers that had the whole prompt cached (ollama#3427)."""
    if answer.prompt_eval_count is None and answer.eval_count is None:
        return None
    return TokenUsage(answer.prompt_eval_count, answer.eval_count)


def _with_cap(fields: Fields, options: Fields, cap: int) -> bytes:
    capped = Raw(json_body.write_fields({**options, _CAP: json_body.number(cap)}))
    return json_body.write_fields({**fields, "options": capped})
