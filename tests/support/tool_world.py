"""Tools in memory, for tests of the wire: each does one simple thing, and every call is remembered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from epad.tools.protocol import NO_REPLIES, Caller, Definition, Replies, ToolAnswer

NOTHING: dict[str, object] = {"type": "object", "properties": {}, "additionalProperties": False}
TEXT: dict[str, object] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


def definition(
    name: str,
    description: str = "",
    *,
    category: str = "text",
    risk: str = "P",
    schema: dict[str, object] | None = None,
) -> Definition:
    """A tool's definition, with a hash of what is in it."""
    schema = schema or NOTHING
    digest = hashlib.sha256(f"{name}{description}{risk}{schema}".encode()).hexdigest()
    return Definition(name, category, description or f"The tool {name}.", risk, 5.0, schema, NOTHING, digest)


class MemoryTools:
    """Implements the tool door's protocol: `echo` answers its text, `hang` waits, `broken` raises, `bad` fails."""

    def __init__(self, extra: Sequence[Definition] = ()) -> None:
        own = (
            definition("bad", "Fail.", risk="R1"),
            definition("broken", "Raise a fault of epad's own."),
            definition("echo", "Answer the text.", schema=TEXT),
            definition("hang", "Wait until it is let go.", risk="W1"),
            definition("refused", "Be refused.", risk="W2"),
        )
        self.known = sorted((*own, *extra), key=lambda each: each.name)
        self.calls: list[tuple[str, str, dict[str, Any], str | None, str]] = []
        self.replies: list[Replies] = []
        self.hanging = asyncio.Event()
        self.let_go = asyncio.Event()
        self.cancelled = asyncio.Event()

    def caller(self, subsystem: str) -> Caller:
        return Caller(subsystem, f"session-of-{subsystem}", 2)

    def definitions(self, caller: Caller) -> Sequence[Definition]:
        del caller
        return self.known

    async def call(
        self,
        caller: Caller,
        name: str,
        arguments: Mapping[str, object],
        *,
        key: str | None,
        parent: str = "",
        replies: Replies = NO_REPLIES,
    ) -> ToolAnswer:
        self.replies.append(replies)
        self.calls.append((caller.subsystem, name, dict(arguments), key, parent))
        turn = f"turn-{len(self.calls)}"
        if all(name != each.name for each in self.known):
            return _error("", f"no tool {name}", "unknown_tool")
        if name == "broken":
            raise RuntimeError("planted")
        if name == "bad":
            return _error(turn, "it failed", "failed")
        if name == "refused":
            return _error(turn, "not allowed", "tier_too_low")
        if name == "hang":
            self.hanging.set()
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return ToolAnswer(turn, is_error=False, content=dict(arguments))


def _error(turn: str, error: str, code: str) -> ToolAnswer:
    return ToolAnswer(turn, is_error=True, content={"error": error, "hint": "a hint"}, reason_code=code)
