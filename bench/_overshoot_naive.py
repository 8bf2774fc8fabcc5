"""What most gateways do: look whether the budget is spent, forward, and count afterwards what the answer says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web


class NaiveProxy:
    """Checks what was spent before a request, adds its usage after it."""

    def __init__(self, upstream: str, limit: int) -> None:
        self._upstream = upstream
        self._limit = limit
        self._http: aiohttp.ClientSession | None = None
        self.spent = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Forward one request."""
        body = await request.read()
        if self.spent >= self._limit:
            return web.json_response({"error": {"message": "budget spent"}}, status=429)
        assert self._http is not None
        async with self._http.post(self._upstream + request.path, data=body) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            whole = b""
            async for data in answer.content.iter_any():
                whole += data
                await response.write(data)
            self._count(whole)
            return response

    def _count(self, whole: bytes) -> None:
        """Add the last usage that is in an answer; whoever hung up before it pays nothing."""
        for line in reversed(whole.removeprefix(b"data: ").split(b"\ndata: ")):
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            usage = answer.get("usage") or {}
            self.spent += usage.get("total_tokens") or 0
            self.spent += (answer.get("prompt_eval_count") or 0) + (answer.get("eval_count") or 0)
            return

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Listen on a free port of the loopback."""
        runner = web.ServerRunner(
            web.Server(self.handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4_096).start()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self._http:
            try:
                yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                await asyncio.sleep(0)
                await runner.cleanup()
