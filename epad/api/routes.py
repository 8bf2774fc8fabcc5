"""The route table: all that can be asked on the control socket, each under its operation of the gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web

import epad
from epad.api import openapi
from epad.api.errors import ApiError
from epad.api.follow import LINES, Batches, Followers, json_lines
from epad.gate.permissions import Operation
from epad.operations.protocol import Operations
from epad.supervisor.log_reader import MAX_LINES
from statemachine.phase import Phase

MAX_EVENTS = 1_000
DEFAULT_EVENTS = 100
DEFAULT_LINES = 100
BODY_SECONDS = 10.0

_MAX_ID = 2**63 - 1

Answer = dict[str, Any] | web.StreamResponse


@dataclass(frozen=True, slots=True)
class Call:
    """Holds one request that the gate has admitted."""

    request: web.Request
    operations: Operations
    followers: Followers
    by: str

    @property
    def name(self) -> str:
        """The subsystem or datastore named in the path."""
        return self.request.match_info["name"]

    async def reason(self) -> str:
        """The reason that every order must give. Raises ApiError."""
        return (await self.order(Order)).reason.strip()

    async def order(self, kind: type[_Kind]) -> _Kind:
        """The body of an order. Raises ApiError."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                order = msgspec.json.decode(await self.request.read(), type=kind)
        except TimeoutError as error:
            raise ApiError(408, "timeout", "the body did not arrive", "send it at once") from error
        except msgspec.MsgspecError as error:
            raise _bad_order(str(error), kind) from error
        if not order.reason.strip():
            raise _bad_order("the reason is blank", kind)
        return order


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """The body of every order."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=openapi.MAX_REASON_CHARACTERS)]


class PhaseOrder(Order, forbid_unknown_fields=True):
    """The body of an order to enter a phase."""

    phase: Phase


class BudgetOrder(Order, forbid_unknown_fields=True):
    """The body of an order to change limits; null leaves one to the configuration again."""

    limits: Annotated[dict[str, int | float | None], msgspec.Meta(min_length=1)]


_Kind = TypeVar("_Kind", bound=Order)


@dataclass(frozen=True, slots=True)
class Route:
    """Describes one request of the API; `answer` names the schema of its answer."""

    method: str
    path: str
    operation: Operation
    handler: Callable[[Call], Awaitable[Answer]]
    answer: str
    summary: str
    query: tuple[str, ...] = ()
    body: str = "Order"


async def _status(call: Call) -> Answer:
    return call.operations.status()


async def _phase(call: Call) -> Answer:
    return await call.operations.phase()


async def _explain(call: Call) -> Answer:
    return await call.operations.explain(call.request.query.get("subject") or None)


async def _recovery(call: Call) -> Answer:
    return await call.operations.recovery()


async def _openapi(_: Call) -> Answer:
    return openapi.document(ROUTES, epad.__version__)


async def _events(call: Call) -> Answer:
    query = call.request.query
    limit = _whole(query, "limit", DEFAULT_EVENTS, 1, MAX_EVENTS)
    since = _whole(query, "since", -limit, -MAX_EVENTS, _MAX_ID)
    if _whole(query, "follow", 0, 0, 1):
        return await call.followers.follow(call.request, since, limit)
    return web.Response(body=json_lines(await call.operations.events(since, limit)), headers=LINES)


async def _quarantine(call: Call) -> Answer:
    return await call.operations.quarantine(call.name, await call.reason(), call.by)


async def _release(call: Call) -> Answer:
    return await call.operations.release(call.name, await call.reason(), call.by)


async def _pause(call: Call) -> Answer:
    return await call.operations.pause(call.name, await call.reason(), call.by)


async def _resume(call: Call) -> Answer:
    return await call.operations.resume(call.name, await call.reason(), call.by)


async def _restart(call: Call) -> Answer:
    return await call.operations.restart(call.name, await call.reason(), call.by)


async def _stop(call: Call) -> Answer:
    return await call.operations.stop(call.name, await call.reason(), call.by)


async def _reload(call: Call) -> Answer:
    return await call.operations.reload(await call.reason(), call.by)


async def _upgrade(call: Call) -> Answer:
    return await call.operations.upgrade(await call.reason(), call.by)


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


async def _after(lines: list[str], live: AsyncGenerator[list[str], None]) -> Batches:
    yield _as_objects(lines)
    async with aclosing(live):
        async for batch in live:
            yield _as_objects(batch)


def _as_objects(lines: list[str]) -> list[dict[str, Any]]:
    return [{"line": line} for line in lines]


async def _rotate_key(call: Call) -> Answer:
    return await call.operations.rotate_key(call.name, await call.reason(), call.by)


async def _revoke_key(call: Call) -> Answer:
    return await call.operations.revoke_key(call.name, await call.reason(), call.by)


async def _force(call: Call) -> Answer:
    order = await call.order(PhaseOrder)
    return await call.operations.force(order.phase, order.reason.strip(), call.by)


async def _lifeboat(call: Call) -> Answer:
    return await call.operations.lifeboat(await call.reason(), call.by)


async def _relaunch(call: Call) -> Answer:
    return await call.operations.relaunch(await call.reason(), call.by)


async def _checkpoint(call: Call) -> Answer:
    return await call.operations.checkpoint(await call.reason(), call.by)


async def _accept_loss(call: Call) -> Answer:
    return await call.operations.accept_loss(await call.reason(), call.by)


async def _accept_datastore(call: Call) -> Answer:
    return await call.operations.accept_datastore(call.name, await call.reason(), call.by)


async def _budgets(call: Call) -> Answer:
    return {"budgets": call.operations.budgets()}


async def _set_budget(call: Call) -> Answer:
    order = await call.order(BudgetOrder)
    return await call.operations.set_budget(call.name, order.limits, order.reason.strip(), call.by)


_SUBSYSTEM = "/v1/subsystems/{name}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/status", Operation.STATUS_READ, _status, "Status", "Everything, as of now."),
    Route("GET", "/v1/phase", Operation.STATUS_READ, _phase, "Phase", "The phase and its history."),
    Route(
        "GET",
        "/v1/events",
        Operation.EVENTS_READ,
        _events,
        "EventLines",
        "What happened, one event a line.",
        ("since", "limit", "follow"),
    ),
    Route(
        "GET",
        "/v1/explain",
        Operation.EXPLAIN_READ,
        _explain,
        "Explanation",
        "Why it is as it is: finding, anomaly, rule, step, result.",
        ("subject",),
    ),
    Route(
        "GET",
        "/v1/recovery",
        Operation.EXPLAIN_READ,
        _recovery,
        "Recovery",
        "The plan of a recovery, its attempts, and the lost turns.",
    ),
    Route("GET", "/v1/budgets", Operation.STATUS_READ, _budgets, "Budgets", "Limits, spent, left."),
    Route(
        "POST",
        "/v1/budgets/{name}",
        Operation.SET_BUDGET,
        _set_budget,
        "Result",
        "Change limits of a subsystem, of group:NAME, or of all.",
        body="BudgetOrder",
    ),
    Route("GET", "/v1/openapi.json", Operation.STATUS_READ, _openapi, "Document", "This document."),
    Route(
        "POST", f"{_SUBSYSTEM}/quarantine", Operation.QUARANTINE, _quarantine, "Result", "Hold a subsystem."
    ),
    Route("POST", f"{_SUBSYSTEM}/release", Operation.RELEASE, _release, "Result", "Let a subsystem go."),
    Route("POST", f"{_SUBSYSTEM}/pause", Operation.PAUSE, _pause, "Result", "Let a subsystem rest."),
    Route("POST", f"{_SUBSYSTEM}/resume", Operation.RESUME, _resume, "Result", "End its rest."),
    Route("POST", f"{_SUBSYSTEM}/restart", Operation.RESTART, _restart, "Result", "Start it anew."),
    Route("POST", f"{_SUBSYSTEM}/stop", Operation.STOP, _stop, "Result", "Stop it until it is released."),
    Route("POST", "/v1/reload", Operation.RELOAD, _reload, "Result", "Read the configuration again."),
    Route(
        "POST", "/v1/upgrade", Operation.UPGRADE, _upgrade, "Result", "Begin again as what is installed now."
    ),
    Route(
        "GET",
        f"{_SUBSYSTEM}/logs",
        Operation.LOGS_READ,
        _logs,
        "LogLines",
        "What it has printed, one line an object.",
        ("lines", "after", "follow"),
    ),
    Route(
        "POST", f"{_SUBSYSTEM}/key/rotate", Operation.ROTATE_KEY, _rotate_key, "Result", "Give it a new key."
    ),
    Route(
        "POST", f"{_SUBSYSTEM}/key/revoke", Operation.REVOKE_KEY, _revoke_key, "Result", "Take its keys away."
    ),
    Route(
        "POST",
        "/v1/phase",
        Operation.FORCE_PHASE,
        _force,
        "Result",
        "Enter a phase without waiting.",
        body="PhaseOrder",
    ),
    Route(
        "POST", "/v1/lifeboat", Operation.LIFEBOAT, _lifeboat, "Result", "Save what is critical, stop all."
    ),
    Route("POST", "/v1/relaunch", Operation.RELAUNCH, _relaunch, "Result", "Leave the lifeboat."),
    Route("POST", "/v1/checkpoint", Operation.CHECKPOINT, _checkpoint, "Result", "Make a checkpoint now."),
    Route(
        "POST",
        "/v1/datastores/{name}/accept",
        Operation.ACCEPT_DATASTORE,
        _accept_datastore,
        "Result",
        "Take a datastore as it is for sound.",
    ),
    Route(
        "POST",
        "/v1/ledger/accept-loss",
        Operation.ACCEPT_LOSS,
        _accept_loss,
        "Result",
        "Give up records that are gone, and count every budget as spent.",
    ),
)


def _bad_order(message: str, kind: type[Order]) -> ApiError:
    others = "".join(f', "{name}": ...' for name in kind.__struct_fields__ if name != "reason")
    fix = f'send {{"reason": "..."{others}}}; the reason has 1 to {openapi.MAX_REASON_CHARACTERS} characters'
    return ApiError(400, "bad_request", message, fix)


def _whole(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query. Raises ApiError."""
    text = query.get(name, str(default))
    try:
        value = int(text)
    except ValueError:
        value = high + 1
    if not low <= value <= high:
        fix = f"give a whole number from {low} to {high}"
        raise ApiError(400, "bad_request", f"{name} is {text[:40]!r}", fix)
    return value
