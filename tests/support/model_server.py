"""A model server that speaks every route of every dialect, in bytes that no serializer of ours would make."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

WORDS = ["one", " two", " drei", " füünf"]
TEXT = "".join(WORDS)
TOOL = {"name": "weather", "arguments": {"city": "Bern"}}
CARD = {"modelfile": "FROM tiny", "details": {"family": "tiny"}, "model_info": {"tiny.context_length": 8}}
GETS: dict[str, Any] = {
    "/v1/models": {"object": "list", "data": [{"id": "tiny", "object": "model", "created": 1, "owned_by": "x"}]},
    "/api/tags": {"models": [{"name": "tiny", "model": "tiny"}]},
    "/api/ps": {"models": [{"name": "tiny", "model": "tiny", "size_vram": 7}]},
    "/api/version": {"version": "0.99.0"},
}  # fmt: skip
STREAMS = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate",
)  # fmt: skip
WHOLES = (*STREAMS, "/v1/embeddings", "/api/embed")
INPUT = 7


class ModelServer:
    """Answers; its attributes say how."""

    def __init__(self) -> None:
        self.status = 200
        self.words = list(WORDS)
        self.gate: asyncio.Event | None = None
        self.words_before_gate = 0
        self.word_by_word = False
        self.shown = 1
        self.running_usage: dict[str, int] | None = None
        self.requests: list[bytes] = []
        self.targets: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.arrived = asyncio.Event()
        self.hung_up = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return self._whole(GETS[request.path])
        raw = await request.read()
        self.requests.append(raw)
        self.targets.append(str(request.rel_url))
        self.headers.append(request.headers.copy())
        self.arrived.set()
        if self.status != 200:
            return web.json_response({"error": {"message": "boom", "type": "api_error"}}, status=self.status)
        body = json.loads(raw)
        default = request.path in {"/api/chat", "/api/generate"}
        try:
            if request.path in STREAMS and body.get("stream", default):
                head, words, tail = stream_of(request.path, body, self.words)
                words += [
                    w.replace(b'"index": 0', b'"index": %d' % n) for n in range(1, self.shown) for w in words
                ]
                return await self._stream(request, (head, words, tail))
            if self.gate is not None:
                await self.gate.wait()
            return self._whole(answer_of(request.path, body))
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up.set()
            raise

    def _whole(self, answer: dict[str, Any]) -> web.Response:
        body = json.dumps(answer, indent=3, ensure_ascii=False).encode()
        return web.Response(body=body, content_type="application/json", headers={"x-request-id": "r1"})

    async def _stream(
        self, request: web.BaseRequest, events: tuple[list[bytes], list[bytes], list[bytes]]
    ) -> web.StreamResponse:
        head, words, tail = events
        if self.running_usage is not None:
            running = json.dumps(self.running_usage).encode()
            words = [word.replace(b'"usage": null', b'"usage": ' + running) for word in words]
        kind = "application/x-ndjson" if request.path.startswith("/api/") else "text/event-stream"
        response = web.StreamResponse(headers={"Content-Type": kind, "x-request-id": "r1"})
        await response.prepare(request)
        first = self.words_before_gate
        await response.write(b"".join(head + words[:first]))
        if self.gate is not None:
            await self.gate.wait()
        for word in words[first:] if self.word_by_word else [b"".join(words[first:])]:
            await response.write(word)
            await asyncio.sleep(0)
        await response.write(b"".join(tail))
        await response.write_eof()
        return response


def answer_of(path: str, body: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0911, PLR0912
    """A whole answer; a request with tools gets a call of one."""
    model, tools = body["model"], bool(body.get("tools"))
    usage = {"prompt_tokens": INPUT, "completion_tokens": 5, "total_tokens": 12}
    counts = {"prompt_eval_count": INPUT, "eval_count": 5}
    base = {
        "model": model,
        "created_at": "2026-01-01T00:00:00Z",
        "done": True,
        "done_reason": "stop",
        **counts,
    }
    call = {"id": "t1", "type": "function"}
    match path:
        case "/v1/chat/completions":
            message: dict[str, Any] = {"role": "assistant", "content": TEXT}
            if tools:
                function = {"name": TOOL["name"], "arguments": json.dumps(TOOL["arguments"])}
                message = {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{**call, "function": function}],
                }
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tools else "stop"}
            choices = [{**choice, "index": n} for n in range(body.get("n", 1))]
            return {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": model,
                "choices": choices,
                "usage": usage,
            }
        case "/v1/completions":
            return {
                "id": "c1",
                "object": "text_completion",
                "created": 1,
                "model": model,
                "usage": usage,
                "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}],
            }
        case "/v1/embeddings":
            return {
                "object": "list",
                "model": model,
                "usage": {"prompt_tokens": INPUT, "total_tokens": INPUT},
                "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}],
            }
        case "/v1/responses":
            return _response(model, "completed", tools=tools)
        case "/v1/messages":
            content: list[dict[str, Any]] = [{"type": "text", "text": TEXT}]
            if tools:
                content = [{"type": "tool_use", "id": "t1", "name": TOOL["name"], "input": TOOL["arguments"]}]
            return {
                "id": "m1",
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": content,
                "stop_reason": "tool_use" if tools else "end_turn",
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 3,
                    "cache_read_input_tokens": 3,
                    "cache_creation_input_tokens": 1,
                    "output_tokens": 5,
                },
            }
        case "/v1/messages/count_tokens":
            return {"input_tokens": INPUT}
        case "/api/chat":
            said: dict[str, Any] = {"role": "assistant", "content": TEXT}
            if tools:
                said = {"role": "assistant", "content": "", "tool_calls": [{"function": TOOL}]}
            return {**base, "message": said}
        case "/api/generate":
            return {**base, "response": TEXT, "context": [1, 2, 3]}
        case "/api/embed":
            return {"model": model, "embeddings": [[0.25, -1.5]], "prompt_eval_count": INPUT}
        case "/api/embeddings":
            return {"embedding": [0.25, -1.5]}
        case "/api/show":
            return CARD
    raise AssertionError(path)  # fmt: skip


def stream_of(
    path: str, body: dict[str, Any], words: list[str]
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """What comes before the words, the words, and what comes after."""
    model = body["model"]
    match path:
        case "/v1/chat/completions" | "/v1/completions":
            return _chunks(path, body, words)
        case "/v1/responses":
            begun = {
                "type": "response.created",
                "sequence_number": 0,
                "response": _response(model, "in_progress"),
            }
            deltas = [
                {
                    "type": "response.output_text.delta",
                    "sequence_number": n + 1,
                    "item_id": "i",
                    "output_index": 0,
                    "content_index": 0,
                    "delta": word,
                    "logprobs": [],
                }
                for n, word in enumerate(words)
            ]
            last = {
                "type": "response.completed",
                "sequence_number": len(words) + 1,
                "response": _response(model, "completed"),
            }
            return [_event(begun)], [_event(delta) for delta in deltas], [_event(last)]
        case "/v1/messages":
            message = {**answer_of(path, body), "content": [], "stop_reason": None}
            message["usage"] = {**message["usage"], "output_tokens": 1}
            block: dict[str, Any] = {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            }
            deltas = [
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
                for word in words
            ]
            tail: list[dict[str, Any]] = [
                {"type": "content_block_stop", "index": 0},
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                    "usage": {"output_tokens": 5},
                },
                {"type": "message_stop"},
            ]
            head: list[dict[str, Any]] = [
                {"type": "message_start", "message": message},
                block,
                {"type": "ping"},
            ]
            return [_event(e) for e in head], [_event(e) for e in deltas], [_event(e) for e in tail]
        case _:
            last_line = answer_of(path, body)
            key = "message" if path == "/api/chat" else "response"
            say = (lambda w: {"role": "assistant", "content": w}) if key == "message" else (lambda w: w)
            start = {"model": model, "created_at": "2026-01-01T00:00:00Z", "done": False}
            last = {**last_line, key: say("")}
            return [], [_line({**start, key: say(word)}) for word in words], [_line(last)]


def _chunks(
    path: str, body: dict[str, Any], words: list[str]
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """OpenAI's chunks; with usage asked for, every one of them has a null for it, as OpenAI's own do."""
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    chat = path == "/v1/chat/completions"
    base = {"id": "c1", "created": 1, "model": body["model"]}
    base["object"] = "chat.completion.chunk" if chat else "text_completion"
    null = {"usage": None} if asked else {}
    choices = [
        {
            "index": 0,
            **({"delta": {"content": word}} if chat else {"text": word, "logprobs": None}),
            "finish_reason": None,
        }
        for word in words
    ]
    usage = {"prompt_tokens": INPUT, "completion_tokens": 5, "total_tokens": 12}
    tail = [f"data: {json.dumps({**base, 'choices': [], 'usage': usage})}\n\n".encode()] if asked else []
    events = [f"data: {json.dumps({**base, 'choices': [choice], **null})}\n\n".encode() for choice in choices]
    return [b": keep-alive\n\n"], events, [*tail, b"data: [DONE]\n\n"]


def _response(model: str, status: str, *, tools: bool = False) -> dict[str, Any]:
    done = status == "completed"
    message = {"type": "message", "id": "i", "role": "assistant", "status": "completed",
               "content": [{"type": "output_text", "text": TEXT, "annotations": []}]}  # fmt: skip
    call = {"type": "function_call", "id": "f", "call_id": "t1", "name": TOOL["name"],
            "arguments": json.dumps(TOOL["arguments"]), "status": "completed"}  # fmt: skip
    usage = {"input_tokens": INPUT, "output_tokens": 5, "total_tokens": 12,
             "input_tokens_details": {"cached_tokens": 4},
             "output_tokens_details": {"reasoning_tokens": 2}}  # fmt: skip
    return {"id": "resp_1", "object": "response", "created_at": 1, "model": model, "status": status, "error": None,
            "output": [call if tools else message] if done else [], "parallel_tool_calls": True, "tools": [],
            "tool_choice": "auto", "usage": usage if done else None}  # fmt: skip


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _event(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


@asynccontextmanager
async def model_server() -> AsyncIterator[tuple[ModelServer, str]]:
    """A server on a free port, and its URL."""
    server = ModelServer()
    runner = web.ServerRunner(
        web.Server(server.handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        if server.gate is not None:
            server.gate.set()
        await runner.cleanup()
