"""OpenAI's responses, plain and as typed server-sent events."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.dialect import Ask, OutputLimits, Tokens, TokenUsage
from epad.gateway.dialects.events import SSE_BOUNDARY, EventStream, sse_data, sse_event
from epad.gateway.dialects.history import NO_HISTORY, read_history
from epad.gateway.dialects.openai import OpenAI, error_fields
from epad.gateway.dialects.reply import Reply
from epad.gateway.errors import RequestError
from epad.gateway.refusal import Refusal

_CAP = "max_output_tokens"
_OURS = frozenset({
    "model", "input", "instructions", "stream", "tools", "background", "previous_response_id", "conversation",
    "prompt", "context_management", _CAP,
})  # fmt: skip
# These bring in what the server keeps: as much as its context holds.
_REMEMBERED_FIELDS = ("previous_response_id", "conversation", "prompt")
# Others run at the server, which then asks the model again and again, each time with the whole context.
_CLIENT_TOOLS = frozenset({"function", "custom", "local_shell", "apply_patch"})
_TEXT_ITEMS = frozenset({
    "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning",
})  # fmt: skip
_TEXT_PARTS = frozenset({"input_text", "output_text", "refusal", "summary_text", "reasoning_text", "text"})
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})


class _Tool(Struct, forbid_unknown_fields=True):
    type: str = ""
    name: Raw = Raw(b"")
    description: Raw = Raw(b"")
    parameters: Raw = Raw(b"")
    strict: Raw = Raw(b"")


class _InputPart(Struct, forbid_unknown_fields=True):
    type: str = ""
    text: Raw = Raw(b"")
    annotations: Raw = Raw(b"")


class _Item(Struct, forbid_unknown_fields=True):
    type: str = "message"
    content: Raw = Raw(b"null")
    output: Raw = Raw(b"null")
    id: Raw = Raw(b"")
    role: Raw = Raw(b"")
    status: Raw = Raw(b"")
    call_id: Raw = Raw(b"")
    name: Raw = Raw(b"")
    arguments: Raw = Raw(b"")
    summary: Raw = Raw(b"")


class _InputDetails(Struct):
    cached_tokens: Tokens | None = None


class _OutputDetails(Struct):
    reasoning_tokens: Tokens | None = None


class _Usage(Struct):
    """What is cached is among the input's tokens, what is reasoned among the output's."""

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Part(Struct):
    text: str | None = None
    refusal: str | None = None


class _OutputItem(Struct):
    type: str = ""
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    content: list[_Part] | None = None


class _Output(Struct):
    output: list[_OutputItem] | None = None


class _Ended(Struct):
    response: _Output | None = None


class _Delta(Struct):
    delta: str | None = None


class _Response(Struct):
    id: str = ""
    created_at: float = 0
    model: str = ""
    usage: _Usage | None = None


class _Event(Struct):
    type: str = ""
    sequence_number: int = 0
    response: _Response | None = None


class Responses:
    """POST /v1/responses."""

    path = "/v1/responses"

    def __init__(self, dialect: OpenAI, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _OURS)
        _refuse_what_cannot_be_metered(fields)
        wish = fields.read(_CAP, int)
        cap = self._limits.cap(wish)
        remembers = any(fields.has(name) for name in _REMEMBERED_FIELDS)
        bounded = not remembers and _is_text(fields)
        return Ask(
            model=json_body.read_model(fields),
            stream=bool(fields.read("stream", bool)),
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            output_cap=cap,
            choices=1,
            wants_usage=True,  # it is always in the last event
            body=body if wish == cap else fields.splice({_CAP: str(cap).encode()}),
            prompt_digest=json_body.prompt_digest(
                fields, "model", "instructions", "input", "tools", "previous_response_id", "conversation"
            ),
            # What is said to a server that remembers is a piece of a conversation that does not pass here.
            history=NO_HISTORY if remembers else read_history(fields, "input", ("instructions",)),
        )

    def usage(self, body: bytes) -> TokenUsage | None:
        response = json_body.read_answer(body, _Response)
        return _token_usage(response) if response is not None else None

    def reply(self, body: bytes) -> Reply:
        return _reply_of(json_body.read_answer(body, _Output))

    def meter(self, ask: Ask) -> ResponseStream:
        return ResponseStream(self.dialect, ask.model)


class ResponseStream(EventStream):
    """Reads typed events; the last of them carries the whole response, and its usage."""

    def __init__(self, dialect: OpenAI, model: str) -> None:
        super().__init__(SSE_BOUNDARY)
        self._dialect = dialect
        self._model = model
        self._begun = _Response()
        self._passed = 0

    def cut(self, refusal: Refusal) -> bytes:
        """The error event, in which OpenAI's client looks for `error`; then the end that other clients wait for."""
        error = error_fields(refusal)
        number = self._passed
        told = {"type": "error", "sequence_number": number, **_plain(error), "error": error}
        response = {
            "id": self._begun.id,
            "object": "response",
            "created_at": self._begun.created_at,
            "model": self._begun.model or self._model,
            "status": "failed",
            "error": {"code": refusal.code, "message": refusal.message},
            "output": [],
        }
        failed = {"type": "response.failed", "sequence_number": number + 1, "response": response}
        return sse_event("error", msgspec.json.encode(told)) + sse_event(
            "response.failed", msgspec.json.encode(failed)
        )

    def _pass(self, event: bytes) -> bytes:
        payload = sse_data(event)
        if payload:
            self._passed += 1  # events are numbered from 0, without a gap
        if b'"delta"' in payload:
            self.chunks += 1
            delta = json_body.read_answer(payload, _Delta)
            self.reply.think(delta.delta if delta is not None else None)
        elif b'"response"' in payload or b'"error"' in payload:
            self._note(json_body.read_answer(payload, _Event))
            if self.complete:
                ended = json_body.read_answer(payload, _Ended)
                streamed = self.reply.take()
                self.reply = _reply_of(ended.response if ended is not None else None)
                self.reply.take()  # the same once more
                for piece in streamed:
                    self.reply.think(piece)
        return event

    def _note(self, event: _Event | None) -> None:
        if event is None:
            return
        self.failed = self.failed or event.type in {"error", "response.failed"}
        if event.response is not None and event.type == "response.created":
            self._begun = event.response
        if event.type in _LAST:
            self.complete = True
            self.usage = _token_usage(event.response) if event.response is not None else None


