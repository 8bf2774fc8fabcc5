"""Route the control socket: each operation of the registry with a path, and its handler."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

import epad
from epad.answers.decisions import LogLine
from epad.api import openapi
from epad.api.errors import MAX_BODY_BYTES, MAX_DOCUMENT_BYTES, ApiError
from epad.api.follow import LINES, Batches, Followers, json_lines
from epad.operations import bodies
from epad.operations.bodies import OrderBody
from epad.operations.protocol import Operations
from epad.operations.registry import MAX_REASON_CHARACTERS, Operation
from epad.supervisor.log_reader import MAX_LINES

MAX_EVENTS = 1_000
DEFAULT_EVENTS = 100
DEFAULT_LINES = 100
BODY_SECONDS = 10.0

_MAX_ID = 2**63 - 1

Answer = Mapping[str, Any] | web.StreamResponse
Handler = Callable[["Call"], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Call:
    """Holds one request that the gate has admitted."""

    request: web.Request
    operation: Operation
    operations: Operations
    followers: Followers
    by: str

    @property
    def name(self) -> str:
        """Return the name in the path; empty if there is none."""
        return self.request.match_info.get("name", "")

    async def body(self) -> OrderBody:
        """Return the body of an order. Raises ApiError."""
        kind: type[OrderBody] = getattr(bodies, self.operation.body)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                data = await self.request.read()
            limit = MAX_DOCUMENT_BYTES if issubclass(kind, bodies.DocumentOrder) else MAX_BODY_BYTES
            if len(data) > limit:
                raise web.HTTPRequestEntityTooLarge(limit, len(data))
            order = msgspec.json.decode(data, type=kind)
        except TimeoutError as error:
            raise ApiError(408, "timeout", "the body did not arrive", "send it at once") from error
        except msgspec.MsgspecError as error:
            raise _bad_order(str(error), kind) from error
        if not order.reason.strip():
            raise _bad_order("the reason is blank", kind)
        return order


async def _read(call: Call) -> Answer:
    """Call the operation's method with the parameters of its query."""
    name, query = call.operation.removesuffix("_read"), call.request.query
    asked = getattr(call.operations, name)(*(query.get(key) or None for key in call.operation.query))
    answer: Answer = await asked if inspect.isawaitable(asked) else asked
    return answer


async def _openapi(_: Call) -> Answer:
    return openapi.document(ROUTES, epad.__version__)


async def _events(call: Call) -> Answer:
    query = call.request.query
    limit = _whole(query, "limit", DEFAULT_EVENTS, 1, MAX_EVENTS)
    since = _whole(query, "since", -limit, -MAX_EVENTS, _MAX_ID)
    if _whole(query, "follow", 0, 0, 1):
        return await call.followers.follow(call.request, since, limit)
    return web.Response(body=json_lines(await call.operations.events(since, limit)), headers=LINES)


async def _logs(call: Call) -> Answer:
    query = call.request.query
    count = _whole(query, "lines", DEFAULT_LINES, 0, MAX_LINES)
    at = _whole(query, "after", -1, -1, _MAX_ID)
    # Before the backlog is read: what is printed in between is in both, rather than in neither.
    live = call.operations.follow_log(call.name) if _whole(query, "follow", 0, 0, 1) else None
    lines = await call.operations.log_lines(call.name, count, None if at < 0 else float(at))
    if live is None:
        return web.Response(body=json_lines(_as_objects(lines)), headers=LINES)
    return await call.followers.stream(call.request, _after(lines, live))


async def _trace(call: Call) -> Answer:
    query = call.request.query
    return await call.operations.trace(query.get("subject") or None, _whole(query, "page", 0, 0, _MAX_ID))


async def _undo_plan(call: Call) -> Answer:
    return await call.operations.undo_plan(call.name)


async def _tools_diff(call: Call) -> Answer:
    return call.operations.tools_diff(call.name)


async def _after(lines: list[str], live: AsyncGenerator[list[str], None]) -> Batches:
    yield _as_objects(lines)
    async with aclosing(live):
        async for batch in live:
            yield _as_objects(batch)


def _as_objects(lines: list[str]) -> list[LogLine]:
    return [{"line": line} for line in lines]


async def _order(call: Call) -> Answer:
    return await call.operations.order(call.operation, call.name, await call.body(), call.by)


HANDLERS: Mapping[Operation, Handler] = {
    Operation.EVENTS_READ: _events,
    Operation.LOGS_READ: _logs,
    Operation.TRACE_READ: _trace,
    Operation.UNDO_PLAN_READ: _undo_plan,
    Operation.TOOLS_DIFF_READ: _tools_diff,
    Operation.API_READ: _openapi,
}
"""Those of operations that need more than the daemon's method of their name."""

ROUTES = tuple(operation for operation in Operation if operation.path)


def handler_of(operation: Operation) -> Handler:
    """Return the handler of an operation's requests."""
    return HANDLERS.get(operation, _order if operation.is_order else _read)


def _bad_order(message: str, kind: type[OrderBody]) -> ApiError:
    others = "".join(f', "{name}": ...' for name in kind.__struct_fields__ if name != "reason")
    fix = f'send {{"reason": "..."{others}}}; the reason has 1 to {MAX_REASON_CHARACTERS} characters'
    return ApiError(400, "bad_request", message, fix)


def _whole(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return a whole number of the query. Raises ApiError."""
    text = query.get(name, str(default))
    try:
        value = int(text)
    except ValueError:
        value = high + 1
    if not low <= value <= high:
        fix = f"give a whole number from {low} to {high}"
        raise ApiError(400, "bad_request", f"{name} is {text[:40]!r}", fix)
    return value
