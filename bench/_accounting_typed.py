"""Behaviours of streams whose events have types: Anthropic's messages and OpenAI's responses."""

from __future__ import annotations

from typing import Any

from _accounting_behaviour import (
    COUNT,
    DENSE,
    MESSAGES,
    PROMPT,
    RESPONSES,
    Behaviour,
    event,
    said,
    stream,
    whole,
)
from _byte_server import PAUSE_SECONDS, Piece, Script

_STREAM = {"stream": True}
_SLOW = {"pause": PAUSE_SECONDS}
_DOCS = "API reference"


def _m(name: str, source: str, script: Script, **how: Any) -> Behaviour:
    if script.content_type.startswith("text/event-stream"):
        how["ask"] = {**_STREAM, **how.get("ask", {})}
    return Behaviour("Anthropic", name, source, MESSAGES, script, **how)


def _start(**usage: Any) -> bytes:
    message = {"id": "m", "type": "message", "role": "assistant", "model": "tiny", "content": []}
    return event("message_start", message={**message, "usage": usage} if usage else message)


def _text(text: str = "word ", **delta: Any) -> bytes:
    return event("content_block_delta", index=0, delta=delta or {"type": "text_delta", "text": text})


def _last(**usage: Any) -> bytes:
    fields: dict[str, Any] = {"delta": {"stop_reason": "end_turn"}}
    return event("message_delta", **fields, **({"usage": usage} if usage else {}))


_BEGUN = _start(input_tokens=PROMPT, output_tokens=1)
_BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
_STOP = event("message_stop")


