"""POST /mcp: one message a request, of either era; the answer is JSON, or a stream of events if it takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from epad.gateway import headers
from epad.gateway.errors import RequestError
from epad.gateway.http.message import Field, Fields, Response, json_response
from epad.gateway.http.request import Channel, Request
from epad.tools.protocol import Replies, Tools
from epad.tools.wire import legacy, modern
from epad.tools.wire.asked import Asked, Result
from epad.tools.wire.messages import (
    CAPABILITIES_META,
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RESOURCE_NOT_FOUND,
    VERSION_META,
    Id,
    Message,
    ProtocolError,
    failure,
    read,
    result,
)
from epad.tools.wire.methods import Methods
from epad.tools.wire.questions import Asking, capabilities_of, read_replies
from epad.tools.wire.slow_answer import Outbox, Pauses, stream, until_heard

# `epad mcp` passes messages from stdio on as they are, so it repeats nothing of them in headers.
RELAY_HEADER = "Epad-Relay"
_ACCEPTED = Response(202, b"")
_EVENTS = "text/event-stream"
_ANY_JSON = ("application/json", "application/*", "*/*")


class Posted(Protocol):
    """A message as it was posted; a slow answer is written to its connection."""

    @property
    def body(self) -> bytes: ...

    @property
    def fields(self) -> Fields: ...

    @property
    def connection(self) -> Channel: ...


class Mcp:
    """Answers messages, and knows the calls in flight."""

    def __init__(self, tools: Tools, methods: Methods, log: FilteringBoundLogger, pauses: Pauses) -> None:
        self._pauses = pauses
        self._tools = tools
        self._methods = methods
        self._log = log
        self._running = legacy.Running()
        self._asking = Asking()

    def end_session(self, request: Request, subsystem: str) -> Response:
        """Answer a client that is done: its calls in flight are cancelled."""
        self._running.end(subsystem, request.fields.get(legacy.SESSION_HEADER) or "")
        return Response(204, b"")

    async def answer(self, request: Posted, subsystem: str) -> Response | None:
        """Answer one message; None if the answer was written as a stream."""
        is_modern = speaks_modern(request.fields.get(modern.VERSION_HEADER), None)
        try:
            message = read(request.body)
            is_modern = speaks_modern(request.fields.get(modern.VERSION_HEADER), message)
            if message.id is UNSET or message.method is UNSET:
                return self._take_note(message, request, subsystem, is_modern=is_modern)
            return await self._request(message, message.id, request, subsystem, is_modern=is_modern)
        except ProtocolError as error:
            return _failed(error, is_modern=is_modern)

    def _take_note(self, message: Message, request: Posted, subsystem: str, *, is_modern: bool) -> Response:
        """Take a message that nobody answers. Raises ProtocolError."""
        if message.method is UNSET:
            if is_modern or message.id is UNSET:
                raise ProtocolError(INVALID_REQUEST, "a message has a method")
            session = request.fields.get(legacy.SESSION_HEADER) or ""
            self._asking.replied(subsystem, session, message)
            return _ACCEPTED
        version = request.fields.get(modern.VERSION_HEADER)
        if is_modern and version is not None:
            modern.check_version(version)
        if message.method == legacy.CANCELLED:
            session = request.fields.get(legacy.SESSION_HEADER) or ""
            self._running.cancel(subsystem, session, message)
        return _ACCEPTED

    async def _request(
        self, message: Message, message_id: Id, request: Posted, subsystem: str, *, is_modern: bool
    ) -> Response | None:
        """Answer a request. Raises ProtocolError, with its id."""
        try:
            relayed = _is_relayed(request.fields)
            if is_modern:
                modern.check(message, None if relayed else request.fields)
            else:
                modern.check_repeated(message, request.fields)
            fields: list[Field] = []
            own = self._own_method(message, is_modern=is_modern)
            if own is not None:
                if message.method == legacy.INITIALIZE:
                    fields = [(legacy.SESSION_HEADER.encode(), legacy.new_session(message).encode())]
                return json_response(200, result(message_id, own), fields)
            asked = self._asked(message, request, subsystem, is_modern=is_modern)
            if message.method != "tools/call":
                value = _finished(asked, await self._methods.answer(asked), is_modern=is_modern)
                return json_response(200, result(message_id, value))
            if is_modern and not relayed and (mirrored := self._methods.mirrored(asked)):
                modern.check_arguments(mirrored, asked.params.get("arguments"), request.fields)
        except ProtocolError as error:
            error.id = message_id
            if is_modern and error.code == RESOURCE_NOT_FOUND:
                error.code = INVALID_PARAMS
            raise
        return await self._call(asked, message_id, request, is_modern=is_modern)

    def _own_method(self, message: Message, *, is_modern: bool) -> Result | None:
        """Answer the methods that one era has alone; None for the others. Raises ProtocolError."""
        method = message.method
        if is_modern:
            if method in legacy.ONLY:
                raise ProtocolError(METHOD_NOT_FOUND, f"no method {method}")
            return modern.complete(modern.DISCOVER, modern.discover()) if method == modern.DISCOVER else None
        if method == legacy.INITIALIZE:
            return legacy.initialize(message)
        return {} if method == legacy.PING else None

    def _asked(self, message: Message, request: Posted, subsystem: str, *, is_modern: bool) -> Asked:
        try:
            key = headers.idempotency_key(request.fields)
        except RequestError as error:
            raise ProtocolError(INVALID_PARAMS, str(error)) from error
        params = message.params if isinstance(message.params, dict) else {}
        if is_modern:
            replies = read_replies(params, capabilities_of(message.meta.get(CAPABILITIES_META)))
        else:
            replies = Replies(may_ask=_may_ask(message, request.fields))
        return Asked(str(message.method), params, message.meta, self._tools.caller(subsystem), key, replies)

    async def _call(
        self, asked: Asked, message_id: Id, request: Posted, *, is_modern: bool
    ) -> Response | None:
        """Call a tool; a client that hangs up, or says so, cancels the call."""
        began = asyncio.get_running_loop().time()
        session = request.fields.get(legacy.SESSION_HEADER) or ""
        outbox = Outbox()
        if not is_modern and asked.replies.may_ask:
            answering = self._settle(asked, session, outbox)
        else:
            answering = self._methods.answer(asked)
        task: asyncio.Task[Result] = asyncio.create_task(answering, name="tool call")
        self._running.add(asked.caller.subsystem, session, message_id, task)

        def told() -> bytes:
            return self._told(asked, message_id, task, is_modern=is_modern)

        try:
            patience = self._pauses.for_client(asked.meta.get("progressToken"))
            takes_events = _EVENTS in (request.fields.get("accept") or "")
            await until_heard(task, outbox, patience.seconds if takes_events else None)
            if not task.done():
                await stream(request.connection, task, outbox, patience, began, told)
                return None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            return _ACCEPTED  # cancelled by a message of its client, who waits for no answer
        error = task.exception()
        if isinstance(error, ProtocolError):
            error.id = message_id
            return _failed(error, is_modern=is_modern)
        return json_response(200, told())

    async def _settle(self, asked: Asked, session: str, outbox: Outbox) -> Result:
        """Answer a request, and put its questions to the client on the stream of the request."""
        subsystem = asked.caller.subsystem

        def answer(replies: Replies) -> Awaitable[Result]:
            return self._methods.answer(replace(asked, replies=replies))

        return await self._asking.settle(answer, asked.replies, (subsystem, session), outbox.put)

    def _told(self, asked: Asked, message_id: Id, task: asyncio.Task[Result], *, is_modern: bool) -> bytes:
        """Return the answer of a call that has ended; empty if it was cancelled."""
        if task.cancelled():
            return b""
        error = task.exception()
        if isinstance(error, ProtocolError):
            error.id = message_id
            return failure(error)
        if error is not None:
            name = asked.params.get("name")
            subsystem = asked.caller.subsystem
            self._log.error(
                "tools.internal_error", subsystem=subsystem, tool=name, error=str(error), exc_info=error
            )
            said = "the call failed within epad; its log has the trace"
            return failure(ProtocolError(INTERNAL_ERROR, said, id=message_id))
        return result(message_id, _finished(asked, task.result(), is_modern=is_modern))


def speaks_modern(version: str | None, message: Message | None) -> bool:
    """Tell the era of a request: by its header, else by the version inside it. An unknown version is a newer one."""
    if version is not None:
        return version not in LEGACY
    return message is not None and message.meta.get(VERSION_META) is not None


def refusal_of_head(fields: Fields) -> Response | None:
    """Refuse a request that could not be answered as its client wants; None if it can."""
    accept = (fields.get("accept") or "*/*").lower()
    if not any(kind in accept for kind in _ANY_JSON):
        said = "Accept: application/json and text/event-stream are given here"
        return json_response(406, failure(ProtocolError(INVALID_REQUEST, said)))
    kind = (fields.get("content-type") or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        said = f"Content-Type: application/json is taken here, not {kind[:80]!r}"
        return json_response(415, failure(ProtocolError(INVALID_REQUEST, said)))
    return None


def _may_ask(message: Message, fields: Fields) -> frozenset[str]:
    """Return what a client of the era of sessions can be asked during a request: nothing without its stream."""
    if message.method != "tools/call" or _EVENTS not in (fields.get("accept") or ""):
        return frozenset()
    return legacy.may_ask(fields.get(legacy.SESSION_HEADER) or "")


def _is_relayed(fields: Fields) -> bool:
    """Tell if a message comes from stdio: whoever has a proxy's headers is held to them all the same."""
    routing = (modern.VERSION_HEADER, modern.METHOD_HEADER, modern.NAME_HEADER)
    return RELAY_HEADER in fields and not any(name in fields for name in routing)


def _finished(asked: Asked, value: Result, *, is_modern: bool) -> Result:
    return modern.complete(asked.method, value) if is_modern else value


def _failed(error: ProtocolError, *, is_modern: bool) -> Response:
    """Return an error as an answer; until 2025-11-25, one to a message that was read has the status 200."""
    if is_modern:
        return json_response(modern.status_of(error.code), failure(error))
    unreadable = error.code in {PARSE_ERROR, INVALID_REQUEST, HEADER_MISMATCH}
    return json_response(400 if unreadable else 200, failure(error))
