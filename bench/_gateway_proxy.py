"""The bare peer: an aiohttp server that passes requests on by an aiohttp client, and does nothing else.

`python _gateway_proxy.py PORT UPSTREAM_PORT`. What a Python gateway costs before it has done anything.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from aiohttp import web

_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection"})


class Proxy:
    """Passes on."""

    def __init__(self, upstream_port: int) -> None:
        self._base = f"http://127.0.0.1:{upstream_port}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS}
        async with self._session.request(
            request.method, self._base + request.path, data=body, headers=headers
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OURS}
            if answer.content_type != "text/event-stream":
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response


async def serve(port: int, upstream_port: int) -> None:
    """Serve for ever."""
    proxy = Proxy(upstream_port)
    runner = web.ServerRunner(web.Server(proxy.handle, handler_cancellation=True, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