def _reply_of(answer: _Output | None) -> Reply:
    """What is said in a whole response; what is thought on the way is none of it."""
    reply = Reply()
    for item in (answer.output if answer is not None else None) or ():
        if item.type == "message":
            for part in item.content or ():
                reply.say(part.text or part.refusal)
        elif item.type in {"function_call", "custom_tool_call"}:
            reply.call(item.name, item.arguments or item.input or "")
    return reply


def _plain(error: dict[str, object]) -> dict[str, object]:
    return {name: error[name] for name in ("code", "message", "param")}


def _token_usage(response: _Response) -> TokenUsage | None:
    usage = response.usage
    if usage is None:
        return None
    cached, output = usage.input_tokens_details, usage.output_tokens_details
    return TokenUsage(
        usage.input_tokens,
        usage.output_tokens,
        cached_read_tokens=(cached.cached_tokens or 0) if cached is not None else 0,
        reasoning_tokens=(output.reasoning_tokens or 0) if output is not None else 0,
    )


def _refuse_what_cannot_be_metered(fields: JsonObject) -> None:
    """Raise RequestError for what spends where no answer of ours would show it, or more than any bound."""
    if fields.read("background", bool):
        raise RequestError("background: the answer comes after the turn, so its tokens could not be counted")
    if fields.has("context_management"):
        raise RequestError("context_management: a summary is another request, which nothing bounds")
    for tool in fields.entries("tools", list[_Tool]) or []:
        if tool.type not in _CLIENT_TOOLS:
            raise RequestError(
                f"tools: {tool.type[:80]!r} runs at the server and asks the model as often as it likes, "
                f"so nothing bounds its tokens; metered: {', '.join(sorted(_CLIENT_TOOLS))}"
            )


def _is_text(fields: JsonObject) -> bool:
    """Say whether all of the input's tokens are in its bytes."""
    if fields.begins("input") != b"[":
        return True
    items = fields.entries("input", list[_Item]) or []
    return all(
        item.type in _TEXT_ITEMS and _parts_are_text(item.content) and _parts_are_text(item.output)
        for item in items
    )


def _parts_are_text(content: Raw) -> bool:
    if json_body.first_byte(content) != b"[":
        return True
    return all(
        part.type in _TEXT_PARTS for part in json_body.read_entries(content, "input", list[_InputPart])
    )
