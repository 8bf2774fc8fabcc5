"""Read the metered parts of Ollama's answers, plain and as one JSON object a line."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import ending, loose
from epad.gateway.dialects.body import read_answer
from epad.gateway.dialects.counts import Counts, ollama_counts
from epad.gateway.dialects.dialect import Ask, Catalogue
from epad.gateway.dialects.events import LINE_BOUNDARY, MAX_EVENT_BYTES, EventStream, sse_payloads
from epad.gateway.dialects.hearing import hear
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.seen import Whole, no_answer, no_object, seen_whole, trusted
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.refusal import Refusal

_NULL = Raw(b"null")
# What is answered to an empty prompt: the model was put into memory, or out of it, and nothing generated.
_NOT_GENERATED = frozenset({"load", "unload"})
_ANSWERS = ("message", "response", "done")
# What may have text in it where none of the dialect's own fields does.
_BESIDE = ("content", "text", "delta", "choices", "output", "tool_calls", "reasoning", "reasoning_content")
_VECTORS = ("embeddings", "embedding")
_SSE_FIELDS = (b":", b"event:", b"id:", b"retry:")


class _Message(Struct, forbid_unknown_fields=True):
    role: Raw = _NULL
    content: str | None = None
    thinking: str | None = None


class _Line(Struct, forbid_unknown_fields=True):
    """A line of an answer that is not its last."""

    model: Raw = _NULL
    created_at: Raw = _NULL
    remote_model: Raw = _NULL
    remote_host: Raw = _NULL
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False


class _Embedded(Struct):
    embeddings: Raw
    error: Raw = _NULL
    prompt_eval_count: Raw = _NULL


class Ollama:
    """The errors and the list of models."""

    name = "ollama"
    catalogue = Catalogue("/api/tags", "models", "name", {})

    def error_body(self, refusal: Refusal) -> bytes:
        return msgspec.json.encode({"error": refusal.message, "code": refusal.code})


class LineAnswers:
    """Reads generated text."""

    dialect: Ollama

    def read(self, body: bytes) -> Whole:
        answer = loose.read(body)
        if not isinstance(answer, dict):
            return no_object(body, answer)
        reply = Reply()
        _hear(answer, reply)
        counts = _counts(answer)
        if loose.failure_of(answer) or not any(name in answer for name in _ANSWERS):
            return no_answer(
                answer, counts, nothing_came=not reply.size, reply=reply, choice_bytes=(reply.size,)
            )
        return Whole(seen_whole(counts, (reply.size,), ended=answer.get("done") is True), reply)

    def usage(self, body: bytes) -> TokenUsage | None:
        answer = loose.as_dict(loose.read(body))
        counts = _counts(answer) if answer.get("done") is True else None
        return None if counts is None or counts.absurd else counts.usage()

    def reply(self, body: bytes) -> Reply:
        return self.read(body).reply

    def meter(self, ask: Ask) -> LineStream:
        del ask  # its usage is always in the last line
        return LineStream(self.dialect)


class VectorAnswers:
    """Reads an answer of vectors, which has no output."""

    dialect: Ollama

    def read(self, body: bytes) -> Whole:
        typed = read_answer(body, _Embedded)
        if typed is not None and typed.error == _NULL:
            answer = {"prompt_eval_count": loose.read(bytes(typed.prompt_eval_count))}
        else:
            answer = loose.read(body)
            if not isinstance(answer, dict):
                return no_object(body, answer)
            if loose.failure_of(answer) or not any(name in answer for name in _VECTORS):
                return no_answer(answer, ollama_counts(answer))
        counts = ollama_counts(answer)
        # A prompt of no tokens has no vector: its count is missing.
        return Whole(
            seen_whole(msgspec.structs.replace(counts, input=counts.input or None, output=0), ()), Reply()
        )

    def usage(self, body: bytes) -> TokenUsage | None:
        whole = self.read(body)
        return None if whole.failure else trusted(whole.seen)

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
        # Lines that are no JSON: together they may be one document, written over several lines.
        self._fragment = b""
        self._last = b""

    def cut(self, refusal: Refusal) -> bytes:
        return self._dialect.error_body(refusal) + b"\n"

    def stop(self, why: str, input_tokens: int, output_tokens: int) -> bytes:
        """Return the last line, with the counts."""
        line = ending.ollama_line(self._last)
        counts = {"prompt_eval_count": input_tokens, "eval_count": output_tokens}
        last = {**line, "done": True, "done_reason": ending.OLLAMA, **counts}
        return msgspec.json.encode(ending.told(last, why)) + b"\n"

    def finish(self) -> bytes:
        passed = super().finish()
        whole = loose.read(self._fragment) if self._fragment else None
        if isinstance(whole, dict):
            self._unread_bytes -= len(self._fragment)
            self._note(whole)
            self.failed = self.failed or self._is_none()
        return passed

    def _pass(self, event: bytes) -> bytes:
        typed = read_answer(event, _Line)
        if typed is not None and not typed.done:
            self._last = event
            self.chunks += 1
            message = typed.message
            if message is not None:
                self.reply.think(message.thinking)
                self.reply.say(message.content)
            self.reply.think(typed.thinking)
            self.reply.say(typed.response)
            return event
        for payload in [event] if event.startswith((b"{", b"}")) else sse_payloads(event) or [event]:
            answer = loose.read(payload)
            if isinstance(answer, dict):
                self._note(answer)
                self._last = payload if "message" in answer or "response" in answer else self._last
            elif payload.strip() == b"[DONE]":
                self.complete = True
            elif payload.strip() and not payload.startswith(_SSE_FIELDS):
                self._fragment = (self._fragment + payload)[: MAX_EVENT_BYTES + 1]
                self._weigh(payload)
        return event

    def _note(self, answer: loose.JsonDict) -> None:
        self.failed = self.failed or bool(loose.failure_of(answer))
        is_answer = any(name in answer for name in _ANSWERS)
        before = self.reply.size
        _hear(answer, self.reply)
        is_answer = is_answer or self.reply.size > before
        self._strange = self._strange or not is_answer
        if answer.get("done") is True:
            self.complete = True
            self._count(_counts(answer))
        elif is_answer and not self.failed:
            self.chunks += 1


def _counts(answer: loose.JsonDict) -> Counts | None:
    """The counts; `prompt_eval_count` is left out by servers that had the whole prompt cached (ollama#3427)."""
    counts = ollama_counts(answer)
    if counts.input is None and counts.output is None and not counts.absurd:
        return Counts(input=0, output=0) if answer.get("done_reason") in _NOT_GENERATED else None
    return counts


def _hear(answer: loose.JsonDict, reply: Reply) -> None:
    """Take in an answer, or one line of it."""
    for name in ("message", "thinking", "response"):
        hear(answer.get(name), reply, thought=name == "thinking")
    if not loose.failure_of(answer):
        hear({name: answer[name] for name in _BESIDE if answer.get(name)}, reply)