def _messages() -> list[Behaviour]:
    words = said(*[_text()] * 20, tokens=1)
    answer = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": DENSE}],
        "stop_reason": "end_turn",
    }
    counted = {"input_tokens": PROMPT, "output_tokens": 160}
    cached = {"input_tokens": PROMPT, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 10}
    hour = {"cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6}}
    zeros = {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    overloaded = {"type": "overloaded_error", "message": "Overloaded"}
    proxy = "ai-gateway#1631"
    thought = Piece(_text(type="thinking_delta", thinking=DENSE), 160)
    partial = Piece(_text(type="input_json_delta", partial_json=DENSE), 160)
    return [
        _m("whole", _DOCS, whole({**answer, "usage": counted}, 160), counted=True),
        _m("whole, cache reads and writes", _DOCS, whole({**answer, "usage": {**counted, **cached, **hour}}, 160),
           prompt=PROMPT + 50, counted=True),
        _m("whole, no usage", "-", whole(answer, 160)),
        _m("whole, usage of zeros", "sibling",
           whole({**answer, "usage": {"input_tokens": 0, "output_tokens": 0}}, 160)),
        _m("stream", _DOCS, stream(_BEGUN, _BLOCK, *words, _last(output_tokens=20), _STOP), counted=True),
        _m("stream, cache reads and writes", _DOCS,
           stream(_start(**cached, output_tokens=1), *words, _last(output_tokens=20), _STOP), prompt=PROMPT + 50,
           counted=True),
        _m("stream, pings", _DOCS, stream(_BEGUN, event("ping"), *words, event("ping"), _last(output_tokens=20), _STOP),
           counted=True),
        _m("stream, broken off", "-", stream(_BEGUN, *words, then="close")),
        _m("stream, client leaves", "-", stream(_BEGUN, *words, then="hang", **_SLOW), leaves_after=1_000),
        _m("stream, client leaves while it thinks unseen", "sibling of hostile.md 5",
           stream(_BEGUN, Piece(event("ping"), 800), *words, then="hang", **_SLOW), leaves_after=1_200),
        _m("stream, an error after text", _DOCS, stream(_BEGUN, *words, event("error", error=overloaded))),
        _m("an error with status 200", "cases 011", whole({"type": "error", "error": overloaded}, 0), prompt=0,
           counted=True),
        _m("an error as the only event", "cases 011", stream(event("error", error=overloaded)), prompt=0, counted=True),
        _m("message_start missing", "real.md: llama-server, half a character",
           stream(*words, _last(output_tokens=20), _STOP)),
        _m("message_start without usage", "sibling", stream(_start(), *words, _last(output_tokens=20), _STOP)),
        _m("the last count repeats the input as 0", proxy,
           stream(_BEGUN, *words, _last(input_tokens=0, output_tokens=20), _STOP), counted=True),
        _m("the last count repeats input and cache as 0", proxy,
           stream(_start(**cached, output_tokens=1), *words, _last(**zeros, output_tokens=20), _STOP),
           prompt=PROMPT + 50, counted=True),
        _m("the input is told only at the end", proxy,
           stream(_start(input_tokens=0, output_tokens=0), *words, _last(input_tokens=PROMPT, output_tokens=20), _STOP),
           counted=True),
        _m("output counted as 0 after text", proxy,
           stream(_BEGUN, Piece(_text(DENSE), 160), _last(output_tokens=0), _STOP)),
        _m("a last message without usage", "sibling", stream(_BEGUN, Piece(_text(DENSE), 160), _last(), _STOP)),
        _m("output counted as 1e30", "hostile.md 20",
           stream(_BEGUN, Piece(_text(DENSE), 160), _last(output_tokens=1e30), _STOP)),
        _m("counts that rise, the last lower", "sibling",
           stream(_BEGUN, *words, _last(output_tokens=20), _last(output_tokens=3), _STOP)),
        _m("thinking, no usage", "sibling", stream(_BEGUN, thought, _last(), _STOP)),
        _m("a tool's input, no usage", "sibling", stream(_BEGUN, partial, _last(), _STOP)),
        _m("a kind of delta that nobody knows, no usage", "sibling",
           stream(_BEGUN, Piece(_text(type="voice_delta", voice=DENSE), 160), _last(), _STOP)),
        _m("thinking in a whole answer, no usage", "sibling",
           whole({**answer, "content": [{"type": "thinking", "thinking": DENSE}]}, 160)),
        Behaviour("Anthropic", "count_tokens", _DOCS, COUNT, whole({"input_tokens": PROMPT}, 0), prompt=0,
        counted=True),
    ]  # fmt: skip


def _r(name: str, source: str, script: Script, **how: Any) -> Behaviour:
    if script.content_type.startswith("text/event-stream"):
        how["ask"] = {**_STREAM, **how.get("ask", {})}
    return Behaviour("OpenAI responses", name, source, RESPONSES, script, **how)


def _usage(output: int, **more: Any) -> dict[str, Any]:
    return {"input_tokens": PROMPT, "output_tokens": output, "total_tokens": PROMPT + output, **more}


def _answer(text: str = DENSE, status: str = "completed", **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    output = [{"type": "message", "role": "assistant", "content": [part]}]
    return {"id": "r", "object": "response", "status": status, "output": output, **more}


def _responses() -> list[Behaviour]:
    begun = event("response.created", sequence_number=0, response={"id": "r", "status": "in_progress"})
    words = said(*[event("response.output_text.delta", item_id="i", delta="word ")] * 20, tokens=1)
    dense = Piece(event("response.output_text.delta", item_id="i", delta=DENSE), 160)

    def ended(kind: str = "completed", **response: Any) -> bytes:
        return event(f"response.{kind}", response=_answer("word " * 20, kind, **response))

    failed = {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "x"}, "usage": None}
    thinking = Piece(event("response.in_progress", response={"id": "r"}), 800)
    arguments = Piece(event("response.function_call_arguments.delta", item_id="i", delta=DENSE), 160)
    summary = Piece(event("response.reasoning_summary_text.delta", item_id="i", delta=DENSE), 160)
    beside = _usage(9) | {"total_tokens": PROMPT + 103, "output_tokens_details": {"reasoning_tokens": 94}}
    return [
        _r("whole", _DOCS, whole(_answer(usage=_usage(160)), 160), counted=True),
        _r("whole, no usage", "-", whole(_answer(), 160)),
        _r("whole, usage null", "-", whole(_answer(usage=None), 160)),
        _r("whole, usage of zeros", "sibling",
           whole(_answer(usage=_usage(0) | {"input_tokens": 0, "total_tokens": 0}), 160)),
        _r("whole, failed, usage null", "cases 011", whole(failed, 0), prompt=0, counted=True),
        _r("whole, cut at its cap", _DOCS, whole(_answer(status="incomplete", usage=_usage(160)), 160), counted=True),
        _r("whole, reasoning beside the output", "sibling of inspect_ai#5528", whole(_answer("hi", usage=beside), 103),
           counted=True),
        _r("whole, details null", "openai-agents-python#2141",
           whole(_answer(usage=_usage(160) | {"input_tokens_details": None, "output_tokens_details": None}), 160),
           counted=True),
        _r("stream", _DOCS, stream(begun, *words, ended(usage=_usage(20))), counted=True),
        _r("stream, no usage", "-", stream(begun, dense, ended())),
        _r("stream, usage of zeros", "sibling",
           stream(begun, dense, ended(usage={"input_tokens": 0, "output_tokens": 0}))),
        _r("stream, incomplete", _DOCS, stream(begun, *words, ended("incomplete", usage=_usage(20))), counted=True),
        _r("stream, failed after text", _DOCS, stream(begun, *words, event("response.failed", response=failed))),
        _r("stream, an error event after text", _DOCS, stream(begun, *words, event("error", code="x", message="y"))),
        _r("stream, broken off", "-", stream(begun, *words, then="close")),
        _r("stream, client leaves", "-", stream(begun, *words, then="hang", **_SLOW), leaves_after=1_500),
        _r("stream, client leaves while it thinks unseen", "hostile.md 5",
           stream(begun, thinking, *words, then="hang", **_SLOW), leaves_after=1_500),
        _r("stream, a call's arguments, no usage", "sibling", stream(begun, arguments, ended())),
        _r("stream, a summary of its thoughts, no usage", "sibling", stream(begun, summary, ended())),
        _r("stream, zero usage in its first event, client leaves", "sibling of CLIProxyAPI#3077",
           stream(event("response.created", response={"id": "r", "usage": _usage(0) | {"input_tokens": 0}}), *words,
                  then="hang", **_SLOW), leaves_after=1_500),
    ]  # fmt: skip


def behaviours() -> list[Behaviour]:
    """All of them."""
    return [*_messages(), *_responses()]
