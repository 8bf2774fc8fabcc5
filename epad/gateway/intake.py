"""Read a request's body without holding up others: on the event loop if it is quick, else in a thread.

One thread is enough, and two would be worse: a reader holds the interpreter for up to 40 ms at a time (one pass of a
decoder over 32 MiB), and between two passes the loop should be the next, not another reader. `dialects/shape.py`
ensures that no pass takes longer.
"""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from epad.gateway.dialects.dialect import Ask, Endpoint
from epad.gateway.dialects.shape import is_quick
from epad.gateway.http.request import Request


class Reading(Struct, frozen=True):
    """Holds a request as it was read, and its body's SHA-256."""

    ask: Ask
    body_sha256: bytes


class Intake:
    """Reads the bodies of all requests, a large one at a time."""

    def __init__(self) -> None:
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="intake")

    async def read(self, endpoint: Endpoint, request: Request) -> Reading:
        """Read a request. Raises RequestError."""
        if may_be_read_now(request):
            return read_now(endpoint, request)
        return await asyncio.get_running_loop().run_in_executor(self._reader, read_now, endpoint, request)

    def stop(self) -> None:
        """Read no more."""
        self._reader.shutdown(wait=False, cancel_futures=True)


def may_be_read_now(request: Request) -> bool:
    """Say whether reading a request holds nobody up."""
    return request.is_small and is_quick(request.body)


def read_now(endpoint: Endpoint, request: Request) -> Reading:
    """Read a request, however long that takes. Raises RequestError."""
    body = request.body
    return Reading(endpoint.parse(body), hashlib.sha256(body).digest())
