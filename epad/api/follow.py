"""Events and log lines as they happen, as streams of JSON lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import structlog
from aiohttp import web

from epad.answers.decisions import Event, LogLine
from epad.api.errors import ApiError
from epad.operations.protocol import Operations

# Each follower is a queue that the daemon fills; a status page and a few terminals are what to expect.
MAX_FOLLOWERS = 32
# An empty line this often finds a follower that has gone, since nothing else may be written for hours.
HEARTBEAT_SECONDS = 15.0

Batches = AsyncGenerator[Sequence[Event | LogLine], None]

LINES = {"Content-Type": "application/x-ndjson"}


class Followers:
    """The streams that are open."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._tasks: set[asyncio.Task[Any]] = set()
        self._log = structlog.get_logger("epad.control")

    async def follow(self, request: web.Request, since: int, limit: int) -> web.StreamResponse:
        """Answer with every event after `since` until either side ends it. Raises ApiError."""
        return await self.stream(request, self._live(since, limit))

    async def stream(self, request: web.Request, batches: Batches) -> web.StreamResponse:
        """Answer with batches as they come, an empty one as a heartbeat. Raises ApiError."""
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= MAX_FOLLOWERS:
            message = f"{MAX_FOLLOWERS} followers are listening already"
            raise ApiError(503, "too_many_followers", message, "close one, or ask without follow=1")
        response = web.StreamResponse(headers=LINES)
        self._tasks.add(task)
        try:
            await response.prepare(request)
            async with aclosing(batches):
                async for batch in batches:
                    await response.write(json_lines(batch) or b"\n")
        except (asyncio.CancelledError, ConnectionError):
            pass  # the daemon stops, or the follower has hung up: either way the stream ends here
        except Exception:
            # The answer has begun, so it can no longer become an error; it can only end.
            self._log.exception("control.follow_failed")
        finally:
            self._tasks.discard(task)
        return response

    def stop(self) -> None:
        """End every stream."""
        for task in tuple(self._tasks):
            task.cancel()

    async def _live(self, since: int, limit: int) -> Batches:
        """Yield every event after `since`, without a gap; an empty list is a heartbeat."""
        last = since
        while True:
            async with self._operations.subscribe() as queue:
                # Listening first and reading then: what happens in between is in both, and is sent once.
                while backlog := await self._operations.events(last, limit):
                    last = backlog[-1]["id"]
                    yield backlog
                last = max(last, 0)
                while not _has_been_full(queue):
                    event = await _next(queue)
                    if event is None:
                        yield []
                    elif event["id"] > last and not _has_been_full(queue):
                        last = event["id"]
                        yield [event]


def _has_been_full(queue: asyncio.Queue[Event]) -> bool:
    """Tell if events may be missing, so that they must be read from the store as at the start.

    Nothing is added to a queue that overflowed, so one item after it was full it still shows.
    """
    return queue.maxsize > 1 and queue.qsize() >= queue.maxsize - 1


async def _next(queue: asyncio.Queue[Event]) -> Event | None:
    # Not wait_for(), which may lose the item it was about to return when its time is up.
    try:
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            return await queue.get()
    except TimeoutError:
        return None


def json_lines(items: Iterable[Event | LogLine]) -> bytes:
    """Encode one line of JSON for each item."""
    return "".join(json.dumps(item) + "\n" for item in items).encode()
