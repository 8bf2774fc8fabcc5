"""The scripted model server of bench/containment.py: it does with each request what the workload says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from _containment_watch import Watch
from aiohttp import web

SCRIPT = "X-Script"
SLICE_TOKENS = 24
"""A streamed answer comes in parts of so many tokens, spread evenly over its time."""

_TOKEN = re.compile(r"\s?\w{1,8}|\s?[^\w\s]|\s")


@dataclass(frozen=True)
class Reply:
    """What the model server does with a request. An answer `endless` goes on until somebody hangs up."""

    text: str = "Yes."
    seconds: float = 1.0
    status: int = 200
    retry_after: float = 0.0
    tool: str = ""
    output_tokens: int = 0
    input_tokens: int = 0
    endless: bool = False


class ModelServer:
    """A model server that does as it is scripted."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.status = 0
        self.retry_after = 0.0
        self.asked = 0
        self.ended: set[str] = set()
        self.watch: Watch | None = None
        self._port = 0
        self._site: web.TCPSite | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.up()

    async def up(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await self._site.start()
        self._port = self._runner.addresses[-1][1]

    async def down(self) -> None:
        """Be gone: nothing listens, and what was being answered breaks off."""
        if self._site is not None:
            site, self._site = self._site, None
            await site.stop()
            await self._server.shutdown(0.05)

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.status:
            await request.read()
            headers = {"Retry-After": str(int(self.retry_after))} if self.retry_after else {}
            error = {"error": {"message": "no", "type": "x", "code": str(self.status)}}
            return web.json_response(error, status=self.status, headers=headers)
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})
        body = json.loads(await request.read())
        self.asked += 1
        reply = self.replies.get(request.headers.get(SCRIPT, ""), Reply())
        if reply.status != 200:
            headers = {"Retry-After": str(int(reply.retry_after))} if reply.retry_after else {}
            await asyncio.sleep(reply.seconds)
            return web.json_response({"error": {"message": "no"}}, status=reply.status, headers=headers)
        if body.get("stream"):
            return await self._stream(request, body, reply)
        await asyncio.sleep(reply.seconds)
        return web.json_response(_whole(request.path, body, reply))

    async def _stream(
        self, request: web.BaseRequest, body: Mapping[str, Any], reply: Reply
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        base = {"id": "c", "created": 1, "model": body["model"], "object": "chat.completion.chunk"}
        cap, made = body.get("max_tokens") or body.get("max_completion_tokens") or 4_096, 0
        pieces = _TOKEN.findall(reply.text)
        pause = reply.seconds * SLICE_TOKENS / max(len(pieces), SLICE_TOKENS)
        while True:
            for start in range(0, len(pieces), SLICE_TOKENS):
                part = pieces[start : start + SLICE_TOKENS][: cap - made]
                if not part:
                    break
                made += len(part)
                events = [{**base, "choices": [{"index": 0, "delta": {"content": p}}]} for p in part]
                await asyncio.sleep(pause)
                if self.watch is not None:
                    self.watch.made(len(part))
                await response.write(b"".join(b"data: %b\n\n" % json.dumps(e).encode() for e in events))
            if not reply.endless or made >= cap:
                break
        last = {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {**base, "choices": [], "usage": _usage(body, reply, made)}
        for event in (last, usage):
            await response.write(b"data: %b\n\n" % json.dumps(event).encode())
        await response.write(b"data: [DONE]\n\n")
        self.ended.add(request.headers.get(SCRIPT, ""))
        return response

    @property
    def is_up(self) -> bool:
        return self._site is not None and not self.status


def _usage(body: Mapping[str, Any], reply: Reply, made: int = 0) -> dict[str, int]:
    asked = reply.input_tokens or max(
        1, len(json.dumps(body.get("messages") or body.get("prompt") or body)) // 4
    )
    given = reply.output_tokens or made or max(1, len(reply.text) // 4) * int(body.get("n") or 1)
    return {"prompt_tokens": asked, "completion_tokens": given, "total_tokens": asked + given}


def _whole(path: str, body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    usage = _usage(body, reply)
    if path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
        usage = {"prompt_tokens": usage["prompt_tokens"], "total_tokens": usage["prompt_tokens"]}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}
    if path.endswith("/chat/completions"):
        message: dict[str, Any] = {"role": "assistant", "content": reply.text}
        if reply.tool:
            call = {"id": "t", "type": "function", "function": {"name": "tool", "arguments": reply.tool}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"message": message, "finish_reason": "tool_calls" if reply.tool else "stop"}
        kind = "chat.completion"
    else:
        choice, kind = {"text": reply.text, "finish_reason": "stop"}, "text_completion"
    choices = [{"index": index, **choice} for index in range(int(body.get("n") or 1))]
    return {
        "id": "c",
        "created": 1,
        "model": body["model"],
        "object": kind,
        "choices": choices,
        "usage": usage,
    }
