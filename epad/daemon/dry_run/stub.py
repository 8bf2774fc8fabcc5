"""A stand-in for every model server: it answers in each dialect, from no model at all, and no token is spent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

SAID = "This is epad check --try: no model was asked."
_MOST_BYTES = 64 << 20
_COUNTS = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
_OLLAMA = {"done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 1}
_ANTHROPIC = {"input_tokens": 1, "output_tokens": 1}


@asynccontextmanager
async def answering(socket: Path) -> AsyncIterator[str]:
    """Listen on a Unix socket meanwhile; its URL as an upstream has it. Raises OSError."""
    application = web.Application(client_max_size=_MOST_BYTES)
    application.add_routes(
        [
            web.get("/v1/models", _models),
            web.get("/api/tags", _tags),
            web.post("/v1/chat/completions", _chat),
            web.post("/v1/completions", _completion),
            web.post("/v1/embeddings", _embeddings),
            web.post("/v1/responses", _responses),
            web.post("/v1/messages", _messages),
            web.post("/api/chat", _ollama_chat),
            web.post("/api/generate", _ollama_generate),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield f"unix:{socket}"
    finally:
        await runner.cleanup()


async def _asked(request: web.Request) -> tuple[str, bool | None]:
    """Return the model and the stream flag of a request; None for a field that it lacks."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        raise web.HTTPBadRequest(text='{"error": "no JSON"}', content_type="application/json") from None
    stream = body.get("stream")
    return str(body.get("model", "")), stream if isinstance(stream, bool) else None


def _events(*events: dict[str, Any], named: bool = False, done: bool = False) -> web.Response:
    text = "".join(
        (f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events
    )
    return web.Response(text=text + ("data: [DONE]\n\n" if done else ""), content_type="text/event-stream")


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": []})


async def _tags(_: web.Request) -> web.Response:
    return web.json_response({"models": []})


async def _chat(request: web.Request) -> web.Response:
    model, stream = await _asked(request)
    head = {"id": "chatcmpl-try", "created": 0, "model": model}
    if stream:
        delta = {"index": 0, "delta": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
        chunk = {**head, "object": "chat.completion.chunk"}
        return _events({**chunk, "choices": [delta]}, {**chunk, "choices": [], "usage": _COUNTS}, done=True)
    choice = {"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
    return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": _COUNTS})


async def _completion(request: web.Request) -> web.Response:
    model, stream = await _asked(request)
    choice = {"index": 0, "text": SAID, "finish_reason": "stop"}
    answer = {
        "id": "cmpl-try",
        "object": "text_completion",
        "created": 0,
        "model": model,
        "choices": [choice],
    }
    whole = {**answer, "usage": _COUNTS}
    return _events(whole, done=True) if stream else web.json_response(whole)


async def _embeddings(request: web.Request) -> web.Response:
    model, _ = await _asked(request)
    vector = {"object": "embedding", "index": 0, "embedding": [0.0]}
    counts = {"prompt_tokens": 1, "total_tokens": 1}
    return web.json_response({"object": "list", "data": [vector], "model": model, "usage": counts})


async def _responses(request: web.Request) -> web.Response:
    model, stream = await _asked(request)
    content = [{"type": "output_text", "text": SAID, "annotations": []}]
    item = {
        "type": "message",
        "id": "msg_try",
        "role": "assistant",
        "status": "completed",
        "content": content,
    }
    answer = {
        "id": "resp_try", "object": "response", "created_at": 0, "status": "completed", "model": model,
        "output": [item], "usage": {**_ANTHROPIC, "total_tokens": 2},
    }  # fmt: skip
    if stream:
        return _events({"type": "response.completed", "response": answer}, named=True)
    return web.json_response(answer)


async def _messages(request: web.Request) -> web.Response:
    model, stream = await _asked(request)
    text = {"type": "text", "text": SAID}
    head = {"id": "msg_try", "type": "message", "role": "assistant", "model": model, "usage": _ANTHROPIC}
    if not stream:
        return web.json_response(
            {**head, "content": [text], "stop_reason": "end_turn", "stop_sequence": None}
        )
    return _events(
        {
            "type": "message_start",
            "message": {**head, "content": [], "stop_reason": None, "stop_sequence": None},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": SAID}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
        named=True,
    )


async def _ollama_chat(request: web.Request) -> web.Response:
    return _ollama(*await _asked(request), {"message": {"role": "assistant", "content": SAID}})


async def _ollama_generate(request: web.Request) -> web.Response:
    return _ollama(*await _asked(request), {"response": SAID})


def _ollama(model: str, stream: bool | None, said: dict[str, Any]) -> web.Response:
    """Answer as Ollama does, which streams unless it is told not to; one line is a stream too."""
    kind = "application/json" if stream is False else "application/x-ndjson"
    answer = {"model": model, "created_at": "1970-01-01T00:00:00Z", **said, **_OLLAMA}
    return web.Response(text=json.dumps(answer) + "\n", content_type=kind)
