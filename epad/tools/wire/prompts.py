"""Prompts: texts with places to fill in, which a person at a client picks; and completions of what is filled in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from epad.tools.protocol import NO_REPLIES, Caller, Question, Replies
from epad.tools.wire.asked import Asked, Result
from epad.tools.wire.messages import INVALID_PARAMS, ProtocolError
from epad.tools.wire.questions import asking

_MOST_COMPLETIONS = 100


class Argument(Struct, frozen=True):
    """Describes one place of a prompt to fill in."""

    name: str
    description: str
    required: bool = True


class Prompt(Struct, frozen=True):
    """Describes one prompt."""

    name: str
    description: str
    arguments: tuple[Argument, ...] = ()


class Filled(Struct, frozen=True):
    """Holds a prompt with its places filled in, as MCP's messages; or questions in place of them."""

    messages: tuple[Mapping[str, object], ...]
    questions: Mapping[str, Question] = {}
    state: str = ""


class Prompts(Protocol):
    """Lists a caller's prompts, and fills them in."""

    def listed(self, caller: Caller) -> Sequence[Prompt]:
        """Return the caller's prompts, sorted."""
        ...

    async def get(
        self, caller: Caller, name: str, arguments: Mapping[str, str], replies: Replies = NO_REPLIES
    ) -> Filled | None:
        """Fill a prompt in; None if the caller has none of that name."""
        ...

    def completions(self, caller: Caller, name: str, argument: str, begun: str) -> Sequence[str]:
        """Return texts that an argument of a prompt may have, which begin as the person has begun."""
        ...


class NoPrompts:
    """For a door without prompts."""

    def listed(self, caller: Caller) -> Sequence[Prompt]:
        del caller
        return ()

    async def get(
        self, caller: Caller, name: str, arguments: Mapping[str, str], replies: Replies = NO_REPLIES
    ) -> Filled | None:
        del caller, name, arguments, replies
        return None

    def completions(self, caller: Caller, name: str, argument: str, begun: str) -> Sequence[str]:
        del caller, name, argument, begun
        return ()


class PromptMethods:
    """Answers MCP's methods about prompts."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts

    def table(self) -> Mapping[str, Callable[[Asked], Awaitable[Result]]]:
        """Return the methods by their names."""
        return {
            "prompts/list": self._list,
            "prompts/get": self._get,
            "completion/complete": self._complete,
        }

    async def _list(self, asked: Asked) -> Result:
        return {"prompts": [_described(one) for one in self._prompts.listed(asked.caller)]}

    async def _get(self, asked: Asked) -> Result:
        name, arguments = asked.params.get("name"), asked.params.get("arguments") or {}
        if not isinstance(arguments, dict) or not all(isinstance(one, str) for one in arguments.values()):
            raise ProtocolError(INVALID_PARAMS, "params.arguments: an object of texts")
        filled = await self._prompts.get(asked.caller, str(name), arguments, asked.replies)
        if filled is None:
            raise ProtocolError(INVALID_PARAMS, f"no prompt {str(name)[:80]!r}")
        if filled.questions:
            return asking(filled.questions, filled.state, asked.replies)
        return {"messages": filled.messages}

    async def _complete(self, asked: Asked) -> Result:
        reference, argument = asked.params.get("ref"), asked.params.get("argument")
        if not isinstance(reference, dict) or not isinstance(argument, dict):
            raise ProtocolError(INVALID_PARAMS, "params: `ref` and `argument`, each an object")
        found: Sequence[str] = ()
        if reference.get("type") == "ref/prompt":
            asks = (str(reference.get("name")), str(argument.get("name")), str(argument.get("value", "")))
            found = self._prompts.completions(asked.caller, *asks)
        values = list(found[:_MOST_COMPLETIONS])
        return {
            "completion": {"values": values, "total": len(found), "hasMore": len(values) < len(found)},
        }


def _described(prompt: Prompt) -> dict[str, Any]:
    arguments = [
        {"name": one.name, "description": one.description, "required": one.required}
        for one in prompt.arguments
    ]
    return {"name": prompt.name, "description": prompt.description, "arguments": arguments}
