"""Read the metered parts of Anthropic's answers, plain and as server-sent events."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import ending, loose
from epad.gateway.dialects.body import read_answer
from epad.gateway.dialects.counts import anthropic_counts
from epad.gateway.dialects.dialect import Ask, Catalogue
from epad.gateway.dialects.events import SSE_BOUNDARY, EventStream, names_error, sse_event, sse_payloads
from epad.gateway.dialects.hearing import hear
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.seen import Seen, Whole, no_answer, no_object, seen_whole, trusted
from epad.gateway.dialects.usage import FREE, TokenUsage
from epad.gateway.refusal import Refusal

_NULL = Raw(b"null")
_ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error",
}  # fmt: skip
# Events that say how an answer is made up, and nothing else.
_SILENT = frozenset({"ping", "content_block_stop", "message_stop"})


class _Added(Struct, forbid_unknown_fields=True):
    """Holds an addition to a block."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _Delta(Struct, forbid_unknown_fields=True):
    delta: _Added
    type: Raw = _NULL
    index: Raw = _NULL


class _Block(Struct, forbid_unknown_fields=True):
    """A block of a whole answer."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str = ""
    id: Raw = _NULL
    name: str | None = None
    input: Raw = Raw(b"")
    citations: Raw = _NULL


class _Message(Struct):
    content: list[_Block]
    type: str = "message"
    usage: Raw = _NULL
    error: Raw = _NULL


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
    """Reads a message."""

    dialect: Anthropic

    def read(self, body: bytes) -> Whole:
        reply = Reply()
        typed = read_answer(body, _Message)
        if typed is not None and typed.type != "error" and typed.error == _NULL:
            _hear_blocks(typed, reply)
            counts = anthropic_counts(loose.read(bytes(typed.usage)))
            return Whole(seen_whole(counts, (reply.size,)), reply)
        answer = loose.read(body)
        if not isinstance(answer, dict):
            return no_object(body, answer)
        hear(answer.get("content"), reply)
        counts = anthropic_counts(answer.get("usage"))
        if loose.failure_of(answer) or "content" not in answer:
            return no_answer(
                answer, counts, nothing_came=not reply.size, reply=reply, choice_bytes=(reply.size,)
            )
        return Whole(seen_whole(counts, (reply.size,)), reply)

    def usage(self, body: bytes) -> TokenUsage | None:
        return trusted(self.read(body).seen)

    def reply(self, body: bytes) -> Reply:
        return self.read(body).reply

    def meter(self, ask: Ask) -> MessageStream:
        del ask
        return MessageStream(self.dialect)


class CountAnswers:
    """Reads a count of tokens, which costs nothing and has no text."""

    dialect: Anthropic

    def read(self, body: bytes) -> Whole:
        answer = loose.read(body)
        if not isinstance(answer, dict):
            return no_object(body, answer)
        if loose.failure_of(answer) or "input_tokens" not in answer:
            return no_answer(answer, None)
        return Whole(Seen(FREE, final=True), Reply())

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
        self._block: object = None  # the number of the one that has begun and not ended

    def cut(self, refusal: Refusal) -> bytes:
        """Return the error event; nothing may follow it, `message_stop` would make the answer look whole."""
        return sse_event("error", self._dialect.error_body(refusal))

    def stop(self, why: str, input_tokens: int, output_tokens: int) -> bytes:
        """Return the end of the block that is open, and of the message."""
        del input_tokens  # `message_start` has told it
        delta = {"stop_reason": ending.ANTHROPIC, "stop_sequence": None}
        events: list[dict[str, object]] = [
            ending.told(
                {"type": "message_delta", "delta": delta, "usage": {"output_tokens": output_tokens}}, why
            ),
            {"type": "message_stop"},
        ]
        if self._block is not None:
            events.insert(0, {"type": "content_block_stop", "index": self._block})
        return b"".join(sse_event(str(event["type"]), msgspec.json.encode(event)) for event in events)

    def _pass(self, event: bytes) -> bytes:
        self.failed = self.failed or names_error(event)
        for payload in sse_payloads(event):
            if b'"content_block_delta"' in payload:
                self.chunks += 1
                self._hear(payload)
            else:
                self._note(payload)
        return event

    def _hear(self, payload: bytes) -> None:
        typed = read_answer(payload, _Delta)
        if typed is not None:
            self.reply.think(typed.delta.thinking)
            self.reply.say(typed.delta.text)
            self.reply.call(arguments=typed.delta.partial_json or "")
            return
        answer = loose.read(payload)
        if isinstance(answer, dict):
            hear(answer, self.reply)
        else:
            self._weigh(payload)

    def _note(self, payload: bytes) -> None:
        """Take note of an event that is no piece of text."""
        answer = loose.read(payload)
        if not isinstance(answer, dict):
            if payload != b"[DONE]":
                self._weigh(payload)
            return
        kind = answer.get("type")
        self._follow(kind, answer)
        if kind == "message_start":
            message = loose.as_dict(answer.get("message"))
            hear(message.get("content"), self.reply)
            # Its output count is of what the server has begun with; the true one is in `message_delta`.
            self._count_begun(anthropic_counts(message.get("usage")))
        elif kind == "message_delta":
            self._count(anthropic_counts(answer.get("usage")))
        elif kind == "content_block_start":
            hear(answer.get("content_block"), self.reply)
        elif kind == "message":  # a whole answer, where a stream was asked for
            hear(answer.get("content"), self.reply)
            self._count(anthropic_counts(answer.get("usage")))
            self.complete = True
        elif loose.failure_of(answer):
            self.failed = True
        elif not isinstance(kind, str):
            self._strange = True
        elif kind not in _SILENT:
            self._weigh(payload)
        self.complete = self.complete or kind == "message_stop"

    def _follow(self, kind: object, answer: loose.JsonDict) -> None:
        """Know which block is open, so that it can be closed."""
        if kind == "content_block_start":
            self._block = answer.get("index")
        elif kind == "content_block_stop":
            self._block = None


def _hear_blocks(message: _Message, reply: Reply) -> None:
    for block in message.content:
        reply.think(block.thinking)
        reply.say(block.text)
        reply.weigh(len(block.signature))
        if block.name is not None:
            reply.call(block.name, bytes(block.input))
