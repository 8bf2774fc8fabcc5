"""Read the metered parts of OpenAI's responses, plain and as typed server-sent events."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from epad.gateway.dialects import ending, loose
from epad.gateway.dialects.body import read_answer
from epad.gateway.dialects.counts import openai_counts
from epad.gateway.dialects.dialect import Ask
from epad.gateway.dialects.events import SSE_BOUNDARY, EventStream, names_error, sse_event, sse_payloads
from epad.gateway.dialects.hearing import hear
from epad.gateway.dialects.openai_answer import OpenAI, error_fields
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.seen import Whole, no_answer, no_object, seen_whole, trusted
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.refusal import Refusal

_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})
# Events that say how a response is made up; what they have of its text comes in pieces, or once more at the end.
_SILENT = frozenset({
    "response.queued", "response.output_item.added", "response.content_part.added",
    "response.reasoning_summary_part.added", "response.output_text.annotation.added",
})  # fmt: skip
_SILENT_ENDS = (".in_progress", ".completed", ".searching", ".interpreting", ".generating")


# What a piece of text is sent with: whose it is, and characters that hide its length.
_ABOUT_A_PIECE = frozenset({"summary_index", "response_id", "obfuscation", "event_id"})


class _Delta(Struct):
    delta: str


class ResponseAnswers:
    """Reads a response."""

    dialect: OpenAI

    def read(self, body: bytes) -> Whole:
        answer = loose.read(body)
        if not isinstance(answer, dict):
            return no_object(body, answer)
        reply = Reply()
        hear(answer.get("output"), reply)
        counts = openai_counts(answer.get("usage"))
        if loose.failure_of(answer) or not ("output" in answer or answer.get("object") == "response"):
            return no_answer(
                answer, counts, nothing_came=not reply.size, reply=reply, choice_bytes=(reply.size,)
            )
        return Whole(seen_whole(counts, (reply.size,)), reply)

    def usage(self, body: bytes) -> TokenUsage | None:
        return trusted(self.read(body).seen)

    def reply(self, body: bytes) -> Reply:
        return self.read(body).reply

    def meter(self, ask: Ask) -> ResponseStream:
        return ResponseStream(self.dialect, ask.model)


class ResponseStream(EventStream):
    """Reads typed events; the last of them carries the whole response, and its usage."""

    def __init__(self, dialect: OpenAI, model: str) -> None:
        super().__init__(SSE_BOUNDARY)
        self._dialect = dialect
        self._model = model
        self._begun: loose.JsonDict = {}
        self._passed = 0
        # Bytes of what came whole, item by item or text by text: mostly the same that came in pieces.
        self._item_bytes = 0
        self._text_bytes = 0

    def cut(self, refusal: Refusal) -> bytes:
        """The error event, in which OpenAI's client looks for `error`; then the end that other clients wait for."""
        error = error_fields(refusal)
        number = self._passed
        told = {"type": "error", "sequence_number": number, **_plain(error), "error": error}
        response: loose.JsonDict = {
            "id": loose.as_text(self._begun.get("id")),
            "object": "response",
            "created_at": loose.as_number(self._begun.get("created_at")),
            "model": loose.as_text(self._begun.get("model")) or self._model,
            "status": "failed",
            "error": {"code": refusal.code, "message": refusal.message},
            "output": [],
        }
        failed = {"type": "response.failed", "sequence_number": number + 1, "response": response}
        return sse_event("error", msgspec.json.encode(told)) + sse_event(
            "response.failed", msgspec.json.encode(failed)
        )

    def stop(self, why: str, input_tokens: int, output_tokens: int) -> bytes:
        """Return the event that ends a response which has reached its cap; its text has come in pieces."""
        usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        usage["total_tokens"] = input_tokens + output_tokens
        response: loose.JsonDict = {
            "object": "response", "model": self._model, **self._begun, "status": "incomplete",
            "incomplete_details": {"reason": ending.RESPONSES}, "usage": usage,
        }  # fmt: skip
        event = {"type": "response.incomplete", "sequence_number": self._passed, "response": response}
        return sse_event("response.incomplete", msgspec.json.encode(ending.told(event, why)))

    def _choice_bytes(self) -> tuple[int, ...]:
        return (max(self.reply.size, self._item_bytes, self._text_bytes),)

    def _pass(self, event: bytes) -> bytes:
        self.failed = self.failed or names_error(event)
        for payload in sse_payloads(event):
            self._passed += 1  # events are numbered from 0, without a gap
            if b'"delta"' in payload:
                self.chunks += 1
                self._hear(payload)
            elif payload == b"[DONE]":
                self.complete = True
            else:
                self._note(payload)
        return event

    def _hear(self, payload: bytes) -> None:
        typed = read_answer(payload, _Delta)
        if typed is not None:
            self.reply.think(typed.delta)
            return
        answer = loose.read(payload)
        if isinstance(answer, dict):
            hear({k: v for k, v in answer.items() if k not in _ABOUT_A_PIECE}, self.reply, thought=True)
        else:
            self._weigh(payload)

    def _note(self, payload: bytes) -> None:
        """Take note of an event that is no piece of text."""
        answer = loose.read(payload)
        if not isinstance(answer, dict):
            self._weigh(payload)
            return
        kind = answer.get("type")
        is_whole = answer.get("object") == "response"
        response: loose.JsonDict = answer if is_whole else loose.as_dict(answer.get("response"))
        if kind == "response.created":
            self._begun = response
        elif kind in _LAST or is_whole:
            self._end(response)
            self.failed = self.failed or kind == "response.failed"
        elif loose.failure_of(answer):
            self.failed = True
        elif not isinstance(kind, str):
            self._strange = True
        elif kind.endswith(".done"):
            self._hear_whole(answer)
        elif kind not in _SILENT and not kind.endswith(_SILENT_ENDS):
            self._weigh(payload)

    def _hear_whole(self, answer: loose.JsonDict) -> None:
        """Weigh text that came whole, for servers that send no pieces."""
        whole = Reply()
        if "item" in answer:
            hear(answer["item"], whole)
            self._item_bytes += whole.size
        else:
            for name in ("text", "arguments", "input", "refusal", "code", "transcript"):
                hear(answer.get(name), whole)
            self._text_bytes += whole.size

    def _end(self, response: loose.JsonDict) -> None:
        """Take the whole response for the text: pieces have been counted, and are no part of the digest."""
        self.complete = True
        self.failed = self.failed or bool(loose.failure_of(response))
        if response.get("output"):
            before, streamed = self.reply.size, self.reply.take()
            self.reply = Reply()
            hear(response["output"], self.reply)
            self.reply.take()  # the same once more
            size = max(before, self.reply.size)
            for piece in streamed:
                self.reply.think(piece)
            self.reply.weigh(size - self.reply.size)
        self._count(openai_counts(response.get("usage")))


def _plain(error: dict[str, object]) -> dict[str, object]:
    return {name: error[name] for name in ("code", "message", "param")}
