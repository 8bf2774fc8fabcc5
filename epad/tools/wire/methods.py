"""The methods of MCP, in one table for both eras: each takes a request that was read, and returns its result.

What an era adds to a result, and which of its own methods it has, is in `modern.py` and `legacy.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from epad import __version__
from epad.tools.protocol import BAD_REPLY, ToolAnswer, Tools
from epad.tools.wire.asked import Asked, Result
from epad.tools.wire.listing import Listing
from epad.tools.wire.messages import (
    INVALID_PARAMS,
    KEY_META,
    META,
    METHOD_NOT_FOUND,
    PARENT_META,
    TURN_META,
    ProtocolError,
)
from epad.tools.wire.prompts import NoPrompts, PromptMethods, Prompts
from epad.tools.wire.questions import asking
from epad.tools.wire.resources import NoResources, ResourceMethods, Resources

SERVER: Mapping[str, str] = {"name": "epad", "title": "epad tools", "version": __version__}
# Resources and prompts are declared although their lists may be empty: many clients ask for them in any case.
CAPABILITIES: Mapping[str, object] = {
    "tools": {"listChanged": False},
    "resources": {"listChanged": False, "subscribe": False},
    "prompts": {"listChanged": False},
    "completions": {},
}
INSTRUCTIONS = (
    "Each call is gated, recorded and limited by epad. A refusal is an error with a hint: do what the hint says, "
    "or stop. In the list, tool_search (where it is there) finds the tools that are not shown."
)
UNKNOWN_TOOL = "unknown_tool"
# As for the header: they are kept in records, and shown to people.
_MOST_CHARACTERS = 255
PARENT_CHARACTERS = 64


class Methods:
    """Answers requests by their method."""

    def __init__(
        self,
        tools: Tools,
        listing: Listing,
        resources: Resources | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        self._tools = tools
        self._listing = listing
        self._table: Mapping[str, Callable[[Asked], Awaitable[Result]]] = {
            "tools/list": self._list,
            "tools/call": self._call,
            **ResourceMethods(resources or NoResources()).table(),
            **PromptMethods(prompts or NoPrompts()).table(),
        }

    async def answer(self, asked: Asked) -> Result:
        """Return the result of a request. Raises ProtocolError."""
        method = self._table.get(asked.method)
        if method is None:
            raise ProtocolError(METHOD_NOT_FOUND, f"no method {asked.method[:80]!r}")
        return await method(asked)

    def mirrored(self, asked: Asked) -> Mapping[str, str]:
        """Return the arguments of a called tool that are repeated in headers, with the headers' names."""
        every = self._listing.of(asked.caller).mirrored
        return every.get(str(asked.params.get("name")), {}) if every else {}

    async def call(self, asked: Asked, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        """Call a tool, or answer a tool of search mode. Raises ProtocolError for a key that cannot be one."""
        caller = asked.caller
        own = self._listing.own_answer(caller, name, arguments)
        if own is not None:
            return own
        meant = self._listing.meant(caller, name, arguments)
        if isinstance(meant, ToolAnswer):
            return meant
        name, arguments = meant
        key, parent = (
            asked.key or _mark(asked.meta, KEY_META, _MOST_CHARACTERS),
            _mark(asked.meta, PARENT_META, PARENT_CHARACTERS),
        )
        return await self._tools.call(
            caller, name, arguments, key=key, parent=parent or "", replies=asked.replies
        )

    async def _list(self, asked: Asked) -> Result:
        cursor = asked.params.get("cursor")
        if cursor is not None:
            raise ProtocolError(INVALID_PARAMS, "cursor: the list is one page, so no cursor was given")
        return {"tools": self._listing.of(asked.caller).tools}

    async def _call(self, asked: Asked) -> Result:
        name, arguments = asked.params.get("name"), asked.params.get("arguments")
        if not isinstance(name, str) or not name:
            raise ProtocolError(INVALID_PARAMS, "params.name: the name of a tool")
        if arguments is not None and not isinstance(arguments, dict):
            raise ProtocolError(INVALID_PARAMS, "params.arguments: an object")
        answer = await self.call(asked, name, arguments or {})
        if answer.is_error and answer.reason_code == UNKNOWN_TOOL:
            raise ProtocolError(INVALID_PARAMS, f"unknown tool: {name[:80]}")
        if answer.is_error and answer.reason_code == BAD_REPLY:
            raise ProtocolError(INVALID_PARAMS, str(answer.content.get("error", "")))
        if answer.questions:
            return asking(answer.questions, answer.state, asked.replies)
        return call_result(answer)


def call_result(answer: ToolAnswer) -> Result:
    """Return an answer as MCP has it: as text for models, and as a value for programs if it is no error."""
    text = msgspec.json.encode(answer.content).decode()
    blocks = answer.blocks or ({"type": "text", "text": text},)
    result: Result = {"content": blocks, "isError": answer.is_error}
    if not answer.is_error:
        result["structuredContent"] = answer.content
    if answer.turn:
        result[META] = {TURN_META: answer.turn}
    return result


def is_mark(text: str, most: int) -> bool:
    """Tell if a text can be a mark that a client gives to a call."""
    return 0 < len(text) <= most and text.isascii() and text.isprintable()


def _mark(meta: Mapping[str, Any], name: str, most: int) -> str | None:
    """Return a mark of a client's `_meta`. Raises ProtocolError."""
    mark = meta.get(name)
    if mark is None:
        return None
    if not isinstance(mark, str) or not is_mark(mark, most):
        raise ProtocolError(INVALID_PARAMS, f"_meta.{name}: 1 to {most} printable ASCII characters")
    return mark
